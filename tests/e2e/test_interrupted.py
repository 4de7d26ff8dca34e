"""Interrupted runs: the destination is consistent, and the next run continues."""

import random
import signal
import socket
import time

import pytest
import yaml

from benchmarks.corpus import FOR_TESTS
from syncer.cli import exits
from tests.e2e.jobs import (
    gets,
    last_line,
    lines_with,
    names,
    read_json,
    slowed,
    stored_blobs,
    tags,
    wait_for,
    watch,
    whole_now,
)
from tests.support.judge import judge, whole

BLOBS, MANIFESTS = 82, 24  # of the small corpus
MOMENTS = random.Random("five moments").sample(range(1, BLOBS + MANIFESTS - 4), 5)
"""How many blobs and manifests have arrived when the run is killed."""


@pytest.mark.parametrize("moment", MOMENTS)
def test_killed_run_leaves_only_complete_tags_and_the_next_run_completes(
    source, registry, files, program, moment
):
    destination = registry()
    rules = source.corpus.rules(source.registry.host, destination.host)
    slow = files(rules, destination, auth=slowed(source.registry, "1.5MiB"))

    running = program.start("sync", *slow, "--proc", "6")
    watch(running, destination.storage, until=lambda: stored_blobs(destination.storage) >= moment)
    assert running.poll() is None, "it was not killed, it had ended"
    running.kill()
    running.wait()
    left = whole_now(destination.storage)
    again = program.run("sync", *files(rules, source.registry, destination), "--retries", "3")

    assert left < len(source.corpus.images)
    assert again.returncode == 0, again.stderr
    assert whole_now(destination.storage) == len(source.corpus.images)
    assert tags(destination.storage) == tags(source.registry.storage)


def test_full_corpus_is_consistent_at_every_moment_of_a_killed_run(full_source, registry, files, program):
    destination = registry()
    corpus = full_source.corpus
    arguments = files(
        corpus.rules(full_source.registry.host, destination.host), full_source.registry, destination
    )
    moment = random.Random("one moment").randrange(100, len(corpus.blobs))

    killed = program.start("sync", *arguments, "--proc", "6")
    watch(killed, destination.storage, until=lambda: stored_blobs(destination.storage) >= moment)
    assert killed.poll() is None, "it was not killed, it had ended"
    killed.kill()
    killed.wait()
    # The registry logs aborted requests late. They must not count for the next run.
    full_source.registry.restart()
    full_source.registry.clear_access_log()
    again = program.start("sync", *arguments, "--proc", "6", "--retries", "3")
    watch(again, destination.storage, until=lambda: False)

    assert again.wait() == 0, again.read_stderr()
    assert whole_now(destination.storage) == len(corpus.images)
    judge(full_source.registry, destination, names(corpus))
    fetched = gets(full_source.registry.access_log(), "blob")
    assert max(fetched.values()) == 1


def test_all_kinds_of_images_are_in_the_corpus_that_is_killed(source):
    assert len(source.corpus.blobs) == BLOBS
    assert len(source.corpus.manifests) == MANIFESTS
    assert {image.kind for image in source.corpus.images} == set(FOR_TESTS.kinds)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_stops_a_run_gracefully_and_the_next_run_continues(source, registry, files, program, number):
    destination = registry()
    rules = source.corpus.rules(source.registry.host, destination.host)
    slow = files(rules, destination, auth=slowed(source.registry, "600KiB"))
    success, failed, report = (program.folder / name for name in ("went.yaml", "rest.yaml", "report.json"))
    lists = ("--output-success-images", success, "--output-failed-images", failed, "--report", report)

    running = program.start("sync", *slow, "--proc", "2", *lists)
    wait_for(lambda: whole_now(destination.storage) >= 2, running)
    running.send_signal(number)
    assert running.wait(timeout=30) == 3
    told = running.read_stderr()
    arrived = whole(destination)
    again = program.run("sync", *files(yaml.safe_load(failed.read_text()), source.registry, destination))

    assert f"received {number.name}: waiting for running tasks" in told
    images = read_json(report)["images"]
    rest = [image for image in images if image["outcome"] == "failed"]
    assert {image["error"]["kind"] for image in rest} == {"interrupted"}
    assert last_line(told).startswith(f"Synchronization finished, {len(rest)} tasks failed, cost ")
    assert len(images) == len(source.corpus.images)
    assert arrived == len(images) - len(rest) == len(yaml.safe_load(success.read_text()))
    assert len(rest) == len(yaml.safe_load(failed.read_text())) > 0
    assert again.returncode == 0, again.stderr
    assert tags(destination.storage) == tags(source.registry.storage)


def test_signal_finishes_running_transfers_and_starts_no_others(source, registry, files, program):
    destination = registry()
    rules = source.corpus.rules(source.registry.host, destination.host)
    slow = files(rules, destination, auth=slowed(source.registry, "300KiB"))

    running = program.start("sync", *slow, "--proc", "1", "--log-level", "debug")
    wait_for(lambda: whole_now(destination.storage) >= 1, running)
    running.send_signal(signal.SIGTERM)
    assert running.wait(timeout=30) == 3

    before, _, after = running.read_stderr().partition("received SIGTERM: waiting")
    assert "/blobs/sha256:" in before
    assert (
        after.count("GET ") <= 6
    )  # what was under way: one transfer and four short tasks, and their answers
    assert not lines_with("error", before)


def test_second_signal_stops_immediately(source, registry, files, program):
    destination = registry()
    rules = source.corpus.rules(source.registry.host, destination.host)
    slow = files(rules, destination, auth=slowed(source.registry, "20KiB"))

    running = program.start("sync", *slow)
    wait_for(lambda: stored_blobs(destination.storage) >= 1, running)
    running.send_signal(signal.SIGTERM)
    wait_for(lambda: "send it again to stop immediately" in running.read_stderr(), running)
    started = time.monotonic()
    running.send_signal(signal.SIGTERM)

    assert running.wait(timeout=30) == 3
    assert time.monotonic() - started < 5
    whole_now(destination.storage)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("option", ["--metrics-push", "--notify"])
def test_signal_after_the_run_ends_what_is_sent_and_keeps_the_exit_code(
    registry, files, program, option, number
):
    origin = registry()
    report = files.folder / "report.json"
    arguments = files({f"{origin.host}/missing:1": f"{origin.host}/copy"}, origin)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(60)
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        running = program.start("sync", *arguments, "--retries", "0", "--report", report, option, url)
        connection, _ = silent.accept()
        with connection:
            running.send_signal(number)
            assert running.wait(timeout=60) == exits.FAILED
    assert read_json(report)["totals"]["images"]["failed"] == 1
    log = running.read_stderr()
    assert "not everything was sent: stopped by a signal" in log
    assert "Synchronization finished, 1 tasks failed" in last_line(log)
