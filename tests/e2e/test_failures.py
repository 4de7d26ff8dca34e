"""The failure of an image stops no other image, is reported in one line, and is fixed by another run."""

import pytest
import yaml

from tests.e2e.jobs import last_line, lines_with, names, read_json
from tests.support.judge import judge, raw_manifest, whole


def test_a_missing_source_fails_alone(source, registry, files, run_syncer):
    destination = registry()
    rules = source.corpus.rules(source.registry.host, destination.host)
    missing = f"{source.registry.host}/no/such"

    done = run_syncer(
        "sync", *files({missing: f"{destination.host}/no/such"} | rules, source.registry, destination)
    )

    assert done.returncode == 1
    judge(source.registry, destination, names(source.corpus))
    (line,) = lines_with("error", done.stderr)
    for told in (missing, f"{destination.host}/no/such", "404 not found", "GET tags"):
        assert told in line
    assert last_line(done.stderr).startswith("Synchronization finished, 1 tasks failed, cost ")


def test_a_missing_tag_fails_alone(source, registry, files, run_syncer):
    destination = registry()
    host, repository = source.registry.host, source.corpus.repositories[0]
    rules = {f"{host}/{repository}:1.0,9.9,1.1": f"{destination.host}/{repository}"}

    done = run_syncer("sync", *files(rules, source.registry, destination))

    assert done.returncode == 1
    (line,) = lines_with("error", done.stderr)
    assert f"{repository}:9.9" in line
    assert "404 not found" in line
    assert whole(destination) == 2


def test_a_rule_that_matches_nothing_is_a_warning(source, registry, files, run_syncer):
    destination = registry()
    host, repository = source.registry.host, source.corpus.repositories[0]

    done = run_syncer(
        "sync",
        *files({f"{host}/{repository}:/^none$/": f"{destination.host}/a"}, source.registry, destination),
    )

    assert done.returncode == 0
    assert "no tag" in lines_with("warning", done.stderr)[0]


def test_unreachable_registry_is_reported_and_fails_no_other_image(source, registry, files, run_syncer):
    up, down = registry(), registry()
    down.stop()
    repository = source.corpus.repositories[0]
    rules = {
        f"{source.registry.host}/{repository}:1.0": f"{down.host}/app",
        f"{source.registry.host}/{repository}:1.1": f"{up.host}/app",
    }

    done = run_syncer("sync", *files(rules, source.registry, up, down), "--retries", "1")

    assert done.returncode == 1
    assert whole(up) == 1
    (line,) = lines_with("error", done.stderr)
    assert "cannot connect" in line
    assert down.host in line
    assert "trying again may help" in line


def test_earlier_rule_wins_a_conflict_over_one_tag(registry, files, fill, run_syncer):
    source, destination = registry(), registry()
    corpus = fill(source)
    first, second = corpus.repositories
    rules = {f"{source.host}/{name}": f"{destination.host}/app" for name in (first, second)}

    done = run_syncer("sync", *files(rules, source, destination))

    assert done.returncode == 1
    (line,) = lines_with("error", done.stderr)
    assert "another rule already writes" in line
    assert raw_manifest(destination, "app:1.0") == raw_manifest(source, f"{first}:1.0")


@pytest.fixture
def troubled(registry, fill):
    """A source, and destinations that are fine, read-only, and closed to whom has a wrong password."""
    source, fine, frozen, guarded = (
        registry(),
        registry(),
        registry(read_only=True),
        registry(auth="htpasswd"),
    )
    return source, fill(source), fine, frozen, guarded


def test_failed_list_copies_only_the_missing_images(troubled, files, run_syncer, tmp_path):
    source, corpus, fine, frozen, guarded = troubled
    first, second = (f"{source.host}/{name}" for name in corpus.repositories)
    rules = {
        f"{first}:1.0,late": f"{fine.host}/first",
        f"{second}:1.0": {"to": f"{frozen.host}/second", "platforms": ["linux/amd64"]},
        first: [f"{fine.host}/all", f"{guarded.host}/all"],
    }
    failed, report = tmp_path / "failed.yaml", tmp_path / "report.json"
    wrong = {guarded.host: guarded.auth_entry | {"password": "wrong"}}

    done = run_syncer(
        "sync",
        *files(rules, source, fine, frozen, auth=wrong),
        *("--output-failed-images", failed, "--report", report),
    )

    assert done.returncode == 1
    kinds = {image["error"]["kind"] for image in read_json(report)["images"] if "error" in image}
    assert kinds == {"not_found", "unsupported", "unauthorized"}
    listed = yaml.safe_load(failed.read_text())
    assert f"{first}:late" in listed
    assert listed[f"{second}:1.0"] == {"to": f"{frozen.host}/second:1.0", "platforms": ["linux/amd64"]}

    _tag(source, corpus.repositories[0], "1.0", "late")
    frozen.read_only = False
    frozen.restart()
    for each in (source, fine, frozen, guarded):
        each.clear_access_log()
    arguments = files({}, source, fine, frozen, guarded)[:2]
    again = run_syncer("sync", *arguments, "--images", failed)

    assert again.returncode == 0, again.stderr
    assert raw_manifest(fine, "first:late") == raw_manifest(source, f"{corpus.repositories[0]}:1.0")
    assert whole(frozen) == 1
    judge(source, guarded, [(f"{corpus.repositories[0]}:1.1", "all:1.1")])
    pushed = {(each.repository, each.reference) for each in fine.access_log() if each.method == "PUT"}
    assert pushed == {("first", "late")}


def _tag(registry, repository, tag, further):
    """Give an image one more tag."""
    with registry.client() as client:
        accept = {"accept": "application/vnd.oci.image.index.v1+json"}
        found = client.get(f"/v2/{repository}/manifests/{tag}", headers=accept)
        found.raise_for_status()
        put = client.put(
            f"/v2/{repository}/manifests/{further}",
            content=found.content,
            headers={"content-type": found.headers["content-type"]},
        )
        put.raise_for_status()
