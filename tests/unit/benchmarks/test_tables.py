"""From runs to tables: medians, ratios, bars."""

from dataclasses import replace

import pytest

from benchmarks import table
from benchmarks.bars import judge
from benchmarks.cases import LONG_PATH, LOOPBACK, ONE_LINE, SKOPEO, SYNCER, CopyCase, ideal_seconds
from benchmarks.counting import Traffic
from benchmarks.results import GIB, CaseResult, Measurement, Outcome, failed, problems
from benchmarks.run import parse, report

CASE = CopyCase("long-cold", "Long path, cold", network=LONG_PATH)
TRAFFIC = Traffic({"GET blob": 3}, {"PUT upload": 2}, GIB, GIB, (1.0, 1.0), 1)


def run(seconds: float, problem: str = "") -> Measurement:
    return Measurement(seconds, 2.0, 50_000_000, TRAFFIC, (12, 7), problem)


def result(ours: list[float], theirs: float, problem: str = "") -> CaseResult:
    outcomes = (
        Outcome(SYNCER, tuple(run(seconds, problem) for seconds in ours), ideal=4.0),
        Outcome(SKOPEO, (run(theirs),), ideal=4.0),
    )
    return CaseResult(CASE, outcomes, units=60, repositories=10, blobs=334)


@pytest.mark.parametrize(
    ("network", "nbytes", "blobs", "proc", "seconds"),
    [
        (LOOPBACK, 300_000_000, 300, 6, None),
        (LONG_PATH, 300_000_000, 300, 6, 4.0),
        (LONG_PATH, 300_000_000, 300, 1, 24.0),
        (LONG_PATH, 300_000_000, 1, 6, 6.0),  # the one upload has 400 Mbit/s
        (ONE_LINE, 300_000_000, 300, 6, 24.0),
    ],
)
def test_the_ideal_is_what_the_narrowest_part_takes(network, nbytes, blobs, proc, seconds):
    assert ideal_seconds(network, nbytes, blobs, proc) == seconds


def test_the_median_run_is_shown_whole_with_the_spread():
    outcome = result([9.0, 5.0, 6.0], 120.0).outcomes[0]
    assert outcome.median.seconds == 6.0
    assert outcome.spread == (5.0, 9.0)
    assert outcome.times_ideal == 1.5


def test_cpu_is_given_by_request_and_by_gib():
    measured = run(6.0)
    assert measured.cpu_ms_per_request == 400.0
    assert measured.cpu_per_gib == 2.0


def test_others_are_compared_with_the_first():
    compared = result([6.0], 120.0)
    assert [compared.ratio(outcome) for outcome in compared.outcomes] == [1.0, 20.0]
    row = table.times([compared]).splitlines()[3]
    assert [cell.strip() for cell in row.split("|")[1:7]] == [
        "long-cold", "skopeo sync --all", "120", "-", "20", "4",
    ]  # fmt: skip


def test_no_speed_is_told_of_a_wrong_copy():
    wrong = result([6.0], 120.0, problem="wrong copy")
    row = table.times([wrong]).splitlines()[2]
    assert "FAILED" in row
    assert "6" not in row
    assert wrong.ratio(wrong.outcomes[1]) is None
    assert not judge([wrong])
    assert problems([wrong]) == ["long-cold, syncer: wrong copy"]
    assert failed([wrong])


def test_another_program_that_was_stopped_took_longer_than_that():
    stopped = replace(run(900.0), problem="stopped after 900 s", timed_out=True)
    outcomes = (result([6.0], 60.0).outcomes[0], Outcome(SKOPEO, (stopped,)))
    cut = CaseResult(CASE, outcomes, 60, 10, 334)
    assert "> 900" in table.times([cut])
    assert problems([cut]) == ["long-cold, skopeo sync --all: stopped after 900 s"]
    assert not failed([cut])


def test_bars_are_judged_where_something_was_measured():
    verdicts = {each.bar.text: each for each in judge([result([6.0], 60.0)])}
    assert verdicts["times the ideal"].held
    assert verdicts["times as fast as skopeo"].value == 10.0
    assert not verdicts["times as fast as skopeo"].held
    assert verdicts["connections open at once to a host"].value == 12
    assert not any(each.bar.case == "small-cold" for each in verdicts.values())


def test_columns_are_even_and_numbers_to_the_right():
    lines = table.render(["case", "s"], [["a", "1"], ["longer", "1,000"]], left=1).splitlines()
    assert lines == [
        "| case   |     s |",
        "| ------ | ----: |",
        "| a      |     1 |",
        "| longer | 1,000 |",
    ]


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "-"), (0, "0"), (0.004, "0.00"), (1.234, "1.23"), (12.34, "12.3"), (1234.5, "1,234")],
)
def test_numbers_are_short(value, text):
    assert table.number(value) == text


def test_the_report_tells_how_to_repeat_it_and_judges_the_full_size_only():
    full, _ = parse(["long-cold", "--runs", "5"])
    assert "`./scripts/bench long-cold --runs 5`" in report([result([6.0], 60.0)], full, {"date": "today"})
    assert "## Bars" in report([result([6.0], 60.0)], full, {"date": "today"})
    small, _ = parse(["--scale", "0.05"])
    assert "## Bars" not in report([result([6.0], 60.0)], small, {"date": "today"})


def test_an_unknown_case_is_refused(capsys):
    with pytest.raises(SystemExit):
        parse(["warm"])
    assert "no such case: warm" in capsys.readouterr().err
