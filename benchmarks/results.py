"""What was measured, and what follows from it by arithmetic."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from benchmarks.cases import PEERS, Case, Contender
from benchmarks.counting import Traffic

GIB = 1024**3


@dataclass(frozen=True, slots=True)
class Measurement:
    """One run. Times are seconds, sizes bytes.

    `open_at_once` is the most connections to source and destination, where proxies could count them.
    A run with a `problem` did not do its work: its speed means nothing, but that it took longer if `timed_out`.
    """

    seconds: float
    cpu_seconds: float
    peak_bytes: int
    traffic: Traffic | None = None
    open_at_once: tuple[int, int] | None = None
    problem: str = ""
    timed_out: bool = False

    @property
    def requests(self) -> int:
        if self.traffic is None:
            return 0
        return sum(self.traffic.source.values()) + sum(self.traffic.destination.values())

    @property
    def cpu_ms_per_request(self) -> float | None:
        """All of the CPU, start-up included."""
        return self.cpu_seconds * 1000 / self.requests if self.requests else None

    @property
    def cpu_per_gib(self) -> float | None:
        """All of the CPU for each GiB pulled; None where too little was for that to mean anything."""
        pulled = self.traffic.pulled if self.traffic else 0
        return self.cpu_seconds * GIB / pulled if pulled > GIB // 8 else None


@dataclass(frozen=True, slots=True)
class Outcome:
    """All runs of one contender in one case. `ideal` is the time of the wire alone, in seconds."""

    contender: Contender
    runs: tuple[Measurement, ...]
    ideal: float | None = None

    @property
    def problem(self) -> str:
        return next((run.problem for run in self.runs if run.problem), "")

    @property
    def median(self) -> Measurement:
        """The run with the median time, whole: its figures belong together."""
        return sorted(self.runs, key=lambda run: run.seconds)[(len(self.runs) - 1) // 2]

    @property
    def spread(self) -> tuple[float, float]:
        """The fastest and the slowest, in seconds."""
        times = [run.seconds for run in self.runs]
        return min(times), max(times)

    @property
    def times_ideal(self) -> float | None:
        return self.median.seconds / self.ideal if self.ideal else None


@dataclass(frozen=True, slots=True)
class CaseResult:
    """One case. `units` is how many images or tags there were, `repositories` and `blobs` likewise."""

    case: Case
    outcomes: tuple[Outcome, ...]
    units: int = 0
    repositories: int = 0
    blobs: int = 0

    def outcome(self, program: str, proc: int | None = None) -> Outcome | None:
        """Of a program, if it ran and did its work."""
        for outcome in self.outcomes:
            contender = outcome.contender
            if contender.program == program and proc in {None, contender.proc} and not outcome.problem:
                return outcome
        return None

    @property
    def ours(self) -> Outcome | None:
        """Of the program under test, which is the first contender, if it did its work."""
        return None if self.outcomes[0].problem else self.outcomes[0]

    @property
    def peers(self) -> tuple[Outcome, ...]:
        """Of the tools that `--peers` adds, as far as they did their work."""
        names = {peer.program for peer in PEERS}
        return tuple(each for each in self.outcomes if each.contender.program in names and not each.problem)

    def ratio(self, outcome: Outcome, figure: Callable[[Measurement], float]) -> float | None:
        """A figure of the median run, divided by that of the first contender.

        None if one of them has a problem. The time of a program that was stopped counts: it takes at least so long.
        """
        if self.ours is None or (outcome.problem and not outcome.median.timed_out):
            return None
        first = figure(self.ours.median)
        return figure(outcome.median) / first if first else None


def failed(results: Sequence[CaseResult]) -> bool:
    """Whether a run of the program under test did not do its work, or that of another did something wrong."""
    return any(
        run.problem and not (run.timed_out and outcome.contender.program != "syncer")
        for result in results
        for outcome in result.outcomes
        for run in outcome.runs
    )


def problems(results: Sequence[CaseResult]) -> list[str]:
    """Every run that did not do its work."""
    return [
        f"{result.case.name}, {outcome.contender.name}: {outcome.problem}"
        for result in results
        for outcome in result.outcomes
        if outcome.problem
    ]
