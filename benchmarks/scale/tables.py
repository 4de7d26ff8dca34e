"""The tables of docs/scale.md, from what was measured and what the model says. Each has a name and a place there."""

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from benchmarks.processes import ROOT
from benchmarks.scale.cases import CASES, ELSEWHERE
from benchmarks.scale.content import assumed_content
from benchmarks.scale.fit import FITTED, costs, elsewhere, median, predictions
from benchmarks.scale.large import ASSUMED, PROCS, SHARES, run, world
from benchmarks.scale.measured import Measured
from benchmarks.scale.work import Kind
from benchmarks.table import number, render

PAGE = ROOT / "docs/scale.md"
GIB = 1024**3
_PLACE = "<!-- table: {} -->\n{}<!-- end -->"


def costs_table(measured: Measured) -> str:
    """What each part takes of a CPU."""
    rows = [
        [part, number(cost.read * 1e3), number(cost.write * 1e3), number(cost.byte * GIB)]
        for part, cost in costs(measured).items()
    ]
    return render(["part", "ms / reading request", "ms / other request", "s / GiB"], rows, left=1)


def measured_table(measured: Measured) -> str:
    """What was measured and what was predicted."""
    head = ["case", "s", "predicted", "error", "of all runs", "slowest / mean", "CPU s", "predicted", "all CPU s", "requests", "MB pulled", "predicted"]  # fmt: skip
    rows = []
    for case in CASES:
        runs = predictions(measured, case)
        each = median(runs)
        run_ = each.run
        rows.append(
            [
                case.name,
                number(run_.seconds),
                number(each.seconds),
                "fitted" if case.name in FITTED else f"{each.error:+.0%}",
                f"{min(other.error for other in runs):+.0%} … {max(other.error for other in runs):+.0%}",
                number(max(run_.shares) * len(run_.shares) / sum(run_.shares)),
                number(run_.cpu["program"]),
                number(each.cpu),
                number(sum(run_.cpu.values())),
                number(sum(run_.source.values()) + sum(run_.destination.values())),
                number(run_.pulled / 1e6),
                number(sum(work.moved.nbytes for work in each.works) / 1e6),
            ]
        )
    return render(head, rows, left=1)


def elsewhere_table(measured: Measured) -> str:
    """Cases that had no part in the fit."""
    rows = [
        [name, number(ELSEWHERE[name]), number(seconds), f"{seconds / ELSEWHERE[name] - 1:+.0%}"]
        for name, seconds in elsewhere(measured).items()
    ]
    return render(["case", "s", "predicted", "error"], rows, left=1)


def large_table(measured: Measured, kind: Kind, shares: Iterable[int] = SHARES) -> str:
    """The million tags: run time, balance, duplicates, requests, and what holds it back."""
    head = ["shares", "time", "slowest / mean", "TB pulled", "twice or more", "requests/s source", "destination", "held back by"]  # fmt: skip
    content, given = assumed_content(ASSUMED), world(costs(measured))
    rows = []
    for count in shares:
        outcome = run(content, kind, count, given)
        again = outcome.nbytes / content.nbytes - 1 if kind == "cold" else 0.0
        rows.append(
            [
                str(count),
                duration(outcome.seconds),
                number(outcome.ended.balance),
                number(outcome.nbytes / 1e12),
                f"{again:.0%}",
                number(outcome.source_rate),
                number(outcome.destination_rate),
                outcome.held_by,
            ]
        )
    return render(head, rows, left=0)


def proc_table(measured: Measured, procs: Iterable[int] = PROCS) -> str:
    """One share, and more transfers at once."""
    content, found = assumed_content(ASSUMED), costs(measured)
    rows = []
    for proc in procs:
        outcomes = [run(content, kind, 1, world(found, proc)) for kind in ("cold", "same", "changed")]
        held = [outcome.held_by for outcome in outcomes]
        rows.append(
            [
                str(proc),
                *(f"{duration(each.seconds)} ({why})" for each, why in zip(outcomes, held, strict=True)),
            ]
        )
    return render(["--proc", "cold", "nothing to do", "2% changed"], rows, left=0)


def duration(seconds: float) -> str:
    """`58 h`, `3.2 h`, `45 min`, `50 s`."""
    if seconds >= 3600:
        return f"{number(seconds / 3600)} h"
    return f"{number(seconds / 60)} min" if seconds >= 120 else f"{number(seconds)} s"


def tables(measured: Measured) -> dict[str, str]:
    """All of them by name."""
    return {
        "costs": costs_table(measured),
        "measured": measured_table(measured),
        "elsewhere": elsewhere_table(measured),
        "proc": proc_table(measured),
        "cold": large_table(measured, "cold"),
        "same": large_table(measured, "same"),
        "changed": large_table(measured, "changed"),
    }


def write(found: Mapping[str, str], page: Path = PAGE) -> None:
    """Put them in their places."""
    text = page.read_text()
    for name, table in found.items():
        place = re.compile(_PLACE.format(name, ".*?"), re.DOTALL)
        if not place.search(text):
            raise ValueError(f"{page} has no place for the table {name}")
        text = place.sub(_PLACE.format(name, f"{table}\n"), text)
    page.write_text(text)


def read(page: Path = PAGE) -> dict[str, list[Sequence[str]]]:
    """The rows of each table as they stand there, the head first."""
    found = re.findall(_PLACE.format("(.*?)", "(.*?)"), page.read_text(), re.DOTALL)
    return {name: cells(table) for name, table in found}


def cells(table: str) -> list[Sequence[str]]:
    """The rows of a table, the head first."""
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]
    return [row for row in rows if not set("".join(row)) <= set("-:")]
