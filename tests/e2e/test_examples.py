"""The files in examples/ do what they say, on the registries of the demo."""

import json
import re
import socket
from pathlib import Path

import pytest
import yaml

from tests.e2e.jobs import wait_for
from tests.support.judge import Open, judge, raw_manifest
from tests.support.processes import Process

EXAMPLES = Path(__file__).parents[2] / "examples"
SOURCE_PORT, DESTINATION_PORT = 5001, 5002
EXPECTED = [
    *(("library/alpine:" + tag, "mirror/alpine:" + tag) for tag in ("3.19", "3.20", "latest")),
    ("library/nginx:1.26", "mirror/nginx:stable"),
    ("library/nginx:1.27", "mirror/nginx:mainline"),
]


@pytest.fixture
def demo(program, tmp_path):
    """The demo's two registries, on free ports."""

    def start(number, *options):
        command = [*program._command(())[:2], "syncer.demo", *options]
        out = tmp_path / f"demo-{number}.out"
        process = Process(command, stdout=out, stderr=tmp_path / f"demo-{number}.err")
        program.started.append(process)
        wait_for(lambda: "\n" in out.read_text(), process)
        return Open(out.read_text().splitlines()[0])

    return start(1, "--seed"), start(2)


@pytest.mark.parametrize("ending", ["json", "yaml"])
def test_the_examples_bring_what_they_name(demo, run_syncer, tmp_path, ending):
    source, destination = demo
    ports = {str(SOURCE_PORT): source.host, str(DESTINATION_PORT): destination.host}
    for name in ("auth", "images"):
        text = (EXAMPLES / f"{name}.{ending}").read_text()
        text = re.sub(r"127\.0\.0\.1:(\d+)", lambda match: ports[match[1]], text)
        (tmp_path / f"{name}.{ending}").write_text(text)

    done = run_syncer("sync", "--auth", f"auth.{ending}", "--images", f"images.{ending}")

    assert done.returncode == 0, done.stderr
    _look_through(source, destination)


def _look_through(source, destination):
    with source.client() as client:
        tags = client.get("/v2/team/app/tags/list").json()["tags"]
    matched = [
        (f"team/app:{tag}", f"{to}/app:{tag}")
        for tag in tags
        if tag.startswith("v1.")
        for to in ("team", "backup")
    ]
    judge(source, destination, [*EXPECTED, *matched])
    edge = json.loads(raw_manifest(destination, "edge/app:v2.0"))
    assert {"linux/amd64"} == {
        f"{each['platform']['os']}/{each['platform']['architecture']}"
        for each in edge["manifests"]
        if each["platform"]["os"] != "unknown"
    }
    with destination.client() as client:
        for name in {there.partition(":")[0] for _, there in [*EXPECTED, *matched]}:
            arrived = {f"{name}:{tag}" for tag in client.get(f"/v2/{name}/tags/list").json()["tags"]}
            assert arrived == {there for _, there in [*EXPECTED, *matched] if there.startswith(f"{name}:")}


def test_the_two_kinds_of_examples_say_the_same():
    for name in ("auth", "images"):
        as_yaml = yaml.safe_load((EXAMPLES / f"{name}.yaml").read_text())
        as_json = json.loads((EXAMPLES / f"{name}.json").read_text())
        as_json.pop("$schema", None)
        assert as_yaml == as_json


def test_the_demo_stays_up_on_the_ports_that_the_examples_name(start_syncer, run_syncer):
    if not all(map(_is_free, (SOURCE_PORT, DESTINATION_PORT))):
        pytest.skip("somebody plays with the demo on this machine")
    serving = start_syncer("demo", "--serve")
    wait_for(lambda: "Ctrl-C" in serving.read_stdout(), serving)

    done = run_syncer("sync", "--auth", EXAMPLES / "auth.json", "--images", EXAMPLES / "images.json")

    assert done.returncode == 0, done.stderr
    _look_through(Open(f"127.0.0.1:{SOURCE_PORT}"), Open(f"127.0.0.1:{DESTINATION_PORT}"))
    serving.terminate()
    assert serving.wait(timeout=30) == 0


def _is_free(port):
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def test_the_demo_shows_two_runs_and_ends_with_0(run_syncer):
    done = run_syncer("demo")
    assert done.returncode == 0, done.stderr
    assert "Every tag has the digest that it has at the source." in done.stdout
    assert done.stderr.count("Synchronization finished, 0 tasks failed") == 2
