"""A rule with several destinations: one download, and destinations do not affect each other."""

import pytest

from benchmarks.counting import kind
from tests.e2e.jobs import gets, lines_with, read_json, slowed, stored_blobs, wait_for
from tests.support.judge import judge, whole


def _pairs(source, places):
    return [
        (image.name, f"{place}:{image.tag}")
        for image in source.corpus.images
        for place in places
        if image.repository == source.corpus.repositories[0]
    ]


def test_everything_is_downloaded_once_for_all_destinations(source, registry, files, run_syncer, tmp_path):
    one, other = registry(), registry()
    name = source.corpus.repositories[0]
    rules = {f"{source.registry.host}/{name}": [f"{one.host}/a", f"{one.host}/b", f"{other.host}/c"]}
    source.registry.clear_access_log()

    done = run_syncer(
        "sync", *files(rules, source.registry, one, other), "--report", tmp_path / "report.json"
    )

    assert done.returncode == 0, done.stderr
    requests = source.registry.access_log()
    for endpoint in ("blob", "manifest"):
        assert set(gets(requests, endpoint).values()) == {1}
    judge(source.registry, one, _pairs(source, ["a", "b"]))
    judge(source.registry, other, _pairs(source, ["c"]))
    blobs = read_json(tmp_path / "report.json")["totals"]["blobs"]
    assert blobs["copied"] == 2 * gets(requests, "blob").total()
    assert blobs["mounted"] == gets(requests, "blob").total()


def test_unreachable_destination_does_not_block_the_other(source, registry, files, run_syncer, tmp_path):
    up, down = registry(), registry()
    down.stop()
    name = source.corpus.repositories[0]
    rules = {f"{source.registry.host}/{name}": [f"{up.host}/app", f"{down.host}/app"]}
    arguments = files(rules, source.registry, up, down)
    failed = ("--output-failed-images", tmp_path / "failed.yaml")

    done = run_syncer("sync", *arguments, "--retries", "0", *failed)
    down.start()
    again = run_syncer("sync", *arguments[:2], "--images", tmp_path / "failed.yaml")

    assert done.returncode == 1
    judge(source.registry, up, _pairs(source, ["app"]))
    assert {down.host in line for line in lines_with("error", done.stderr)} == {True}
    assert again.returncode == 0, again.stderr
    judge(source.registry, down, _pairs(source, ["app"]))


def test_destination_that_fails_during_the_run_does_not_block_the_other(
    source, registry, files, start_syncer
):
    up, going = registry(), registry()
    name = f"{source.corpus.repositories[0]}:1.3"
    rules = {f"{source.registry.host}/{name}": [f"{up.host}/app", f"{going.host}/app"]}
    slow = files(rules, up, going, auth=slowed(source.registry, "300KiB"))

    running = start_syncer("sync", *slow, "--retries", "0")
    wait_for(lambda: stored_blobs(going.storage) >= 2, running)
    going.stop()

    assert running.wait(timeout=90) == 1
    judge(source.registry, up, [(name, "app:1.3")])
    going.start()
    assert whole(going) == 0


@pytest.mark.parametrize("trusted", [False, True], ids=["asked", "trusted"])
def test_source_is_checked_for_a_mounted_blob_unless_trusted(registry, fill, files, run_syncer, trusted):
    source, destination = registry(), registry()
    corpus = fill(source)
    source.clear_access_log()

    done = run_syncer(
        "sync",
        *files(corpus.rules(source.host, destination.host), source, destination),
        *(["--trust-sources"] if trusted else []),
    )

    assert done.returncode == 0, done.stderr
    judge(source, destination, [(image.name, image.name) for image in corpus.images])
    mounts = {each.path for each in destination.access_log() if kind(each) == "POST mount"}
    heads = [each for each in source.access_log() if each.method == "HEAD"]
    assert mounts
    assert {each.endpoint for each in heads} <= {"blob"}
    assert len(heads) == (0 if trusted else len(mounts))
