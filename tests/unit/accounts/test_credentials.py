"""Tests of the sources of credentials, their precedence, and the repositories they apply to."""

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncer.accounts.book import AuthBook
from syncer.accounts.credentials import Credentials
from syncer.accounts.logins import read_logins
from syncer.accounts.settings import Account, Secret
from syncer.config.auth_reader import parse_auth
from syncer.config.documents import read_document
from syncer.diagnostics import Findings
from syncer.oci.reference import Repository
from tests.support.generated import examples

HUB = "https://index.docker.io/v1/"


class Home:
    """A user's home: `docker`, `podman` write the files that the tools would."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.environment = {"HOME": str(path), "PATH": "/nowhere"}

    def write(self, name: str, content: object) -> Path:
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
        return path

    def docker(self, **content: object) -> Path:
        return self.write(".docker/config.json", content)

    def podman(self, **content: object) -> Path:
        self.environment["XDG_RUNTIME_DIR"] = str(self.path / "run")
        return self.write("run/containers/auth.json", content)

    def credentials(self, book: AuthBook | None = None) -> Credentials:
        return Credentials(book or AuthBook(), environment=self.environment)

    def user(self, name: str, book: AuthBook | None = None) -> str:
        """Return `user:secret` for a repository, or "" for anonymous access."""
        account = self.credentials(book).account_for(Repository.parse(name))
        if account is None:
            return ""
        assert account.password is not None
        return f"{account.username}:{account.password.reveal()}"

    def book(self, **entries: object) -> AuthBook:
        path = self.write("auth.json", entries)
        findings = Findings()
        node = read_document(path, "auth", findings)
        assert node is not None
        book = parse_auth(node, folder=self.path, environment={}, findings=findings)
        findings.raise_if_any()
        return book


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


def auth(user: str, password: str = "pw") -> dict[str, str]:
    return {"auth": base64.b64encode(f"{user}:{password}".encode()).decode()}


# --- sources ----------------------------------------------------------------------------------------------------


def test_without_any_file_access_is_anonymous(home):
    assert home.credentials().account_for(Repository.parse("quay.io/acme/app")) is None
    assert home.credentials().warnings == ()


def test_registry_without_credentials_in_the_auth_file_uses_dockers(home):
    home.docker(auths={"quay.io": auth("docker"), "ghcr.io": auth("docker"), "gcr.io": auth("docker")})
    book = home.book(
        **{
            "quay.io": {"username": "ours", "password": "pw"},
            "ghcr.io": {"insecure": True},
            "gcr.io": {"username": "", "password": ""},
        }
    )

    assert home.user("quay.io/acme/app", book) == "ours:pw"
    assert home.user("ghcr.io/acme/app", book) == "docker:pw"
    assert home.user("gcr.io/acme/app", book) == "docker:pw"


def test_registry_without_credentials_in_the_auth_file_uses_podmans(home):
    home.podman(auths={"ghcr.io": auth("podman")})

    assert (
        home.user("ghcr.io/acme/app", home.book(**{"quay.io": {"username": "u", "password": "p"}}))
        == "podman:pw"
    )


def test_registry_without_credentials_in_the_auth_file_uses_its_helper(home):
    home.docker(credHelpers={"ghcr.io": "vault"})
    book = home.book(**{"quay.io": {"username": "u", "password": "p"}})
    account = home.credentials(book).account_for(Repository.parse("ghcr.io/acme/app"))

    assert account is not None
    assert account.provider is not None


def test_auth_entry_for_a_namespace_hides_other_sources_for_the_registry(home):
    home.docker(auths={"quay.io": auth("docker")})
    book = home.book(**{"quay.io/acme": {"username": "ours", "password": "pw"}})

    assert home.user("quay.io/acme/app", book) == "ours:pw"
    assert home.user("quay.io/other/app", book) == ""


def test_auth_file_with_settings_only_uses_dockers_credentials(home):
    home.docker(auths={"quay.io": auth("docker")})

    assert home.user("quay.io/acme/app", home.book(**{"quay.io": {"insecure": True}})) == "docker:pw"


def test_dockers_file_precedes_podmans(home):
    home.docker(auths={"quay.io": auth("docker")})
    home.podman(auths={"quay.io": auth("podman"), "ghcr.io": auth("podman")})

    assert home.user("quay.io/acme/app") == "docker:pw"
    assert home.user("ghcr.io/acme/app") == "podman:pw"
    assert home.user("example.com/acme/app") == ""


def test_docker_config_selects_the_folder(home):
    home.docker(auths={"quay.io": auth("home")})
    home.write("elsewhere/config.json", {"auths": {"quay.io": auth("elsewhere")}})
    home.environment["DOCKER_CONFIG"] = str(home.path / "elsewhere")

    assert home.user("quay.io/acme/app") == "elsewhere:pw"


def test_registry_auth_file_replaces_podmans_default_file(home):
    home.podman(auths={"quay.io": auth("usual"), "ghcr.io": auth("usual")})
    named = home.write("named.json", {"auths": {"quay.io": auth("named")}})
    home.environment["REGISTRY_AUTH_FILE"] = str(named)

    assert home.user("quay.io/acme/app") == "named:pw"
    assert home.user("ghcr.io/acme/app") == ""


def test_missing_registry_auth_file_is_a_warning(home):
    home.environment["REGISTRY_AUTH_FILE"] = str(home.path / "gone.json")

    (warning,) = home.credentials().warnings
    assert str(warning) == f"{home.path}/gone.json: cannot be read: no such file or directory"


def test_podmans_persistent_file_is_used_last(home):
    home.write(".config/containers/auth.json", {"auths": {"quay.io": auth("lasting")}})

    assert home.user("quay.io/acme/app") == "lasting:pw"


# --- matching entries -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "key",
    [HUB, "https://index.docker.io/v2/", "index.docker.io/v1", "docker.io", "index.docker.io", "registry-1.docker.io", "http://docker.io"],
)  # fmt: skip
def test_all_names_of_docker_hub_are_recognized(home, key):
    home.docker(auths={key: auth("anna")})

    assert home.user("nginx") == home.user("docker.io/bitnami/redis") == "anna:pw"


def test_internal_tokens_of_docker_login_are_ignored(home):
    home.docker(
        auths={f"{HUB}access-token": auth("wrong"), f"{HUB}refresh-token": auth("wrong"), HUB: auth("right")}
    )

    assert home.user("nginx") == "right:pw"
    assert home.credentials().warnings == ()


@pytest.mark.parametrize(
    "key", ["quay.io:8443", "https://quay.io:8443", "https://quay.io:8443/v2/", "QUAY.io:8443/"]
)
def test_key_may_be_a_url(home, key):
    home.docker(auths={key: auth("anna")})

    assert home.user("quay.io:8443/acme/app") == "anna:pw"
    assert home.user("quay.io/acme/app") == ""


def test_the_longest_namespace_wins(home):
    home.podman(
        auths={
            "quay.io": auth("host"),
            "quay.io/acme": auth("acme"),
            "quay.io/acme/team/app": auth("app"),
            "docker.io/library": auth("library"),
        }
    )

    assert home.user("quay.io/acme/team/app") == "app:pw"
    assert home.user("quay.io/acme/team/other") == "acme:pw"
    assert home.user("quay.io/acme2/app") == "host:pw"
    assert home.user("nginx") == "library:pw"
    assert home.user("bitnami/redis") == ""


def test_entry_without_credentials_is_ignored(home):
    home.docker(auths={"quay.io": {}, "https://quay.io": auth("anna"), "ghcr.io": {"email": "a@example.com"}})

    assert home.user("quay.io/acme/app") == "anna:pw"
    assert home.user("ghcr.io/acme/app") == ""


# --- formats -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        (auth("anna", "p:w=ö"), "anna:p:w=ö"),
        ({"auth": auth("anna", "12")["auth"].rstrip("=")}, "anna:12"),
        ({"auth": auth("anna")["auth"] + "\n"}, "anna:pw"),
        (auth("anna", "pw\0\0"), "anna:pw"),
        ({"username": "anna", "password": "pw"}, "anna:pw"),
        ({**auth("anna"), "username": "other", "password": "other"}, "anna:pw"),
        ({"username": "anna", "password": "pw", "auth": "", "email": None}, "anna:pw"),
        ({"username": "AWS", "password": ""}, "AWS:"),
    ],
)
def test_password_is_read_in_all_forms(home, entry, expected):
    home.docker(auths={"quay.io": entry})

    assert home.user("quay.io/acme/app") == expected


def test_identity_and_registry_tokens_are_read(home):
    home.docker(
        auths={
            "a.azurecr.io": {**auth("00000000-0000-0000-0000-000000000000", ""), "identitytoken": "1d"},
            "b.example.com": {"registrytoken": "r3g"},
        }
    )
    credentials = home.credentials()

    azure = credentials.account_for(Repository.parse("a.azurecr.io/app"))
    other = credentials.account_for(Repository.parse("b.example.com/app"))
    assert azure
    assert azure.identity_token == Secret("1d")
    assert azure.password is None
    assert other
    assert other.registry_token == Secret("r3g")
    assert other.password is None


def test_an_account_is_named_after_its_key_and_file(home):
    path = home.docker(auths={"https://quay.io": auth("anna")})

    account = home.credentials().account_for(Repository.parse("quay.io/acme/app"))
    assert account
    assert account.name == f"https://quay.io in {path}"


def test_repositories_of_a_key_share_one_account(home):
    home.docker(auths={"quay.io": auth("anna")})
    credentials = home.credentials()

    accounts = {credentials.account_for(Repository.parse(f"quay.io/acme/{name}")) for name in "abc"}
    assert len(accounts) == 1


# --- invalid files --------------------------------------------------------------------------------------------------

BROKEN: dict[str, tuple[object, str]] = {
    "not JSON": (b"{", "cannot be read, so its credentials are not used: "),
    "not UTF-8": (b'{"auths": {"\xff": {}}}', "cannot be read, so its credentials are not used: "),
    "a list": ([], "cannot be read, so its credentials are not used: Expected `object`, got `array`"),
    "nested": (b'{"auths": ' + b"[" * 100_000, "cannot be read, so its credentials are not used: "),
    "auths a list": ({"auths": ["hunter2"]}, "cannot be read, so its credentials are not used: "),
    "an entry of text": ({"auths": {"quay.io": "hunter2"}}, "auths.'quay.io': ignored: expected an object"),
    "a number": ({"auths": {"quay.io": {"auth": 7}}}, "auths.'quay.io': ignored: expected an object with string values"),
    "no base64": ({"auths": {"quay.io": {"auth": "hunter2§"}}}, 'auths.\'quay.io\': ignored: "auth" is not base64 of'),
    "no colon": (
        {"auths": {"quay.io": {"auth": base64.b64encode(b"hunter2").decode()}}},
        'auths.\'quay.io\': ignored: "auth" is not base64 of "user name:password"',
    ),
    "latin-1": (
        {"auths": {"quay.io": {"auth": base64.b64encode("hunter2:ö".encode("latin-1")).decode()}}},
        'auths.\'quay.io\': ignored: "auth" is not base64 of UTF-8',
    ),
    "a key that is no host": ({"auths": {"*.quay.io": auth("hunter2")}}, "auths.'*.quay.io': not a registry, ignored"),
    "a helper elsewhere": (
        {"credHelpers": {"quay.io": "../../bin/sh"}},
        "credHelpers.'quay.io': expected the part of the helper's name after docker-credential-, ignored",
    ),
    "a helper for a namespace": ({"credHelpers": {"quay.io/acme": "x"}}, "not a registry's host, ignored"),
    "a store elsewhere": ({"credsStore": "a b; rm"}, "credsStore: expected the part of the helper's name"),
    "a store of numbers": ({"credsStore": 7}, "credsStore: expected the part of the helper's name"),
}  # fmt: skip


@pytest.mark.parametrize(("content", "expected"), BROKEN.values(), ids=BROKEN)
def test_invalid_file_is_a_warning_with_path_and_reason(home, content, expected):
    path = home.write(".docker/config.json", content)
    home.podman(auths={"quay.io": auth("podman")})
    credentials = home.credentials()

    (warning,) = credentials.warnings
    assert str(warning).startswith(f"{path}: ")
    assert expected in str(warning)
    assert "hunter2" not in repr(credentials.warnings)
    assert home.user("quay.io/acme/app") == "podman:pw"


def test_invalid_entry_does_not_affect_the_others(home):
    home.docker(auths={"quay.io": {"auth": "!"}, "ghcr.io": auth("anna")})

    assert home.user("ghcr.io/acme/app") == "anna:pw"


def test_unreadable_file_is_a_warning(home):
    (home.path / ".docker/config.json").mkdir(parents=True)

    (warning,) = home.credentials().warnings
    assert "cannot be read, so its credentials are not used: is a directory" in str(warning)


def test_a_huge_file_is_a_warning(home):
    home.write(".docker/config.json", b" " * (5 << 20))

    (warning,) = home.credentials().warnings
    assert "the file is larger than" in str(warning)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["quay.io", HUB, "auth", "username", "password", "identitytoken"]) | st.text(max_size=8),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)  # fmt: skip


@examples(60)
@given(
    st.dictionaries(st.sampled_from(["auths", "credHelpers", "credsStore", "x"]), VALUES).map(json.dumps)
    | st.text(max_size=50)
)
def test_no_file_content_raises(tmp_path_factory, text):
    path = tmp_path_factory.getbasetemp() / "any-config.json"
    path.write_text(text, encoding="utf-8", errors="surrogatepass")

    read_logins(path, [])


# --- Google ----------------------------------------------------------------------------------------------------------

KEY = '{"type": "service_account", "private_key": "k3y"}'


def google(home: Home, host: str, username: str, password: str) -> Account:
    book = home.book(**{host: {"username": username, "password": password}})
    account = home.credentials(book).account_for(Repository.parse(f"{host}/project/app"))
    assert account is not None
    return account


@pytest.mark.parametrize("host", ["gcr.io", "eu.gcr.io", "europe-docker.pkg.dev"])
def test_oauth2_user_at_google_becomes_json_key(home, host):
    account = google(home, host, "_oauth2_", base64.b64encode(KEY.encode()).decode())

    assert account == Account(host, "_json_key", Secret(KEY))


@pytest.mark.parametrize(
    ("host", "username", "password"),
    [
        ("eu.gcr.io", "_json_key", KEY),
        ("eu.gcr.io", "oauth2accesstoken", "ya29.x"),
        ("eu.gcr.io", "_oauth2_", "not base64 of a key"),
        ("eu.gcr.io", "_oauth2_", base64.b64encode(b"no key").decode()),
        ("example.com", "_oauth2_", base64.b64encode(KEY.encode()).decode()),
        ("evilgcr.io", "_oauth2_", base64.b64encode(KEY.encode()).decode()),
    ],
)
def test_other_accounts_are_unchanged(home, host, username, password):
    assert google(home, host, username, password) == Account(host, username, Secret(password))


# --- secrets ---------------------------------------------------------------------------------------------------------


def test_secrets_are_masked_and_never_printed(home):
    home.docker(
        auths={"quay.io": auth("anna", "hunter2"), "ghcr.io": {"identitytoken": "1d3ntity"}, "x.io": {"registrytoken": "r3g"}}
    )  # fmt: skip
    credentials = home.credentials()

    assert credentials.secrets() == {"hunter2", "1d3ntity", "r3g"}
    accounts: list[Any] = [
        credentials.account_for(Repository.parse(f"{host}/app")) for host in ("quay.io", "ghcr.io")
    ]
    assert not any(secret in f"{accounts!r} {vars(credentials)!r}" for secret in credentials.secrets())


def test_secrets_of_the_auth_file_are_masked(home):
    key = base64.b64encode(KEY.encode()).decode()
    book = home.book(**{"gcr.io": {"username": "_oauth2_", "password": key}})
    credentials = home.credentials(book)
    credentials.account_for(Repository.parse("gcr.io/app"))

    assert credentials.secrets() == {key, KEY}
