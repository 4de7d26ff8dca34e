"""The files in examples/ work with the registries of the demo and with other local registries."""

import json
import re
import socket
from pathlib import Path

import pytest
import yaml

from syncer.config import load
from tests.e2e.jobs import tags, wait_for
from tests.support.judge import Open, judge, raw_manifest, whole_storage
from tests.support.processes import Process

EXAMPLES = Path(__file__).parents[2] / "examples"
LESS_WRITING = EXAMPLES / "less-writing"
SCENARIOS = sorted(path.name for path in EXAMPLES.iterdir() if path.is_dir() and path != LESS_WRITING)
FILES = ("--auth", "auth.yaml", "--images", "images.yaml")
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
def test_examples_copy_the_images_that_they_name(demo, run_syncer, tmp_path, ending):
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


def test_json_and_yaml_examples_are_equal():
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
    assert "Every tag has the same digest as at the source." in done.stdout
    assert done.stderr.count("Synchronization finished, 0 tasks failed") == 2


@pytest.mark.parametrize("name", SCENARIOS)
def test_each_scenario_is_valid(run_syncer, ca, tmp_path, name):
    variables = _copy(name, {}, tmp_path)
    ca.cert_pem.write_to_path(str(tmp_path / "company-ca.pem"))

    done = run_syncer(
        "check", *FILES, env={name: f"{name.lower().replace('_', '-')}.example.com" for name in variables}
    )

    assert done.returncode == 0, done.stderr
    assert not done.stderr
    assert "no problems found" in done.stdout
    assert f"]({name})" in (EXAMPLES / "README.md").read_text()


def test_migration_example_copies_the_images_that_it_names(run_syncer, registry, source, files):
    old, new = registry(), registry()
    _seed(run_syncer, files, source, old, "shop/frontend:1", "shop/backend:2", "bank/ledger:3")
    _seed(run_syncer, files, source, old, "tools/builder:v1.2.3", "tools/builder:nightly")
    hosts = {"harbor.old.example.com": old, "harbor.new.example.com": new}
    variables = _copy("harbor-to-harbor", hosts, files.folder)

    done = run_syncer(*FILES, env=dict.fromkeys(variables, "secret"))

    assert done.returncode == 0, done.stderr
    arrived = [
        ("shop/frontend:1", "shop/frontend:1"),
        ("shop/backend:2", "shop/backend:2"),
        ("bank/ledger:3", "payments/ledger:3"),
        ("tools/builder:v1.2.3", "tools/builder:v1.2.3"),
    ]
    judge(old, new, arrived)
    assert set(tags(new.storage)) == {there for _, there in arrived}


def test_several_sources_reach_two_destinations_as_their_example_says(run_syncer, registry, source, files):
    sources, europe, china = registry(), registry(), registry()
    images = (
        "pause:3.9",
        "pause:3.10",
        "prometheus/node-exporter:v1.8.2",
        "acme/portal:5",
        "acme/config:latest",
    )
    _seed(run_syncer, files, source, sources, *images, "prometheus/node-exporter:v1.7.0", "acme/config:old")
    hosts = dict.fromkeys(("registry.k8s.io", "quay.io", "ghcr.io"), sources)
    hosts |= {"harbor.example.com": europe, "acme-registry.cn-shanghai.cr.aliyuncs.com": china}
    variables = _copy("many-to-many", hosts, files.folder)

    done = run_syncer(
        *FILES, env=dict.fromkeys(variables, "secret") | {"EUROPE": europe.host, "CHINA": china.host}
    )

    assert done.returncode == 0, done.stderr
    new_names = {"pause": "k8s/pause", "prometheus/node-exporter": "monitoring/node-exporter"}
    pairs = [(image, _renamed(image, new_names)) for image in images]
    for destination in (europe, china):
        assert set(tags(destination.storage)) == {there for _, there in pairs}
        # A filter may make the portal's index smaller.
        judge(sources, destination, [pair for pair in pairs if pair[0] != "acme/portal:5"])
        assert whole_storage(destination.storage) == len(images)


@pytest.mark.parametrize("name", ["one-place.txt", "flattened.yaml", "platforms.txt"])
def test_short_form_means_what_the_long_one_does_in_a_third_of_its_lines(name):
    before = LESS_WRITING / f"{name.partition('.')[0]}.before.json"
    short = LESS_WRITING / name

    def copies(path):
        return {
            (str(rule.source), str(rule.selection), str(rule.platforms), str(each.repository))
            for rule in load(images=path, to="harbor.example.com/mirror").rules
            for each in rule.destinations
        }

    assert copies(short) == copies(before)
    assert len(short.read_text().splitlines()) <= len(before.read_text().splitlines()) / 3


def test_newest_releases_of_each_minor_version_are_copied(run_syncer, registry, source, files):
    old, new = registry(), registry()
    expected = [f"coreos/etcd:{tag}" for tag in ("v3.5.20", "v3.5.21", "v3.6.4", "v3.6.5")]
    others = [f"coreos/etcd:{tag}" for tag in ("v3.5.9", "v3.4.1", "v3.7.0-rc.0")]
    _seed(run_syncer, files, source, old, *expected, *others)
    done = run_syncer(*_short("newest.yaml", {"quay.io": old, "harbor.example.com": new}, files.folder))
    assert done.returncode == 0, done.stderr
    assert set(tags(new.storage)) == {f"mirror/{image}" for image in expected}
    assert set(expected) == {
        key.removeprefix("quay.io/") for key in json.loads((LESS_WRITING / "newest.before.json").read_text())
    }


def test_all_repositories_of_a_project_are_copied(run_syncer, registry, source, files):
    old, new = registry(), registry()
    _seed(run_syncer, files, source, old, "team/app:1", "team/tools/builder:2", "teams/other:3")
    hosts = {"harbor.old.example.com": old, "harbor.new.example.com": new}
    done = run_syncer(*_short("namespace.yaml", hosts, files.folder))
    assert done.returncode == 0, done.stderr
    assert set(tags(new.storage)) == {"team/app:1", "team/tools/builder:2"}


def test_plain_list_is_copied_to_one_place(run_syncer, registry, source, files):
    old, new = registry(), registry()
    images = ("prometheus/node-exporter:v1.8.2", "acme/portal:5")
    _seed(run_syncer, files, source, old, *images)
    hosts = dict.fromkeys(("quay.io", "ghcr.io"), old) | {"harbor.example.com": new}
    arguments = _short("one-place.txt", hosts, files.folder)
    listed = "".join(
        line
        for line in (files.folder / "one-place.txt").read_text().splitlines(keepends=True)
        if old.host in line
    )
    (files.folder / "one-place.txt").write_text(listed)

    done = run_syncer(*arguments, "--to", f"{new.host}/mirror")

    assert done.returncode == 0, done.stderr
    judge(old, new, [(image, f"mirror/{image.rpartition('/')[2]}") for image in images])
    again = run_syncer(
        "copy", f"{old.host}/acme/portal:5", *arguments[:2], "--to", f"{new.host}/{{path|_}}:{{tag}}-x"
    )
    assert again.returncode == 0, again.stderr
    judge(old, new, [("acme/portal:5", "acme_portal:5-x")])


def _short(name, hosts, folder):
    """Put a short form into `folder`, its hosts replaced by registries of this machine. Returns the arguments."""
    text = (LESS_WRITING / name).read_text()
    for host, registry in hosts.items():
        text = text.replace(host, registry.host)
    (folder / name).write_text(text)
    auth = {registry.host: registry.auth_entry for registry in hosts.values()}
    (folder / "auth.json").write_text(json.dumps(auth))
    return ["--auth", str(folder / "auth.json"), "--images", str(folder / name)]


def _renamed(image, new_names):
    repository, _, tag = image.partition(":")
    return f"{new_names.get(repository, repository)}:{tag}"


def _copy(name, hosts, folder):
    """Put an example into `folder`, its hosts replaced by registries of this machine. Returns its variables."""
    texts = {each: (EXAMPLES / name / f"{each}.yaml").read_text() for each in ("auth", "images")}
    variables = set(re.findall(r"\$\{(\w+)}", "".join(texts.values())))
    for host, registry in hosts.items():
        texts = {each: text.replace(host, registry.host) for each, text in texts.items()}
    auth = yaml.safe_load(texts["auth"])
    for entry in auth.values():
        if "password_file" in entry:
            (folder / entry["password_file"]).write_text("secret")
        if hosts:
            entry.pop("ca_file", None)
    for registry in hosts.values():
        auth[registry.host] = auth.get(registry.host, {}) | registry.auth_entry
    (folder / "auth.yaml").write_text(yaml.safe_dump(auth) if hosts else texts["auth"])
    (folder / "images.yaml").write_text(texts["images"])
    return variables


def _seed(run_syncer, files, source, registry, *images):
    """Push some image of the corpus under each name."""
    rules = {
        f"{source.registry.host}/{here.name}": f"{registry.host}/{there}"
        for here, there in zip(source.corpus.images, images, strict=False)
    }
    assert len(rules) == len(images)
    done = run_syncer(*files(rules, source.registry, registry))
    assert done.returncode == 0, done.stderr
