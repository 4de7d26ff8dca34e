"""Files with rules that cannot all be carried out, and options that complete rules."""

import pytest
import yaml

from tests.e2e.jobs import lines_with, read_json


@pytest.fixture
def job(registry, files, fill):
    """Two registries, the repositories of the first, and the arguments for some rules."""
    source, destination = registry(), registry()
    corpus = fill(source)
    return source, destination, corpus, lambda rules: files(rules, source, destination)


@pytest.fixture
def conflicting(job):
    """Two rules that write one tag, and one more that has nothing to do with them."""
    source, destination, corpus, arguments = job
    images = [image.name for image in corpus.images][:3]
    rules = {
        f"{source.host}/{images[0]}": f"{destination.host}/app:1",
        f"{source.host}/{images[1]}": f"{destination.host}/app:1",
        f"{source.host}/{images[2]}": f"{destination.host}/other:2",
    }
    return arguments(rules), source, destination


def test_rules_in_conflict_fail_and_all_others_run(conflicting, run_syncer, tmp_path):
    arguments, _, destination = conflicting
    lists = "--output-failed-images", "failed.yaml", "--output-success-images", "success.yaml"
    done = run_syncer("sync", *arguments, "--report", tmp_path / "report.json", *lists)
    assert done.returncode == 1
    assert len(lines_with("error", done.stderr)) == 2
    images = read_json(tmp_path / "report.json")["images"]
    assert [image.get("error", {}).get("kind") for image in images] == ["conflict", "conflict", None]
    with destination.client() as client:
        assert client.get("/v2/app/tags/list").status_code == 404
        assert client.get("/v2/other/tags/list").json()["tags"] == ["2"]
    failed = yaml.safe_load((tmp_path / "failed.yaml").read_text())
    assert set(failed.values()) == {f"{destination.host}/app:1"}
    assert list(yaml.safe_load((tmp_path / "success.yaml").read_text()).values()) == [
        f"{destination.host}/other:2"
    ]


def test_check_and_plan_report_a_conflict(conflicting, run_syncer):
    arguments, _, destination = conflicting
    checked = run_syncer("check", *arguments)
    assert checked.returncode == 2
    assert checked.stderr.count("error: ") == 2
    assert f"{destination.host}/app:1 would get" in checked.stderr
    assert "3 rules: 2 problems found" in checked.stdout
    planned = run_syncer("plan", *arguments)
    assert planned.returncode == 1
    assert sum(line.startswith("conflict ") for line in planned.stdout.splitlines()) == 2


def test_a_duplicate_is_told_and_runs_once(job, run_syncer, tmp_path):
    source, destination, corpus, arguments = job
    given = arguments({})
    image = corpus.images[0].name
    line = f'"{source.host}/{image}": "{destination.host}/app"'
    images = given[given.index("--images") + 1]
    (tmp_path / images).write_text(f"{{{line},\n{line}}}")
    done = run_syncer("sync", *given)
    assert done.returncode == 0, done.stderr
    (warning,) = lines_with("warning", done.stderr)
    assert "duplicate of the rule in line 1: it runs once" in warning
    assert "1 synced" in done.stderr


@pytest.mark.parametrize("by", ["options", "variables"])
def test_an_empty_destination_goes_where_the_options_say(job, run_syncer, by):
    source, destination, corpus, arguments = job
    image = corpus.images[0].name
    given = {"options": ["--registry", destination.host, "--namespace", "mirror"]}.get(by, [])
    env = {"DEFAULT_REGISTRY": destination.host, "DEFAULT_NAMESPACE": "mirror"} if by == "variables" else {}
    done = run_syncer("sync", *arguments({f"{source.host}/{image}": ""}), *given, env=env)
    assert done.returncode == 0, done.stderr
    name, _, tag = image.rpartition("/")[2].partition(":")
    with destination.client() as client:
        assert client.get(f"/v2/mirror/{name}/tags/list").json()["tags"] == [tag]


def test_default_places_without_effect_are_told(job, run_syncer):
    _, destination, _, arguments = job
    done = run_syncer("sync", *arguments({}), "--registry", destination.host, "--namespace", "mirror")
    assert done.returncode == 0
    (warning,) = lines_with("warning", done.stderr)
    assert "--registry, --namespace: without effect" in warning
