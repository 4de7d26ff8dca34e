"""What of the environment an images file can read, and what of it is shown."""

import os
import threading

import pytest

from syncer.config import load
from syncer.diagnostics import ConfigError
from syncer.rules.allowlist import Allowlist

SECRET = "hunter2-s3cret"
AUTH = {
    "a.io": {"username": "$ROBOT", "password": "${PW_A}"},
    "b.io/team": {"token": "$REFRESH"},
    "c.io": {"username": "u", "password": "literal-pass"},
}
ENVIRONMENT = {
    "ROBOT": "robot-name",
    "PW_A": SECRET,
    "REFRESH": "refresh-text",
    "ALIAS": SECRET,
    "JOINED": f"https://x/{SECRET}/y",
    "COPY": "literal-pass",
    "PROJECT": "team",
    "REGISTRY": "d.io",
    "HARBOR_PASSWORD": "x",
    "GithubToken": "x",
    "SYNCER_METRICS_PUSH": "x",
    "AWS_ACCESS_KEY_ID": "x",
    "DOCKER_AUTH_CONFIG": "x",
    "HTTPS_PROXY": "http://user:pass@proxy:3128",
    "BAD": "Not/A:Valid//Name",
}


def rule_with(name):
    return {"q.io/x:1": f"evil.io/x:${{{name}}}"}


@pytest.mark.parametrize("name", ["ROBOT", "PW_A", "REFRESH"])
def test_a_variable_of_the_auth_file_is_refused_in_a_rule(folder, name):
    problem = folder.problem(auth=AUTH, images=rule_with(name), environment=ENVIRONMENT)
    assert problem.endswith(f"{name}: the auth file takes credentials from it")


@pytest.mark.parametrize("name", ["ALIAS", "JOINED", "COPY"])
def test_a_variable_whose_value_holds_a_password_of_the_auth_file_is_refused(folder, name):
    problem = folder.problem(auth=AUTH, images=rule_with(name), environment=ENVIRONMENT)
    assert problem.endswith(f"{name}: its value holds a secret of the auth file")


@pytest.mark.parametrize(
    "name",
    [
        "HARBOR_PASSWORD",
        "GithubToken",
        "SYNCER_METRICS_PUSH",
        "AWS_ACCESS_KEY_ID",
        "DOCKER_AUTH_CONFIG",
        "HTTPS_PROXY",
    ],
)
def test_a_variable_that_looks_like_a_secret_is_refused_unless_it_is_named(folder, name):
    problem = folder.problem(images=rule_with(name), environment=ENVIRONMENT)
    assert f"--allow-env {name}" in problem
    values = {**ENVIRONMENT, name: "harmless"}
    path = folder.write("images.json", rule_with(name))
    assert load(images=path, environment=values, allowed=Allowlist(variables=(name,))).rules


def test_a_combined_file_is_read_by_the_same_rules(folder):
    combined = {"auth": {"c.io": AUTH["c.io"]}, "images": rule_with("COPY")}
    assert "holds a secret" in folder.problem(combined=combined, environment=ENVIRONMENT)


def test_other_variables_can_be_used(folder):
    images = {"q.io/x": ["$REGISTRY/${PROJECT}/x", "a.io/$PROJECT"]}
    config = folder.load(auth=AUTH, images=images, environment=ENVIRONMENT)
    assert [str(each.repository) for each in config.rules[0].destinations] == ["d.io/team/x", "a.io/team"]


def test_only_named_variables_can_be_used_where_some_are_named(folder):
    images = folder.write("images.json", {"q.io/x": "$REGISTRY/$PROJECT"})

    def read(*names, auth=None):
        return load(auth, images, environment=ENVIRONMENT, allowed=Allowlist(variables=names))

    assert read("REGISTRY", "PROJECT").rules
    with pytest.raises(ConfigError, match="PROJECT: --allow-env does not name it"):
        read("REGISTRY")
    # What holds a credential cannot be allowed.
    auth = folder.write("auth.json", {"a.io": {"username": "$PROJECT", "password": "x"}})
    with pytest.raises(ConfigError, match="PROJECT: the auth file"):
        read("REGISTRY", "PROJECT", auth=auth)


@pytest.mark.parametrize(
    ("images", "value"),
    [
        ({"q.io/x": "d.io/$VALUE"}, "Pri,vate~value"),
        ({"q.io/x": "d.io/$VALUE"}, "private/value:1,2,3"),
        ({"q.io/x:1": "d.io/x:$VALUE"}, "private/value"),
        ({"q.io/x:1": ["d.io/ok", "$VALUE"]}, "https://private.value/x"),
        ({"q.io/x:1,2": {"to": "d.io/x:$VALUE"}}, "private,value,again"),
        ({"q.io/x@sha256:" + "1" * 64: "d.io/x@$VALUE"}, "private-value"),
    ],
)
def test_a_message_shows_the_text_as_written_and_not_the_value(folder, images, value):
    messages = "\n".join(folder.problems(images=images, environment={"VALUE": value}))
    assert "$VALUE" in messages
    assert value.lower() not in messages.lower()


@pytest.mark.parametrize("destination", ["d.io/$VALUE/x", "d.io/x:$VALUE"])
def test_a_conflict_shows_the_text_as_written_and_not_the_value(folder, destination):
    images = {"q.io/x:1": destination, "q.io/y:1": destination}
    conflicts = folder.load(images=images, environment={"VALUE": "private-value"}).conflicts
    assert len(conflicts) == 2
    assert all("$VALUE" in str(conflict) for conflict in conflicts)
    assert not any("private-value" in str(conflict) for conflict in conflicts)


@pytest.mark.parametrize("second", ["e.io/$VALUE/y", "$VALUE/y"])
def test_a_list_to_write_shows_the_text_as_written_and_not_the_value(folder, second):
    text = f'{{"q.io/x:1": "d.io/$VALUE/x", "q.io/x:1": "{second}"}}'
    problem = folder.problem(images=text, environment={"VALUE": "private.value"})
    assert f'["d.io/$VALUE/x", "{second}"]' in problem
    assert "private.value" not in problem


# --- files that the auth file names -----------------------------------------------------------------------------


@pytest.fixture
def pipe(tmp_path):
    path = tmp_path / "pipe"
    os.mkfifo(path)
    return path


@pytest.mark.parametrize("key", ["password_file", "token_file", "ca_file", "cert_file", "key_file"])
@pytest.mark.parametrize(
    "name",
    ["/proc/self/environ", "link", "/dev/null", "/dev/stdin", "/sys/kernel/uevent_seqnum", "pipe", "."],
)
def test_a_file_that_is_none_on_a_disk_is_refused(folder, pipe, monkeypatch, key, name):
    monkeypatch.setenv("HARBOR_PASSWORD", SECRET)
    (folder.path / "link").symlink_to("/proc/self/environ")
    problems = "\n".join(
        folder.problems(auth={"a.io": {"username": "u", key: name}}, images={"a.io/x": "b.io/x"})
    )
    assert "cannot be read" in problems
    assert SECRET not in problems


def test_a_linked_secret_of_a_mounted_volume_is_read(folder):
    """As Kubernetes mounts a Secret: a link to a link to a folder with the time in its name."""
    (folder.path / "..2026_01_01").mkdir()
    (folder.path / "..2026_01_01/password").write_text("from-volume\n")
    (folder.path / "..data").symlink_to("..2026_01_01")
    (folder.path / "password").symlink_to("..data/password")
    config = folder.load(auth={"a.io": {"username": "u", "password_file": "password"}})
    assert config.auth.secrets() == {"from-volume"}


def test_a_pipe_does_not_hold_the_reader(folder, pipe):
    done = threading.Event()

    def read():
        folder.problems(
            auth={"a.io": {"username": "u", "password_file": "pipe"}}, images={"a.io/x": "b.io/x"}
        )
        done.set()

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    assert done.wait(30)
