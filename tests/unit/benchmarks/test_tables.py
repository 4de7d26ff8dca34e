"""From runs to tables: medians, ratios, bars."""

from dataclasses import replace

import pytest

from benchmarks import table
from benchmarks.bars import BARS, judge
from benchmarks.cases import CASES, LONG_PATH, LOOPBACK, ONE_LINE, SKOPEO, SYNCER, CopyCase, ideal_seconds
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


def compare(*theirs: Measurement, case: str = "long-cold") -> CaseResult:
    """Syncer with 6 s, 2 CPU s and 50 MB, beside the peers."""
    peers = CopyCase(case, "").with_peers().contenders[2:]
    others = tuple(Outcome(peer, (measured,)) for peer, measured in zip(peers, theirs, strict=False))
    outcomes = (Outcome(SYNCER, (run(6.0),), ideal=4.0), *others)
    return CaseResult(CopyCase(case, "Title"), outcomes, units=60, repositories=10, blobs=334)


def value_of(text: str, compared: CaseResult) -> float:
    [value] = [each.value for each in judge([compared]) if each.bar.text == text]
    return value


def test_others_are_divided_by_the_first():
    rows = table.ratios(compare(Measurement(12.0, 1.0, 25_000_000), run(90.0))).splitlines()[2:]
    assert [[cell.strip() for cell in row.split("|")[1:-1]] for row in rows] == [
        ["syncer", "1.00", "1.00", "1.00"],
        ["regsync", "2.00", "0.50", "0.50"],
        ["crane", "15", "1.00", "1.00"],
    ]


def test_figures_of_a_failed_peer_are_not_compared():
    rows = table.ratios(compare(run(1.0, "wrong copy"))).splitlines()
    assert [cell.strip() for cell in rows[3].split("|")[1:-1]] == ["regsync", "FAILED", "-", "-"]


def test_nothing_is_compared_with_a_first_contender_that_failed():
    rows = table.ratios(result([6.0], 120.0, problem="wrong copy")).splitlines()
    assert [cell.strip() for cell in rows[3].split("|")[1:-1]] == ["skopeo sync --all", "-", "-", "-"]


@pytest.mark.parametrize(
    ("case", "text", "value"),
    [
        ("layers", "time / crane's", 1.5),
        ("layers-tls", "time / crane's", 1.5),
        ("layers-tls", "CPU per GiB / crane's", 0.5),
        ("loopback-cold-tls", "time / regsync's", 0.75),
        ("loopback-cold-tls", "CPU / regsync's", 2.0),
        ("loopback-same", "time / regsync's", 0.75),
        ("small-cold", "CPU / crane's", 0.5),
        ("long-cold-tls", "time / ideal", 1.5),
        ("long-cold-tls-24", "time / that of the best peer", 2.0),
    ],
)
def test_bars_are_ratios_to_peers_of_the_same_run(case, text, value):
    regsync, crane, regctl = (
        Measurement(8.0, 1.0, 1, TRAFFIC),
        Measurement(4.0, 4.0, 1, TRAFFIC),
        Measurement(3.0, 4.0, 1, TRAFFIC),
    )
    assert value_of(text, compare(regsync, crane, regctl, case=case)) == value


def test_the_best_peer_is_one_that_did_its_work():
    failed_one = replace(run(1.0), problem="wrong copy")
    assert (
        value_of("time / that of the best peer", compare(failed_one, run(12.0), case="long-cold-tls-24"))
        == 0.5
    )


def test_bars_against_peers_are_not_judged_without_them():
    assert not [each for each in judge([compare(case="layers")]) if "crane" in each.bar.text]
    assert not [each for each in judge([compare(case="long-cold-tls-24")]) if "peer" in each.bar.text]


def test_each_bar_names_a_case():
    assert {bar.case for bar in BARS} <= {case.name for case in CASES}


def test_no_speed_is_told_of_a_wrong_copy():
    wrong = result([6.0], 120.0, problem="wrong copy")
    row = table.times([wrong]).splitlines()[2]
    assert "FAILED" in row
    assert "6" not in row
    assert wrong.ratio(wrong.outcomes[1], lambda measured: measured.seconds) is None
    assert not judge([wrong])
    assert problems([wrong]) == ["long-cold, syncer: wrong copy"]
    assert failed([wrong])


def test_another_program_that_was_stopped_took_longer_than_that():
    stopped = replace(run(900.0), problem="stopped after 900 s", timed_out=True)
    outcomes = (result([6.0], 60.0).outcomes[0], Outcome(SKOPEO, (stopped,)))
    cut = CaseResult(CASE, outcomes, 60, 10, 334)
    assert "> 900" in table.times([cut])
    assert "> 150" in table.ratios(cut)
    assert problems([cut]) == ["long-cold, skopeo sync --all: stopped after 900 s"]
    assert not failed([cut])


def test_bars_are_judged_where_something_was_measured():
    verdicts = {each.bar.text: each for each in judge([result([6.0], 60.0)])}
    assert verdicts["time / ideal"].held
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
    whole = report([result([6.0], 60.0)], full, {"date": "today"})
    assert whole.index("### long-cold\n") < whole.index("## Time, CPU, memory") < whole.index("## Bars")
    small, _ = parse(["--scale", "0.05"])
    assert "## Bars" not in report([result([6.0], 60.0)], small, {"date": "today"})


def test_an_unknown_case_is_refused(capsys):
    with pytest.raises(SystemExit):
        parse(["warm"])
    assert "no such case: warm" in capsys.readouterr().err
