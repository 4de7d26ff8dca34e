"""`--allow-source`, `--allow-destination` and `--allow-env`: files that are not trusted reach nothing else."""

import json
import socket
import threading
from contextlib import suppress

import pytest
from click.testing import CliRunner

from syncer.cli.main import cli
from syncer.oci.reference import Repository
from syncer.rules.allowlist import Allowlist
from syncer.rules.naming import DestinationTemplate
from syncer.rules.rule import Rule
from syncer.rules.tags import AllTags


class Listener:
    """A registry that only counts who connects."""

    def __init__(self):
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.host = f"127.0.0.1:{self.socket.getsockname()[1]}"
        self.connections = 0
        self.thread = threading.Thread(target=self._accept, daemon=True)
        self.thread.start()

    def _accept(self):
        with suppress(OSError):
            while True:
                connection, _ = self.socket.accept()
                self.connections += 1
                connection.close()

    def close(self):
        self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()
        self.thread.join()


@pytest.fixture
def hostile():
    listener = Listener()
    yield listener
    listener.close()


@pytest.fixture
def run(tmp_path):
    """`run(command, images, *options, **environment)`: what a command answers."""

    def invoke(command, images, *options, auth=None, **env):
        (tmp_path / "images.json").write_text(json.dumps(images))
        (tmp_path / "auth.json").write_text(json.dumps(auth or {}))
        files = ("--images", str(tmp_path / "images.json"), "--auth", str(tmp_path / "auth.json"))
        return CliRunner().invoke(cli, [command, *files, *options], env=env, catch_exceptions=False)

    return invoke


COMMANDS = ["sync", "plan", "check", "serve"]


@pytest.mark.parametrize("command", COMMANDS)
def test_a_rule_that_sends_a_secret_ends_before_anything_is_contacted(run, hostile, command):
    done = run(
        command,
        {f"{hostile.host}/x:1": f"{hostile.host}/evil:${{HARBOR_PASSWORD}}"},
        auth={
            "harbor.example.com": {"username": "robot", "password": "$HARBOR_PASSWORD"},
            hostile.host: {"plain_http": True},
        },
        HARBOR_PASSWORD="hunter2-s3cret",
    )
    assert done.exit_code == 2
    assert "HARBOR_PASSWORD" in done.output
    assert "hunter2" not in done.output
    assert hostile.connections == 0


@pytest.mark.parametrize("command", COMMANDS)
def test_a_place_that_is_not_allowed_ends_before_anything_is_contacted(run, hostile, command):
    images = {
        f"{hostile.host}/public/x": "harbor.example.com/mirror/x",
        "quay.io/coreos/etcd": [f"{hostile.host}/taken", "harbor.example.com/mirror/etcd"],
    }
    done = run(
        command,
        images,
        "--allow-source",
        "quay.io/*",
        SYNCER_ALLOW_DESTINATION="harbor.example.com/mirror/*;other.example.com/*",
    )
    assert done.exit_code == 2
    assert f"the source {hostile.host}/public/x is not allowed by --allow-source" in done.output
    assert f"the destination {hostile.host}/taken is not allowed by --allow-destination" in done.output
    assert "2 problems" in done.output
    assert hostile.connections == 0


@pytest.mark.parametrize(
    ("source", "glob", "allowed"),
    [
        ("nginx", "docker.io/library/nginx", True),
        ("docker.io/bitnami/redis:1", "docker.io/bitnami/*", True),
        ("registry.hub.docker.com/bitnami/redis", "docker.io/*", True),
        ("quay.io/a/b/c", "quay.io/*", True),
        ("quay.io/a/b/c", "quay.io/a/*/c", True),
        ("quay.io/team-1/x", "quay.io/team-[0-9]/*", True),
        ("quay.io/a/b", "quay.io/a", False),
        ("quay.io/a", "quay.io", False),
        ("quay.io.evil.example/a", "quay.io/*", False),
        ("evil.example/quay.io/a", "quay.io/*", False),
        ("quay.io/team/../x", "quay.io/*", False),
        ("nginx", "nginx", False),
    ],
)
def test_a_glob_matches_the_whole_name_in_its_one_form(run, source, glob, allowed):
    done = run("check", {source: "harbor.example.com/x"}, "--allow-source", glob)
    assert (done.exit_code == 0) is allowed


def test_a_destination_from_a_variable_is_judged_by_its_value_and_shown_as_written(run):
    images = {"quay.io/x": "$WHERE/x"}
    done = run("check", images, "--allow-destination", "a.example/*", WHERE="b.example")
    assert done.exit_code == 2
    assert "the destination $WHERE/x is not allowed" in done.output
    assert "b.example" not in done.output
    assert run("check", images, "--allow-destination", "a.example/*", WHERE="a.example").exit_code == 0


def test_a_variable_that_is_not_named_cannot_be_used(run):
    images = {"quay.io/x": "$HOST/$PROJECT"}
    env = {"HOST": "a.example", "PROJECT": "team", "SYNCER_ALLOW_ENV": "HOST\nPROJECT"}
    assert run("check", images, **env).exit_code == 0
    done = run("check", images, "--allow-env", "HOST", **env)
    assert done.exit_code == 2
    assert "PROJECT: --allow-env does not name it" in done.output


@pytest.mark.parametrize(
    ("to", "glob", "allowed"),
    [
        ("harbor.example.com/mirror/{path}", "harbor.example.com/mirror/*", True),
        ("harbor.example.com/mirror/{path}", "harbor.example.com/mirror/etcd", False),
        ("harbor.example.com/{host}/{name}", "harbor.example.com/quay.io/*", True),
        ("{host}/{path}", "harbor.example.com/*", False),
        ("{name}", "docker.io/library/*", True),
        ("{name}", "harbor.example.com/*", False),
    ],
)
def test_destination_with_placeholders_is_checked_by_the_name_that_results(run, to, glob, allowed):
    done = run("check", {"quay.io/coreos/etcd": to}, "--allow-destination", glob)
    assert (done.exit_code == 0) is allowed, done.output


@pytest.mark.parametrize(
    ("pattern", "to", "sources", "destinations", "refusals"),
    [
        ("team/**", "h.io/m/{1}", ["q.io/team/*"], ["h.io/m/*"], 0),
        ("team/*", "h.io/m/{name}", ["q.io/*"], ["h.io/*"], 0),
        ("team/**", "h.io/m/{1}", ["q.io/team/a*"], ["h.io/m/a*"], 2),
        ("**", "h.io/m/{1}", ["q.io/team/*"], ["h.io/m/*"], 1),
        ("team/*", "{1}/m", ["q.io/*"], ["h.io/*"], 1),
        ("team/*", "$HOST/{1}", ["q.io/*"], ["h.io/team/*"], 1),
    ],
)
def test_pattern_must_be_allowed_whatever_its_stars_stand_for(pattern, to, sources, destinations, refusals):
    template = DestinationTemplate(to.replace("$HOST", "h.io"), to)
    rule = Rule(0, Repository("q.io", pattern), AllTags(), (), templates=(template,))
    found = list(Allowlist(tuple(sources), tuple(destinations)).refusals(rule))
    assert len(found) == refusals
    assert all(to in message or pattern in message for message in found)
