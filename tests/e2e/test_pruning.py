"""`--prune` against docker-registry: what goes, the plan, the report, the metric and the exit code."""

import pytest

from tests.e2e.jobs import read_json
from tests.e2e.test_kept_tags import push_image

RULE = {"limit": "50%"}


@pytest.fixture
def mirror(registry, files, run_syncer, tmp_path):
    """`mirror(delete=…)` copies the tags 1, 2, 3 and 4, removes 1 at the source, and returns how to run it again."""

    def make(**options):
        made = registry(**options)
        host = made.host
        for tag in "1234":
            push_image(made, "source/app", tag, b"same" if tag in "23" else tag.encode())
        arguments = files({f"{host}/source/app:1,2,3,4": {"to": f"{host}/mirror/app", "prune": RULE}}, made)
        state = ["--state-dir", tmp_path / "state"]
        assert run_syncer("sync", *arguments, *state).returncode == 0
        arguments = files({f"{host}/source/app:3,4": {"to": f"{host}/mirror/app", "prune": RULE}}, made)
        return made, lambda command, *more: run_syncer(command, *arguments, *state, *more)

    return make


def tags_of(registry):
    with registry.client() as client:
        return client.get("/v2/mirror/app/tags/list").json()["tags"]


def test_manifest_without_other_tags_is_removed(mirror, tmp_path):
    registry, run = mirror()
    report, metrics = tmp_path / "report.json", tmp_path / "metrics.prom"

    planned = run("plan")
    assert planned.returncode == 0
    assert f"remove {registry.host}/mirror/app:1 (" in planned.stdout
    assert f"not removed: {registry.host}/mirror/app:2: 3 names the same manifest" in planned.stdout
    assert sorted(tags_of(registry)) == ["1", "2", "3", "4"]

    done = run("sync", "--prune", "--report", report, "--metrics-file", metrics)
    assert done.returncode == 0, done.stderr
    assert sorted(tags_of(registry)) == ["2", "3", "4"]
    (removed,) = read_json(report)["pruned"]
    assert removed["destination"] == f"{registry.host}/mirror/app:1"
    assert removed["digest"].startswith("sha256:")
    assert "no rule selects it" in removed["reason"]
    assert f'syncer_tags_pruned_total{{destination="{registry.host}"}} 1.0' in metrics.read_text()


def test_registry_that_forbids_deletion_fails_the_run(mirror, tmp_path):
    registry, run = mirror(delete=False)
    metrics, report = tmp_path / "metrics.prom", tmp_path / "report.json"
    done = run("sync", "--prune", "--metrics-file", metrics, "--report", report)
    assert done.returncode == 1
    assert done.stderr.count("could not be removed") == 1
    assert "REGISTRY_STORAGE_DELETE_ENABLED" in done.stderr
    error = read_json(report)["run"]["error"]
    assert error.startswith(f"1 tag could not be removed: {registry.host}/mirror/app:1: DELETE")
    assert f'syncer_prune_failures_total{{destination="{registry.host}"}} 1.0' in metrics.read_text()
    assert sorted(tags_of(registry)) == ["1", "2", "3", "4"]


def test_failed_list_with_prune_keeps_the_tags_that_went_through(registry, files, run_syncer, tmp_path):
    made = registry()
    push_image(made, "source/app", "1", b"one")
    target = f"{made.host}/mirror/app"
    rules = {f"{made.host}/source/app:1,2": {"to": target, "prune": {"limit": "100%", "foreign": True}}}
    arguments = files(rules, made)
    state = ["--state-dir", tmp_path / "state"]
    failed = tmp_path / "failed.yaml"
    first = run_syncer("sync", *arguments, *state, "--prune", "--output-failed-images", failed)
    assert first.returncode == 1
    push_image(made, "source/app", "2", b"two")

    auth = arguments[:2] if arguments[0] == "--auth" else arguments[2:]
    again = run_syncer("sync", *auth, "--images", failed, *state, "--prune")

    assert again.returncode == 0, again.stderr
    assert sorted(tags_of(made)) == ["1", "2"]
