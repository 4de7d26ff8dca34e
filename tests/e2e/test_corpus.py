"""A typical job: 60 images, 300 MB, from one docker-registry to another."""

import re
from collections import Counter
from dataclasses import dataclass
from subprocess import CompletedProcess
from typing import Any

import pytest

from benchmarks.counting import kind
from tests.e2e.jobs import JobFiles, gets, last_line, methods, names, read_json
from tests.support.judge import judge, whole_storage
from tests.support.program import Program
from tests.support.registries import Registry, Request, Source


@dataclass
class Step:
    """One run: how it ended, its report, and what both registries were asked."""

    done: CompletedProcess[str]
    report: Any
    at_source: list[Request]
    at_destination: list[Request]


@dataclass
class Story:
    source: Source
    destination: Registry
    plan_before: Step
    first: Step
    plan_after: Step
    second: Step


@pytest.fixture(scope="module")
def story(full_source: Source, scratch, tmp_path_factory):
    """Plan, sync, plan and sync again, onto a destination that was empty."""
    folder = tmp_path_factory.mktemp("story")
    destination = Registry(folder=scratch / "story", storage=scratch / "story/storage")
    destination.start()
    program = Program(folder)
    rules = full_source.corpus.rules(full_source.registry.host, destination.host)
    arguments = JobFiles(folder)(rules, full_source.registry, destination)

    def step(command: str) -> Step:
        full_source.registry.clear_access_log()
        destination.clear_access_log()
        report = folder / "report.json"
        done = program.run(command, *arguments, "--proc", "6", "--retries", "3", "--report", report)
        return Step(done, read_json(report), full_source.registry.access_log(), destination.access_log())

    try:
        yield Story(full_source, destination, step("plan"), step("sync"), step("plan"), step("sync"))
    finally:
        destination.close()
        program.close()


def test_every_image_arrives_with_its_digest_and_all_its_blobs(story):
    assert story.first.done.returncode == 0, story.first.done.stderr
    judge(story.source.registry, story.destination, names(story.source.corpus))
    assert whole_storage(story.destination.storage) == 60


def test_each_unique_blob_is_fetched_once(story):
    assert gets(story.first.at_source, "blob") == dict.fromkeys(story.source.corpus.blobs, 1)


def test_each_manifest_is_fetched_once_and_needs_no_head(story):
    assert gets(story.first.at_source, "manifest").total() == len(story.source.corpus.manifests)
    assert {each.endpoint for each in story.first.at_source if each.method == "HEAD"} <= {"blob"}


def test_source_gets_one_request_for_each_mounted_blob(story):
    asked = [each.path for each in story.first.at_source if each.method == "HEAD"]
    assert len(asked) == len(set(asked)) <= story.first.report["totals"]["blobs"]["mounted"]


def test_each_blob_is_uploaded_once_and_then_mounted(story):
    uploads = [each for each in story.first.at_destination if each.endpoint == "upload"]
    mounts = [each for each in uploads if kind(each) == "POST mount"]
    sent = [each for each in uploads if each.method in {"PUT", "PATCH"}]
    assert len(sent) == len(story.source.corpus.blobs)
    assert len(mounts) == story.first.report["totals"]["blobs"]["mounted"] > 0
    assert {each.status for each in mounts} == {201}
    assert sum(each.method == "POST" for each in uploads) == len(sent) + len(mounts)


def test_the_log_ends_as_scripts_expect_it(story):
    assert re.fullmatch(
        r"Synchronization finished, 0 tasks failed, cost \S+s\.", last_line(story.first.done.stderr)
    )


def test_a_second_run_changes_nothing_and_fetches_nothing(story):
    assert story.second.done.returncode == 0, story.second.done.stderr
    assert story.second.report["totals"]["images"] == {"synced": 0, "skipped": 60, "failed": 0}
    for requests in (story.second.at_source, story.second.at_destination):
        assert methods(requests) <= {"GET", "HEAD"}
        assert not gets(requests, "blob")
        assert not gets(requests, "manifest")


def test_second_run_sends_one_request_per_tag_to_each_side(story):
    wanted = Counter((image.repository, image.tag) for image in story.source.corpus.images)
    for requests in (story.second.at_source, story.second.at_destination):
        asked = Counter((each.repository, each.reference) for each in requests if each.method == "HEAD")
        assert asked == wanted
        assert {each.endpoint for each in requests if each.method == "GET"} <= {"tags"}
        assert sum(each.method == "GET" for each in requests) <= len(story.source.corpus.repositories)


def test_plan_for_an_empty_destination_matches_the_run(story):
    _agree(story.plan_before.report, story.first.report)
    assert story.plan_before.report["totals"]["blobs"]["copied"] == len(story.source.corpus.blobs)


def test_plan_for_a_complete_destination_has_nothing_to_do(story):
    _agree(story.plan_after.report, story.second.report)
    assert {image["plan"]["action"] for image in story.plan_after.report["images"]} == {"none"}


def test_plan_for_a_partial_destination_matches_the_run(full_source, registry, files, run_syncer, tmp_path):
    destination = registry()
    rules = full_source.corpus.rules(full_source.registry.host, destination.host)
    half = dict(list(rules.items())[: len(rules) // 2])
    assert run_syncer("sync", *files(half, full_source.registry, destination)).returncode == 0
    arguments = files(rules, full_source.registry, destination)
    planned, done = tmp_path / "plan.json", tmp_path / "sync.json"

    destination.clear_access_log()
    assert run_syncer("plan", *arguments, "--report", planned).returncode == 0
    asked = destination.access_log()
    assert run_syncer("sync", *arguments, "--report", done).returncode == 0

    assert methods(asked) <= {"GET", "HEAD"}
    _agree(read_json(planned), read_json(done))
    assert read_json(done)["totals"]["images"] == {"synced": 30, "skipped": 30, "failed": 0}
    assert whole_storage(destination.storage) == 60


def test_plan_only_reads(story):
    for step in (story.plan_before, story.plan_after):
        assert step.done.returncode == 0
        assert methods(step.at_destination) <= {"GET", "HEAD"}
        assert not gets(step.at_source, "blob")


def test_plan_table_has_the_same_totals(story):
    blobs = story.plan_before.report["totals"]["blobs"]
    lines = story.plan_before.done.stdout.splitlines()
    assert len([line for line in lines if line.startswith("copy ")]) == 60
    assert lines[-2] == "60 images: 60 to copy"
    assert lines[-1].startswith(f"{blobs['copied']} blobs to copy, {blobs['mounted']} to mount")


def _agree(planned: Any, done: Any) -> None:
    """A plan and the run after it tell the same of every image, and the same totals."""
    assert planned["run"]["dry_run"] is True
    for total in ("images", "blobs", "bytes"):
        assert planned["totals"][total] == done["totals"][total]

    def told(report: Any) -> list[Any]:
        fields = ("source", "destination", "digest", "previous_digest", "outcome")
        return [[image[name] for name in fields] for image in report["images"]]

    assert told(planned) == told(done)
    assert sum(image["plan"]["bytes"] for image in planned["images"]) == sum(
        image["bytes"] for image in done["images"]
    )
