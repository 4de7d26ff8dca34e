"""`./scripts/bench`: measures the cases side by side, and shows what came of it as tables."""

import argparse
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import trustme

from benchmarks import machine, table
from benchmarks.bars import judge
from benchmarks.cases import CASES, Case, Contender, CopyCase, StartCase, TagsCase, ideal_seconds
from benchmarks.results import CaseResult, Measurement, Outcome, failed, problems
from benchmarks.stage import NoRoom, Scratch, scratch, stage
from benchmarks.trials import measure_copy, measure_start, measure_tags

START_RUNS = 7
"""At least so many of the cases that take a fraction of a second."""


@dataclass(frozen=True, slots=True)
class Options:
    """`scale` makes every case smaller; `limit` is how many seconds another program may take for one run."""

    cases: tuple[Case, ...]
    runs: int
    scale: float
    skopeo: bool
    limit: float
    command: str


@dataclass
class Bench:
    """Runs cases, one after the other: two programs at once would measure each other."""

    options: Options
    room: Scratch
    ca: trustme.CA

    def results(self) -> Iterator[CaseResult]:
        for case in self.options.cases:
            _say(f"{case.name}: {case.title}")
            try:
                yield self._result(case.scaled(self.options.scale))
            except NoRoom as error:
                _say(f"  left out: {error}")

    def _result(self, case: Case) -> CaseResult:
        if isinstance(case, CopyCase):
            return self._copies(case)
        folder = self.room.folder / case.name
        folder.mkdir()
        if isinstance(case, TagsCase):
            runs = self._rounds(case, lambda contender: measure_tags(case, contender, folder))
            return CaseResult(case, _outcomes(runs), units=case.tags, repositories=1)
        runs = self._rounds(case, lambda contender: measure_start(case, contender, folder))
        return CaseResult(case, _outcomes(runs))

    def _copies(self, case: CopyCase) -> CaseResult:
        with stage(case, self.room, self.ca) as prepared:
            corpus, limit = prepared.corpus, self.options.limit
            _say(f"  {corpus.summary()}")
            runs = self._rounds(case, lambda contender: measure_copy(case, contender, prepared, limit=limit))
        ideals: dict[Contender, float | None] = {}
        if case.before == "nothing":
            nbytes = sum(corpus.blobs.values())
            ideals = {
                contender: ideal_seconds(case.network, nbytes, len(corpus.blobs), contender.proc)
                for contender in runs
            }
        return CaseResult(
            case,
            _outcomes(runs, ideals),
            units=len(corpus.images),
            repositories=len(corpus.repositories),
            blobs=len(corpus.blobs),
        )

    def _rounds(
        self, case: Case, measure: Callable[[Contender], Measurement]
    ) -> dict[Contender, list[Measurement]]:
        """One run of each contender after the other, and again: what slows the machine slows all of them."""
        count = max(self.options.runs, START_RUNS) if isinstance(case, StartCase) else self.options.runs
        contenders = [each for each in case.contenders if self.options.skopeo or each.program != "skopeo"]
        runs: dict[Contender, list[Measurement]] = {contender: [] for contender in contenders}
        for number in range(count):
            for contender in contenders:
                if number and contender.once:
                    continue
                run = measure(contender)
                runs[contender].append(run)
                _say(f"  {contender.name}: {run.problem or f'{run.seconds:.2f} s'}")
        return runs


def report(results: Sequence[CaseResult], options: Options, facts: Mapping[str, str]) -> str:
    """The whole outcome as Markdown."""
    sections = [
        "# Results",
        "\n".join(f"- {name}: {value}" for name, value in facts.items()),
        f"To repeat: `{options.command}`. What the columns mean is in [README.md](README.md).",
        "## Beside syncer",
        "syncer is 1.00. A program with 2.00 takes twice the time, CPU or memory.",
        *(_comparison(result) for result in results),
        "## Time, CPU, memory\n\n" + table.times(results),
        "## At the wire\n\n" + table.wire(results),
        "## Requests by kind\n\n" + table.requests(results),
    ]
    if options.scale != 1:
        sections[1] += (
            f"\n- scale: {options.scale:g} of the real size: these figures say nothing about the bars"
        )
    else:
        sections.append("## Bars\n\n" + table.verdicts(judge(results)))
    if found := problems(results):
        sections.append("## Failed or stopped\n\n" + "\n".join(f"- {problem}" for problem in found))
    return "\n\n".join(sections) + "\n"


def parse(arguments: Sequence[str]) -> tuple[Options, Path | None]:
    """What is asked for, and the file to write to."""
    names = {case.name: case for case in CASES}
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__)
    parser.add_argument("cases", nargs="*", metavar="CASE", help="all but the named ones are left out")
    parser.add_argument("--list", action="store_true", help="show the cases")
    parser.add_argument("--runs", type=int, default=3, metavar="N", help="of each program, for medians (3)")
    parser.add_argument(
        "--scale", type=float, default=1.0, metavar="X", help="0.05: a twentieth of the work, to try it"
    )
    parser.add_argument("--skip-skopeo", action="store_true", help="it takes minutes on the long path")
    parser.add_argument("--peers", action="store_true", help="also measure regsync, crane and regctl")
    parser.add_argument(
        "--cap",
        type=float,
        default=900,
        metavar="SECONDS",
        help="stop a run of another program after so long (900)",
    )
    parser.add_argument("--write", type=Path, metavar="FILE", help="write the tables there too")
    chosen = parser.parse_args(arguments)
    if chosen.list:
        print("\n".join(f"{case.name:18} {case.title}" for case in CASES))
        parser.exit()
    if unknown := [name for name in chosen.cases if name not in names]:
        parser.error(f"no such case: {', '.join(unknown)}; see --list")
    cases = tuple(case for case in CASES if not chosen.cases or case.name in chosen.cases)
    if chosen.peers:
        cases = tuple(case.with_peers() if isinstance(case, CopyCase) else case for case in cases)
    options = Options(
        cases=cases,
        runs=max(1, chosen.runs),
        scale=chosen.scale,
        skopeo=not chosen.skip_skopeo,
        limit=chosen.cap,
        command=" ".join(["./scripts/bench", *arguments]),
    )
    return options, chosen.write


def main(arguments: Sequence[str]) -> int:
    options, written_to = parse(arguments)
    facts = machine.facts()
    results: list[CaseResult] = []
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # everything is cleared away then too
    with scratch() as room:
        try:
            results += Bench(options, room, trustme.CA()).results()
        except KeyboardInterrupt:
            _say("interrupted")
            return 130
    text = report(results, options, facts)
    print(text)
    if written_to:
        written_to.write_text(text)
    return 1 if failed(results) else 0


def _comparison(result: CaseResult) -> str:
    heading = f"### {result.case.name}\n\n{result.case.title}."
    return (
        f"{heading}\n\n{table.ratios(result)}" if len(result.outcomes) > 1 else f"{heading} Only syncer ran."
    )


def _outcomes(
    runs: Mapping[Contender, list[Measurement]],
    ideals: Mapping[Contender, float | None] = MappingProxyType({}),
) -> tuple[Outcome, ...]:
    return tuple(
        Outcome(contender, tuple(measured), ideals.get(contender)) for contender, measured in runs.items()
    )


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
