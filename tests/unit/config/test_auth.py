"""The auth file: which account and which settings belong to a repository."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncer.accounts.book import AuthBook, AuthEntry, EntryCredentials
from syncer.accounts.settings import DIRECT, HostSettings, Proxy, Secret
from syncer.config import Config
from syncer.diagnostics import ConfigError, Place, shown
from syncer.oci.reference import Repository
from tests.support.generated import examples


def user(book: AuthBook, repository: str) -> str | None:
    account = book.account_for(Repository.parse(repository))
    return account.username if account else None


def settings(book: AuthBook, repository: str = "a.io/x") -> HostSettings:
    return book.settings_for(Repository.parse(repository))


NEEDED = {"a.io/x/y": "h.io/z"}
"""Rules that need the entry `a.io`."""


def warnings(config: Config) -> list[str]:
    return [warning.message for warning in config.warnings]


def accounts(*keys: str) -> dict[str, object]:
    """An auth file whose usernames are its keys."""
    return {key: {"username": key, "password": "p"} for key in keys}


def test_the_longest_key_that_is_a_prefix_gives_the_credentials(folder):
    book = folder.load(auth=accounts("quay.io", "quay.io/coreos", "quay.io/coreos/etcd/")).auth
    assert user(book, "quay.io/a/b") == "quay.io"
    assert user(book, "quay.io/coreos/etcd") == "quay.io/coreos/etcd/"
    assert user(book, "quay.io/coreos/etcd/sub") == "quay.io/coreos/etcd/"
    assert user(book, "quay.io/coreos/etcd2") == "quay.io/coreos"
    assert user(book, "quay.io/coreos2/x") == "quay.io"
    assert user(book, "quay.io:443/coreos/x") is None
    assert user(book, "sub.quay.io/coreos/x") is None


segments = st.sampled_from(["a", "b", "ab"])
scopes = st.lists(segments, max_size=4).map(lambda parts: "/".join(["h.io", *parts]))


@examples(100)
@given(st.sets(scopes, max_size=8), st.lists(segments, min_size=1, max_size=5))
def test_the_longest_matching_key_always_wins(keys, path):
    book = AuthBook(
        AuthEntry(key, key, Place(), EntryCredentials(username=key), (("bandwidth", len(key)),))
        for key in keys
    )
    name = "/".join(["h.io", *path])
    matching = [key for key in keys if f"{name}/".startswith(f"{key}/")]
    expected = max(matching, key=len, default=None)
    repository = Repository("h.io", "/".join(path))
    account = book.account_for(repository)
    assert (account and account.name) == expected
    assert book.settings_for(repository).bandwidth == len(expected or "")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.just("5MiB"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
KEYS = [*HostSettings.__struct_fields__, "username", "password", "password_file", "token"]
entries = st.dictionaries(st.sampled_from(KEYS) | st.text(max_size=5), json_values, max_size=5)


@examples(100)
@given(
    st.dictionaries(
        st.sampled_from(["a.io", "h.io:5000/x", "docker.io"]) | st.text(max_size=12),
        entries | json_values,
        max_size=4,
    )
    | json_values
)
def test_any_json_is_an_auth_file_or_a_problem(folder, content):
    with suppress(ConfigError):
        folder.load(auth=content, images=NEEDED)


@pytest.mark.parametrize(
    "key", ["docker.io", "index.docker.io", "registry-1.docker.io", "registry.hub.docker.com", "Docker.IO/"]
)
def test_docker_hub_is_known_by_all_its_names(folder, key):
    book = folder.load(auth=accounts(key)).auth
    assert user(book, "nginx") == key
    assert user(book, "registry.hub.docker.com/bitnami/redis") == key
    assert book.hosts() == ("docker.io",)


def test_two_keys_that_mean_one_registry_are_a_problem_if_they_differ_and_a_rule_needs_them(folder):
    differing = accounts("docker.io", "index.docker.io")
    problem = folder.problem(auth=differing, images={"nginx": "a.io/nginx"})
    assert (
        problem
        == "auth.json:6: auth.\"index.docker.io\": means the same registry as the key 'docker.io' in line 2"
    )
    (warning,) = warnings(folder.load(auth=differing, images=NEEDED))
    assert warning.endswith("in line 2; ignored, since no rule needs it")
    same = {"username": "u", "password": "p", "insecure": True}
    assert user(folder.load(auth={"docker.io": same, "registry.hub.docker.com/": same}).auth, "nginx") == "u"


def test_each_setting_comes_from_the_longest_key_that_sets_it(folder):
    book = folder.load(
        auth={
            "a.io": {"insecure": True, "max_connections": 4, "bandwidth": "20MiB"},
            "a.io/x": {"max_connections": 8},
            "a.io/x/y": {"username": "u", "password": "p", "insecure": False},
        }
    ).auth
    assert settings(book, "a.io/other") == HostSettings(insecure=True, max_connections=4, bandwidth=20 << 20)
    assert settings(book, "a.io/x/z") == HostSettings(insecure=True, max_connections=8, bandwidth=20 << 20)
    assert settings(book, "a.io/x/y/z") == HostSettings(insecure=False, max_connections=8, bandwidth=20 << 20)
    assert settings(book, "b.io/x") == HostSettings()


def test_equal_settings_are_one_object(folder):
    book = folder.load(auth={"a.io": {"insecure": True}, "a.io/x": {}, "a.io/y": {"insecure": True}}).auth
    assert settings(book, "a.io/x/1") is settings(book, "a.io/y/2") is settings(book, "a.io/z")


def test_an_entry_without_credentials_makes_access_anonymous_and_says_so(folder):
    config = folder.load(auth={**accounts("a.io"), "a.io/big": {"bandwidth": 1000}})
    assert user(config.auth, "a.io/big/x") is None
    assert [warning.message for warning in config.warnings] == [
        "has no credentials, so access is anonymous here: those of 'a.io' are not used"
    ]
    on_purpose = {**accounts("a.io"), "a.io/public": {"username": "", "password": ""}}
    assert folder.load(auth=on_purpose).warnings == ()


def test_all_settings_are_read(folder):
    for name in ("ca.pem", "cert.pem", "key.pem"):
        folder.write(name, "x")
    entry = {
        "insecure": True,
        "plain_http": False,
        "ca_file": "ca.pem",
        "cert_file": str(folder.path / "cert.pem"),
        "key_file": "./key.pem",
        "mirrors": ["Mirror.io", "localhost:5000", "registry.hub.docker.com"],
        "max_connections": 3,
        "requests_per_second": 2.5,
        "bandwidth": "1.5MB",
        "create": True,
        "proxy": "socks5://user:pass@proxy.io",
        "read_timeout": "5m",
    }
    config = folder.load(auth={"a.io": entry})
    assert config.warnings == ()
    assert settings(config.auth) == HostSettings(
        insecure=True,
        ca_file=f"{folder.path}/ca.pem",
        cert_file=f"{folder.path}/cert.pem",
        key_file=f"{folder.path}/key.pem",
        mirrors=("mirror.io", "localhost:5000", "docker.io"),
        max_connections=3,
        requests_per_second=2.5,
        bandwidth=1_500_000,
        create=True,
        proxy=Proxy("socks5", "proxy.io", 1080, "user", Secret("pass")),
        read_timeout=300.0,
    )
    assert "pass" in config.auth.secrets()


@pytest.mark.parametrize(
    ("written", "seconds"), [("5m", 300), ("90s", 90), ("1h30m", 5400), ("2.5", 2.5), (120, 120)]
)
def test_read_timeout_is_a_duration(folder, written, seconds):
    assert settings(folder.load(auth={"a.io": {"read_timeout": written}}).auth).read_timeout == seconds


@pytest.mark.parametrize(("written", "proxy"), [("none", DIRECT), ("p.io:3128", Proxy("http", "p.io", 3128))])
def test_a_proxy_is_none_or_a_url(folder, written, proxy):
    assert settings(folder.load(auth={"a.io": {"proxy": written}}).auth).proxy == proxy


@pytest.mark.parametrize(
    "written", ["http://u:hunter2/x@p.io", "http://u:hunter2#@p.io", "ftp://u:hunter2@p"]
)
def test_a_proxy_that_cannot_be_used_is_a_problem_without_its_text(folder, written):
    problem = folder.problem(auth={"a.io": {"proxy": written}}, images={"a.io/x": "b.io/x"})
    assert 'auth."a.io".proxy: expected the URL of a proxy' in problem
    assert "hunter2" not in problem


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("20MiB", 20 << 20),
        ("500KB", 500_000),
        ("10M", 10_000_000),
        ("10Mi", 10 << 20),
        ("1 GiB/s", 1 << 30),
        ("64k", 64_000),
        ("1000", 1000),
        (1000, 1000),
        (0, 0),
    ],
)
def test_bandwidth_is_bytes_per_second_with_the_usual_units(folder, written, expected):
    assert settings(folder.load(auth={"a.io": {"bandwidth": written}}).auth).bandwidth == expected


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("insecure", "true", "expected true or false, found text (write it without quotes)"),
        ("insecure", 1, "expected true or false, found a number"),
        ("plain_http", [True], "expected true or false, found a list"),
        ("bandwidth", "fast", 'expected bytes per second, as "20MiB", "500KB" or 1000000, found \'fast\''),
        ("bandwidth", "-5", 'expected bytes per second, as "20MiB", "500KB" or 1000000, found \'-5\''),
        ("bandwidth", "5iB", 'expected bytes per second, as "20MiB", "500KB" or 1000000, found \'5iB\''),
        ("max_connections", "3", "expected a whole number, 0 for no limit, found text"),
        ("max_connections", -1, "expected a whole number, 0 for no limit, found another number"),
        ("max_connections", 2.5, "expected a whole number, 0 for no limit, found another number"),
        (
            "requests_per_second",
            -1,
            "expected a number of requests per second, 0 for no limit, found a negative one",
        ),
        (
            "requests_per_second",
            1e300,
            "expected a number of requests per second, 0 for no limit, found a number",
        ),
        (
            "read_timeout",
            "soon",
            'expected a duration such as "90s", "5m" or "1h30m", found \'soon\'',
        ),
        (
            "read_timeout",
            True,
            'expected a duration such as "90s", "5m" or "1h30m", found true or false (put it in quotes)',
        ),
        ("proxy", 3128, "expected the URL of a proxy, or none, found a number (put it in quotes)"),
        ("mirrors", "a.io", "expected a list of registry hosts, found text"),
        ("events_from", {}, "expected a list of registry hosts, found a mapping"),
        ("username", ["u"], "expected text, found a list"),
        ("password", 123456, "expected text, found a number (put it in quotes)"),
        ("token", True, "expected text, found true or false (put it in quotes)"),
    ],
)
def test_a_value_of_the_wrong_kind_is_a_problem_of_its_key(folder, key, value, expected):
    auth = {"a.io": {key: value}}
    assert folder.problem(auth=auth, images=NEEDED) == f'auth.json:3: auth."a.io".{key}: {expected}'
    assert warnings(folder.load(auth=auth)) == [f"{expected}; ignored, since no rule needs it"]


@pytest.mark.parametrize(
    ("mirror", "expected"),
    [
        ("http://m.io", "expected a registry host, found an address: drop 'http://'"),
        ("m.io/x", "expected a registry host: not a registry host (name or name:port): 'm.io/x'"),
        ("m.io:99999", "expected a registry host: not a registry host (name or name:port): 'm.io:99999'"),
        (3, "expected a registry host, found a number (put it in quotes)"),
    ],
)
def test_a_bad_mirror_is_a_problem(folder, mirror, expected):
    assert folder.problem(auth={"a.io": {"mirrors": [mirror]}}, images=NEEDED).endswith(
        f'auth."a.io".mirrors[0]: {expected}'
    )


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("ftp://a.io", "found 'ftp://a.io'"),
        ("$REGISTRY", "found '$REGISTRY': a registry has a dot"),
        ("${HARBOR_HOST}/team", "found '${HARBOR_HOST}/team': a registry has a dot"),
        ("harbor", "found 'harbor': a registry has a dot, a port or is localhost"),
        ("bitnami/redis", "found 'bitnami/redis': a registry has a dot"),
        ("", "found '': a registry has a dot"),
        ("/", "found '/': a registry has a dot"),
        ("$VAR:", "not a registry host"),
        ("a.io//x", "in lower case, without tag, found 'a.io//x'"),
        ("a.io/X", "in lower case, without tag, found 'a.io/X'"),
        ("a.io/x:1", "in lower case, without tag, found 'a.io/x:1'"),
        ("a_b.io", "not a registry host"),
        ("a.io:port", "not a registry host"),
    ],
)
def test_a_key_that_names_no_registry_is_a_warning(folder, key, expected):
    (warning,) = warnings(
        folder.load(auth={key: {"username": "u", "password": "p"}}, images={"z.io/x": "h.io/x"})
    )
    assert expected in warning
    assert warning.endswith("ignored, since no rule needs it")


@pytest.mark.parametrize(
    ("key", "source"), [("a.io/X", "a.io/x/y"), ("a.io/x:1", "a.io/x"), ("bitnami/redis", "bitnami/redis")]
)
def test_a_key_that_names_no_registry_is_a_problem_where_a_rule_seems_to_need_it(folder, key, source):
    assert shown(key) in folder.problem(auth={key: {}}, images={source: "h.io/z"})


@pytest.mark.parametrize(
    ("key", "repository"),
    [
        ("https://a.io", "a.io/x"),
        ("HTTPS://A.io/", "a.io/x"),
        ("https://a.io:8443/v1/", "a.io:8443/x"),
        ("https://a.io/v2", "a.io/x"),
        ("a.io/v2/", "a.io/x"),
        ("https://index.docker.io/v1/", "nginx"),
        ("https://a.io/team/", "a.io/team/x"),
        ("http://a.io:5000", "a.io:5000/x"),
    ],
)
def test_an_address_as_a_key_means_its_host_as_it_does_to_docker(folder, key, repository):
    book = folder.load(auth=accounts(key), images={repository: "h.io/z"}).auth
    assert user(book, repository) == key


def test_http_before_a_key_does_not_turn_tls_off_and_says_so(folder):
    config = folder.load(auth=accounts("http://a.io"))
    assert not settings(config.auth).plain_http
    assert warnings(config) == [
        '"http://" is not looked at: say "plain_http": true for a registry without TLS'
    ]
    assert warnings(folder.load(auth={"http://a.io": {"plain_http": True}})) == []


def test_an_address_as_a_mirror_means_its_host(folder):
    book = folder.load(
        auth={"a.io": {"mirrors": ["https://m.io/", "https://n.io:8443/v2/"]}}, images=NEEDED
    ).auth
    assert settings(book).mirrors == ("m.io", "n.io:8443")


@pytest.mark.parametrize("ending", ["json", "yaml"])
def test_null_is_empty(folder, ending):
    text = '{"a.io": null, "b.io": {"username": null, "password": null, "insecure": null, "mirrors": null}}'
    config = folder.load(auth=text, ending=ending, images='{"a.io/x": "b.io/x"}')
    assert warnings(config) == []
    assert config.auth.empty
    assert settings(config.auth, "b.io/x") == HostSettings()


def test_the_case_of_known_keys_does_not_matter(folder):
    entry = {"UserName": "u", "PASSWORD": "p", "Insecure": True, "Max_Connections": 3}
    config = folder.load(auth={"a.io": entry}, images=NEEDED)
    assert warnings(config) == []
    assert user(config.auth, "a.io/x") == "u"
    assert settings(config.auth) == HostSettings(insecure=True, max_connections=3)


def test_one_key_in_two_cases_is_a_problem_where_a_rule_needs_the_entry(folder):
    entry = {"insecure": True, "Insecure": False}
    assert folder.problem(auth={"a.io": entry}, images=NEEDED).endswith("is the same as 'insecure' in line 3")
    assert len(folder.load(auth={"a.io": entry}).warnings) == 1


def test_warnings_are_told_together_with_problems(folder):
    with pytest.raises(ConfigError) as error:
        folder.load(auth={"a.io": {"insecure": "x", "usrname": "u"}, "$H": {}}, images=NEEDED)
    assert len(error.value.problems) == 1
    told = [warning.message for warning in error.value.warnings]
    assert "unknown key, ignored; did you mean username?" in told
    assert any("found '$H'" in message for message in told)


def test_dockers_own_file_is_recognised(folder):
    assert "Docker's config.json" in folder.problem(auth={"auths": {"a.io": {"auth": "dTpw"}}})


def test_an_unknown_key_is_a_warning_that_helps(folder):
    config = folder.load(auth={"a.io": {"usrname": "u", "colour": "red"}})
    assert [str(warning).replace(f"{folder.path}/", "") for warning in config.warnings] == [
        'auth.json:3: auth."a.io".usrname: unknown key, ignored; did you mean username?',
        (
            'auth.json:4: auth."a.io".colour: unknown key, ignored; known are username, password, password_file, '
            "token, token_file, insecure, plain_http, ca_file, cert_file, key_file, mirrors, max_connections, "
            "requests_per_second, bandwidth, create, proxy, read_timeout, events_from, attestations"
        ),
    ]
    assert config.auth.warnings == config.warnings


@pytest.mark.parametrize("written", ["$SECRET", "${SECRET}"])
def test_a_credential_that_is_a_variable_gets_its_value(folder, written):
    auth = {"a.io": {"username": written, "password": written}}
    account = folder.load(auth=auth, environment={"SECRET": "s$x"}).auth.account_for(Repository("a.io", "x"))
    assert account is not None
    assert (account.username, account.password) == ("s$x", Secret("s$x"))


@pytest.mark.parametrize(
    "written",
    [
        "robot$ci+puller",
        "$A$B",
        "x$SECRET",
        "${SECRET}x",
        "$",
        "${}",
        "$1",
        "$ SECRET",
        "${SECRET",
        "$SECRET ",
    ],
)
def test_any_other_credential_is_literal(folder, written):
    auth = {"a.io": {"username": "u", "password": written}}
    book = folder.load(auth=auth, environment={"SECRET": "s", "A": "a", "B": "b"}).auth
    assert book.secrets() == {written}


def test_a_variable_that_is_not_set_is_a_problem_only_where_a_rule_needs_it(folder):
    auth = {
        "a.io": {"username": "$NAME", "password": "${WORD}"},
        "b.io": {"username": "u", "password": "$OTHER"},
    }
    config = folder.load(auth=auth, images={"c.io/x": "d.io/x"})
    assert config.auth.account_for(Repository("a.io", "x")) is None
    assert not config.auth.empty
    assert folder.problems(auth=auth, images={"c.io/x": "d.io/x", "c.io/y": "a.io/y"}) == [
        'auth.json:3: auth."a.io".username: expected the environment variable NAME to be set',
        'auth.json:4: auth."a.io".password: expected the environment variable WORD to be set',
    ]
    with_mirror = {**auth, "c.io": {"mirrors": ["b.io"]}}
    assert "OTHER" in folder.problem(auth=with_mirror, images={"c.io/x": "d.io/x"})


def test_unquoted_yaml_credentials_keep_their_text(folder):
    text = "a.io:\n  username: on\n  password: 0123456\n  insecure: yes\n"
    book = folder.load(auth=text, ending="yaml").auth
    assert user(book, "a.io/x") == "on"
    assert book.secrets() == {"0123456"}
    assert settings(book).insecure


@pytest.mark.parametrize(
    ("content", "expected"),
    [("s3cret\n", "s3cret"), ("s3cret", "s3cret"), ("s\n\n", "s\n"), ("s\r\n", "s"), (" s ", " s ")],
)
@pytest.mark.parametrize("key", ["password_file", "token_file"])
def test_a_secret_comes_from_a_file_without_one_trailing_newline(folder, key, content, expected):
    (folder.path / "secret").write_bytes(content.encode())
    entry = {
        "a.io": {"username": "u", key: "secret"},
        "b.io": {"username": "u", key: str(folder.path / "secret")},
    }
    book = folder.load(auth=entry).auth
    for host in ("a.io", "b.io"):
        account = book.account_for(Repository(host, "x"))
        assert account is not None
        assert (account.identity_token if key == "token_file" else account.password) == Secret(expected)
        assert (account.password if key == "token_file" else account.identity_token) is None


def test_a_secret_file_that_cannot_be_read_is_a_problem(folder):
    assert folder.problem(auth={"a.io": {"username": "u", "password_file": "gone"}}, images=NEEDED).endswith(
        f"auth.\"a.io\".password_file: '{folder.path}/gone' cannot be read: no such file or directory".replace(
            f"{folder.path}/", ""
        )
    )
    (folder.path / "binary").write_bytes(b"\xff\xfe\x00")
    assert "expected UTF-8 text" in folder.problem(auth={"a.io": {"token_file": "binary"}}, images=NEEDED)
    (folder.path / "huge").write_bytes(b"x" * 70_000)
    assert "larger than" in folder.problem(auth={"a.io": {"token_file": "huge"}}, images=NEEDED)
    assert "ca.pem' cannot be read" in folder.problem(auth={"a.io": {"ca_file": "ca.pem"}}, images=NEEDED)


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ({"password": "p", "password_file": "f"}, "expected either password or password_file, found both"),
        ({"token": "t", "token_file": "f"}, "expected either token or token_file, found both"),
        (
            {"username": "u", "password": "p", "token": "t"},
            "expected either a password or a token, found both",
        ),
        ({"username": "u"}, "expected a password or a token beside the username, found none"),
        ({"password": "p"}, "expected a username beside the password, found none"),
    ],
)
def test_credentials_that_do_not_belong_together_are_a_problem(folder, entry, expected):
    assert folder.problem(auth={"a.io": entry}, images=NEEDED).endswith(expected)
    assert [message.partition(";")[0] for message in warnings(folder.load(auth={"a.io": entry}))] == [
        expected
    ]


def test_a_key_file_needs_its_certificate(folder):
    folder.write("key.pem", "x")
    assert folder.problem(auth={"a.io": {"key_file": "key.pem"}}, images=NEEDED).endswith(
        "expected cert_file beside key_file, found none"
    )


def test_an_identity_token_may_stand_alone_or_with_a_name(folder):
    book = folder.load(
        auth={"a.io": {"token": "t"}, "b.io": {"username": "u", "token": "$T"}}, environment={"T": "v"}
    ).auth
    account = book.account_for(Repository("a.io", "x"))
    assert account is not None
    assert (account.username, account.identity_token, account.password) == ("", Secret("t"), None)
    assert book.secrets() == {"t", "v"}


def test_an_empty_password_is_a_password(folder):
    account = folder.load(auth={"a.io": {"username": "u", "password": ""}}).auth.account_for(
        Repository("a.io", "x")
    )
    assert account is not None
    assert account.password == Secret("")


def test_a_book_is_empty_without_credentials(folder):
    assert AuthBook().empty
    assert folder.load(auth={"a.io": {"insecure": True}, "b.io": {"username": "", "password": ""}}).auth.empty
    assert not folder.load(auth=accounts("a.io")).auth.empty


def test_no_message_shows_a_secret(folder):
    entry = {"username": ["hunter2"], "password": {"a": "hunter2"}, "token": 2222, "insecure": "hunter2"}
    rules = {"a.io/x": "b.io/x"}
    assert "hunter2" not in "".join(folder.problems(auth={"a.io": entry, "b.io": "hunter2"}, images=rules))
    assert "hunter2" not in str(folder.load(auth={"a.io": entry, "b.io": "hunter2"}).warnings)
    yaml = [
        "password: *hunter2",
        "password: !hunter2 x",
        "password: &hunter2",
        "password: @hunter2",
        'password: "hunter2',
        "password: `hunter2",
        "password: %hunter2",
        "password: hunter2: x",
        "password: [hunter2",
    ]
    for line in yaml:
        assert "hunter2" not in "".join(
            folder.problems(auth=f"a.io:\n  username: u\n  {line}\n", images="a.io/x: b.io/x", ending="yaml")
        )
    for text in (
        '{"a.io": {"password": "\\hunter2"}}',
        '{"a.io": {"password": "a"hunter2"}}',
        '{"a.io": {"password": hunter2}}',
    ):
        assert "hunter2" not in "".join(folder.problems(auth=text))
    book = folder.load(auth={"a.io": {"username": "u", "password": "hunter2"}}).auth
    assert "hunter2" not in repr([vars(book), book.account_for(Repository("a.io", "x"))])
