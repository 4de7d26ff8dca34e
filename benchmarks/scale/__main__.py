"""`python -m benchmarks.scale`: computes the tables of docs/scale.md, or measures what they rest on."""

import argparse
import signal
import sys
from collections.abc import Sequence

from benchmarks import machine
from benchmarks.scale import tables
from benchmarks.scale.cases import BYTES, CASES
from benchmarks.scale.measure import measure
from benchmarks.scale.measured import FILE, Measured
from benchmarks.stage import scratch


def _measure(names: Sequence[str], runs: int) -> None:
    """Measure these cases anew, all if none is named. What else was measured stays."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # everything is cleared away then too
    with scratch() as room:
        for name, case, shares, proc in (
            ("bytes", BYTES, 1, 6),
            *((each.name, each.copy, each.shares, each.proc) for each in CASES),
        ):
            if names and name not in names:
                continue
            found = []
            for run in measure(case, shares=shares, proc=proc, runs=runs, room=room):
                print(
                    f"{name}: {run.seconds} s, CPU {run.cpu}, others {run.others} s",
                    file=sys.stderr,
                    flush=True,
                )
                found.append(run)
            kept = Measured.read() if FILE.exists() else Measured({}, {})
            quietest = sorted(found, key=lambda run: run.others / run.seconds)[:runs]
            kept.with_runs(machine.facts(), name, quietest).write()


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale", description=__doc__)
    parser.add_argument("cases", nargs="*", metavar="CASE", help="with --measure: only these")
    parser.add_argument(
        "--measure",
        action="store_true",
        help="run the cases, which takes half an hour, and keep what they took",
    )
    parser.add_argument("--runs", type=int, default=3, metavar="N", help="of each case, for medians (3)")
    parser.add_argument("--write", action="store_true", help="put the tables into docs/scale.md")
    chosen = parser.parse_args(arguments)
    if chosen.measure:
        _measure(chosen.cases, chosen.runs)
        return
    found = tables.tables(Measured.read())
    for name, table in found.items():
        print(f"{name}\n\n{table}\n")
    if chosen.write:
        tables.write(found)


if __name__ == "__main__":
    main(sys.argv[1:])
