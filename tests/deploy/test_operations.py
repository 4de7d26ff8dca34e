"""docs/operations.md: explains every metric and every failure, and its commands name what there is."""

import re
from pathlib import Path

import pytest

from syncer.errors import RETRYABLE_KINDS, Kind
from tests.deploy.manifests import OVERLAYS, find, pods
from tests.deploy.promql import METRICS

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "operations.md").read_text()


def section(title: str) -> str:
    found = re.search(rf"^## {title}\n(.*?)(?=^## |\Z)", TEXT, re.MULTILINE | re.DOTALL)
    assert found, title
    return found[1]


@pytest.mark.parametrize("page", ["docs/operations.md", "deploy/README.md"])
def test_links_lead_somewhere(page):
    path = ROOT / page
    text = path.read_text()
    headings = {
        re.sub(r"[^\w-]", "", line.lower().replace(" ", "-"))
        for line in re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    }
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        name, _, anchor = target.partition("#")
        assert not name or (path.parent / name).exists(), target
        assert name or anchor in headings, target


def test_every_metric_is_explained_with_its_labels():
    told = {
        name: set(filter(None, labels.split(",")))
        for name, labels in re.findall(r"`(syncer_\w+)(?:\{([\w,]*)\})?`", section("Metrics"))
    }
    assert told == METRICS


def test_every_kind_of_failure_is_explained():
    rows = re.findall(
        r"^\| `(\w+)` \| (yes|no) \| (.+) \|$", section("What failed, and what to do"), re.MULTILINE
    )
    assert {kind: passing == "yes" for kind, passing, _ in rows} == {
        kind: kind in RETRYABLE_KINDS for kind in Kind
    }


def test_secrets_are_made_with_the_keys_that_are_read():
    commands = re.findall(r"create secret generic (\S+) (.+)", section("Where to run it"))
    made = {name: set(re.findall(r"--from-(?:file|literal)=([\w-]+)=", rest)) for name, rest in commands}
    read: dict[str, set[str]] = {}
    for pod in pods():
        texts = [*pod.container["args"]]
        for mount in pod.container["volumeMounts"]:
            texts += pod.files_in(mount).values()
        for path in re.findall(r"/run/secrets/[\w/-]+", "\n".join(texts)):
            mount = pod.mount_of(Path(path))
            assert mount, path
            secret = pod.volume(mount["name"])["secret"]["secretName"]
            read.setdefault(secret, set()).add(Path(path).name)
    assert made == read


def test_commands_for_kubernetes_name_what_the_overlays_make():
    for name in re.findall(r"kubernetes/overlays/(\w+)", TEXT):
        assert (OVERLAYS / name / "kustomization.yaml").is_file()
    cronjobs = {name for overlay in ("cronjob", "sharded") for name in find(overlay, "CronJob")}
    named = set(re.findall(r"--from=cronjob/([\w-]+)", TEXT))
    assert named
    assert named <= cronjobs
    assert set(re.findall(r"port-forward service/([\w-]+)", TEXT)) <= set(find("daemon", "Service"))
    assert set(re.findall(r"kubectl.*? -n ([\w-]+)", TEXT)) == set(find("daemon", "Namespace"))
