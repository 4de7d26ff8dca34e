"""The history: what was kept, what is bounded, what a crash leaves."""

import json

import pytest

from syncer.state.database import open_database
from syncer.state.history import Bounds, History, gzip_of, unpacked

TOTALS = {"images": {"synced": 1, "skipped": 0, "failed": 0}}


class Clock:
    def __init__(self) -> None:
        self.time = 1_000_000.0

    def __call__(self) -> float:
        return self.time


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def database():
    database = open_database(None)
    yield database
    database.close()


@pytest.fixture
def history(database, clock):
    return History(database, now=clock)


def summary(run_id, outcome=None):
    return {
        "id": run_id,
        "trigger": "schedule",
        "started": "2026-11-21T03:00:00Z",
        "finished": outcome and "2026-11-21T03:01:00Z",
        "outcome": outcome,
        "totals": TOTALS,
    }


def run(history, run_id, outcome="success", rules=None, report=b'{"run":1}'):
    history.begin(summary(run_id))
    history.finish(summary(run_id, outcome), gzip_of(report), rules or {})


def ids(history, *args, **kwargs):
    return [json.loads(text)["id"] for text in history.summaries(*args, **kwargs)]


def report(history, run_id):
    packed = history.report(run_id)
    return None if packed is None else json.loads(b"".join(unpacked(packed)))


def test_runs_come_newest_first_page_by_page(history, clock):
    for number in range(5):
        clock.time += 10
        run(history, f"r{number}")
    assert ids(history, 2) == ["r4", "r3"]
    assert ids(history, 2, before="r3") == ["r2", "r1"]
    assert ids(history, 9, before=clock.time - 25) == ["r1", "r0"]
    with pytest.raises(KeyError):
        history.summaries(2, before="unknown")


def test_a_run_is_there_while_it_goes_on(history):
    history.begin(summary("r"))
    assert json.loads(history.summaries(1)[0])["outcome"] is None
    assert history.outcome("r") is None
    assert history.report("r") is None
    history.finish(summary("r", "partial"), gzip_of(b'{"a":1}'), {})
    assert json.loads(history.summaries(1)[0]) == summary("r", "partial")
    assert history.outcome("r") == "partial"
    assert report(history, "r") == {"a": 1}


def test_run_of_a_crashed_process_is_interrupted_at_its_last_update(tmp_path, clock):
    database = open_database(tmp_path)
    history = History(database, now=clock)
    run(history, "whole")
    history.begin(summary("cut"))
    clock.time += 100
    history.touch(summary("cut") | {"totals": {"images": {"synced": 7}}})
    database.close()
    clock.time += 5000

    database = open_database(tmp_path)
    history = History(database, now=clock)
    assert history.close_unfinished() == ["cut"]
    assert history.close_unfinished() == []
    cut = json.loads(history.summaries(1)[0])
    assert (cut["outcome"], cut["finished"]) == ("interrupted", "1970-01-12T13:48:20Z")
    assert cut["totals"]["images"]["synced"] == 7
    assert set(report(history, "cut")) == {"run", "images", "totals"}
    assert ids(history, 5) == ["cut", "whole"]
    database.close()


def test_it_is_bounded_by_count(database, clock):
    history = History(database, bounds=Bounds(runs=3), now=clock)
    for number in range(10):
        run(history, f"r{number}")
    assert ids(history, 99) == ["r9", "r8", "r7"]


def test_it_is_bounded_by_age(database, clock):
    history = History(database, bounds=Bounds(seconds=100), now=clock)
    run(history, "old", rules={"gone": "success"})
    clock.time += 60
    run(history, "middle", rules={"source": "failure"})
    clock.time += 60
    run(history, "new")
    assert ids(history, 99) == ["new", "middle"]
    assert set(history.rule_results()) == {"source"}


def test_it_is_bounded_by_size_but_keeps_the_newest(database, clock):
    history = History(database, bounds=Bounds(nbytes=10), now=clock)
    for number in range(3):
        run(history, f"r{number}", report=b'"a report of more than ten bytes"')
    assert ids(history, 99) == ["r2"]


def test_it_knows_when_each_rule_succeeded_last(history, clock):
    run(history, "1", rules={"a": "success", "b": "failure"})
    clock.time += 10
    run(history, "2", rules={"a": "partial"})
    results = history.rule_results()
    assert results["a"].outcome == "partial"
    assert results["a"].run == "2"
    assert results["a"].finished - results["a"].succeeded == 10
    assert results["b"].succeeded is None


def test_it_knows_when_runs_succeeded_and_ended_last(history, clock):
    assert history.last_times() == (None, None)
    run(history, "1")
    clock.time += 10
    run(history, "2", "partial")
    clock.time += 10
    run(history, "3", "interrupted")
    assert history.last_times() == (clock.time - 20, clock.time - 10)


def test_a_large_report_comes_in_pieces(history):
    large = json.dumps(["x" * 1000] * 3000).encode()
    run(history, "r", report=large)
    pieces = list(unpacked(history.report("r")))
    assert len(pieces) > 1
    assert b"".join(pieces) == large
