"""docs/operations.md: explains every metric and every failure, and its commands name what there is."""

import json
import os
import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest

from syncer.errors import RETRYABLE_KINDS, Kind
from tests.deploy.manifests import (
    COMPONENTS,
    KUBECTL,
    KUBERNETES,
    NAMES,
    OVERLAYS,
    kustomize,
    overlay,
    with_components,
)
from tests.deploy.promql import METRICS
from tests.deploy.standards import BY_HAND

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


def blocks(language: str) -> list[str]:
    """The code blocks of a language, without their indentation."""
    found = re.findall(rf"^( *)```{language}\n(.*?)^ *```$", TEXT, re.MULTILINE | re.DOTALL)
    return [re.sub(rf"^{indent}", "", text, flags=re.MULTILINE) for indent, text in found]


COMMANDS = [line for block in blocks("sh") for line in block.replace("|\n", "|").splitlines()]
JOBS = [line for line in COMMANDS if " create job " in line]


@pytest.mark.parametrize("block", blocks("sh"))
def test_a_shell_reads_the_commands(block):
    done = subprocess.run(["bash", "-n"], input=block, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_secrets_are_made_with_the_keys_that_are_read():
    commands = re.findall(r"create secret generic (\S+) (.+)", section("Where to run it"))
    made = {name: set(re.findall(r"--from-(?:file|literal)=([\w-]+)=", rest)) for name, rest in commands}
    read: dict[str, set[str]] = {}
    for name in NAMES:
        for pod in with_components(name, COMPONENTS[name]).pods():
            texts = [*pod.container["args"]]
            for mount in pod.container["volumeMounts"]:
                texts += pod.files_in(mount).values()
            for path in re.findall(r"/run/secrets/[\w/-]+", "\n".join(texts)):
                mount = pod.mount_of(Path(path))
                assert mount, path
                secret = pod.volume(mount["name"])["secret"]["secretName"]
                read.setdefault(secret, set()).add(Path(path).name)
    assert made == read


def test_everything_that_pods_refer_to_is_made_by_a_command():
    for name in BY_HAND - {"image-syncer-state", "image-syncer-reports"}:
        assert re.search(rf"create (secret \S+|configmap) {name} ", TEXT), name
    for path in (KUBERNETES / "setup").iterdir():
        assert f"kubectl apply -f deploy/kubernetes/setup/{path.name}" in TEXT


def test_commands_can_be_repeated():
    made = [line for line in COMMANDS if re.search(r" create (secret|configmap) ", line)]
    assert len(made) == 5
    for line in made:
        assert line.endswith(" --dry-run=client -o yaml | kubectl apply -f -")
    assert len(JOBS) == 4
    for line in JOBS:
        name = re.search(r'create job "([^"]+)"', line)
        assert name, line
        assert "$(date +%s)" in name[1] or 'job="reports-$(date +%s)"' in COMMANDS
    assert not [line for line in COMMANDS if re.search(r" logs job/", line)], "that is the first try"


def job_from(cronjob: str) -> dict[str, Any]:
    """What `kubectl create job --from=cronjob/… --dry-run=client -o json` makes."""
    for name in NAMES:
        if found := overlay(name).find("CronJob").get(cronjob):
            template = found["spec"]["jobTemplate"]
            return {
                "apiVersion": "batch/v1",
                "kind": "Job",
                "metadata": {"name": "j"},
                "spec": template["spec"],
            }
    raise AssertionError(cronjob)


def test_jobs_that_are_changed_before_they_start_become_what_is_said():
    patched = {}
    for line in JOBS:
        cronjob = re.search(r"--from=cronjob/(\S+)", line)
        assert cronjob
        if patch := re.search(r"\| *kubectl (patch --local .*?) *\|", line):
            words = shlex.split(patch[1])
            done = subprocess.run(
                [KUBECTL, *words],
                input=json.dumps(job_from(cronjob[1])),
                capture_output=True,
                text=True,
                check=False,
            )
            assert done.returncode == 0, done.stderr
            patched[cronjob[1]] = json.loads(done.stdout)["spec"]
    first, reader = patched["image-syncer"], patched["image-syncer-merge"]
    assert "activeDeadlineSeconds" not in first
    assert first | {"activeDeadlineSeconds": 21600} == job_from("image-syncer")["spec"]
    container = reader["template"]["spec"]["containers"][0]
    assert (container["command"], container["args"]) == (["sh", "-euc"], ["sleep 600"])


def test_the_example_of_a_kustomization_with_components_works(tmp_path):
    (text,) = [block for block in blocks("yaml") if "kind: Kustomization" in block]
    way = os.path.relpath(ROOT / "deploy", tmp_path.resolve())
    (tmp_path / "kustomization.yaml").write_text(text.replace("../deploy", way))
    kinds = {each["kind"] for each in kustomize(tmp_path.resolve())}
    assert {"Deployment", "PodMonitor", "PrometheusRule"} <= kinds


def test_commands_for_kubernetes_name_what_there_is():
    for name in re.findall(r"kubernetes/overlays/(\w+)", TEXT):
        assert (OVERLAYS / name / "kustomization.yaml").is_file()
    cronjobs = {each for name in NAMES for each in overlay(name).find("CronJob")}
    named = set(re.findall(r"(?:--from=cronjob/|patch cronjob )([\w-]+)", TEXT))
    assert named
    assert named <= cronjobs
    assert set(re.findall(r"port-forward service/([\w-]+)", TEXT)) <= set(overlay("daemon").find("Service"))
    assert set(re.findall(r"kubectl.*? -n ([\w-]+)", TEXT)) == {"image-syncer"}
    components = {pod.labels["app.kubernetes.io/component"] for name in NAMES for pod in overlay(name).pods()}
    selected = set(re.findall(r"app\.kubernetes\.io/component=(\w+)", TEXT))
    assert selected == components - {"daemon"}


def test_deadlines_and_ports_are_those_of_the_manifests():
    for hours, name, cronjob in (
        ("six", "cronjob", "image-syncer"),
        ("20", "sharded", "image-syncer-sharded"),
    ):
        spec = overlay(name).find("CronJob")[cronjob]["spec"]["jobTemplate"]["spec"]
        assert spec["activeDeadlineSeconds"] == {"six": 6, "20": 20}[hours] * 3600
    assert "(six hours; `sharded`: 20)" in TEXT
    for port in (80, 5001, 8080, 8443, 3128):
        assert re.search(rf"\b{port}\b", section("Where to run it")), port
