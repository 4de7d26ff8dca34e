"""The bars that the program has to hold at full scale, as data.

Times and CPU depend on the machine. They are ratios to another program in the same run, or to the ideal of the network.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from benchmarks.cases import PROC
from benchmarks.results import CaseResult, Measurement, Outcome

METADATA_CONNECTIONS = 4 * PROC
"""The width of the metadata lane."""

Of = Callable[[CaseResult, Outcome], float | None]


def _nothing(_result: CaseResult, _ours: Outcome) -> None:
    return None


@dataclass(frozen=True, slots=True)
class Bar:
    """`of` gives what was measured of syncer, or None where that was not; it must stay within one of the limits."""

    case: str
    text: str
    of: Of = _nothing
    at_most: float = float("inf")
    at_least: float = 0.0

    @property
    def limit(self) -> str:
        return f"≥ {self.at_least:g}" if self.at_least else f"≤ {self.at_most:g}"


@dataclass(frozen=True, slots=True)
class Verdict:
    bar: Bar
    value: float

    @property
    def held(self) -> bool:
        return self.bar.at_least <= self.value <= self.bar.at_most


def judge(results: Iterable[CaseResult]) -> list[Verdict]:
    """A verdict for each bar of which something was measured."""
    by_name = {result.case.name: result for result in results}
    verdicts = []
    for bar in BARS:
        result = by_name.get(bar.case)
        value = bar.of(result, result.ours) if result and result.ours else None
        if value is not None:
            verdicts.append(Verdict(bar, value))
    return verdicts


def _seconds(run: Measurement) -> float:
    return run.seconds


def _cpu_seconds(run: Measurement) -> float:
    return run.cpu_seconds


def _cpu_per_gib(run: Measurement) -> float | None:
    return run.cpu_per_gib


def _of(program: str, figure: Callable[[Measurement], float | None]) -> Of:
    """A figure of the median run, divided by that of another program in the same case."""

    def of(result: CaseResult, ours: Outcome) -> float | None:
        other = result.outcome(program)
        theirs = figure(other.median) if other else None
        mine = figure(ours.median)
        return mine / theirs if mine is not None and theirs else None

    return of


def _of_best_peer(result: CaseResult, ours: Outcome) -> float | None:
    """The time, divided by that of the fastest of the peers."""
    best = min((peer.median.seconds for peer in result.peers), default=None)
    return ours.median.seconds / best if best else None


def _against(program: str, proc: int | None = None) -> Of:
    """How many times as fast as another contender."""

    def of(result: CaseResult, ours: Outcome) -> float | None:
        theirs = result.outcome(program, proc)
        return theirs.median.seconds / ours.median.seconds if theirs else None

    return of


def _times_ideal(_result: CaseResult, ours: Outcome) -> float | None:
    return ours.times_ideal


def _peak_mb(_result: CaseResult, ours: Outcome) -> float:
    return max(run.peak_bytes for run in ours.runs) / 1e6


def _most_downloads(_result: CaseResult, ours: Outcome) -> float | None:
    found = [run.traffic.downloads for run in ours.runs if run.traffic and run.traffic.downloads]
    return max((most for _, most in found), default=None)


def _most_open(_result: CaseResult, ours: Outcome) -> float | None:
    return max((max(run.open_at_once) for run in ours.runs if run.open_at_once), default=None)


def _requests_for(allowed: Callable[[CaseResult], int]) -> Of:
    return lambda result, ours: ours.median.requests / allowed(result)


BARS: tuple[Bar, ...] = (
    Bar("layers-tls", "time / crane's", _of("crane", _seconds), at_most=1),
    Bar("layers-tls", "CPU per GiB / crane's", _of("crane", _cpu_per_gib), at_most=1.21),
    Bar("layers", "time / crane's", _of("crane", _seconds), at_most=1),
    Bar("memory", "MB", _peak_mb, at_most=120),
    Bar("memory-tls", "MB", _peak_mb, at_most=120),
    Bar("loopback-cold-tls", "time / regsync's", _of("regsync", _seconds), at_most=0.5),
    Bar("loopback-cold-tls", "CPU / regsync's", _of("regsync", _cpu_seconds), at_most=0.85),
    Bar("loopback-cold-tls", "MB", _peak_mb, at_most=60),
    Bar("long-cold-tls", "time / ideal", _times_ideal, at_most=1.4),
    Bar("long-cold-tls-24", "time / that of the best peer", _of_best_peer, at_most=0.35),
    Bar("loopback-same", "time / regsync's", _of("regsync", _seconds), at_most=2.15),
    Bar("small-cold", "CPU / crane's", _of("crane", _cpu_seconds), at_most=1),
    Bar("loopback-cold", "time / skopeo's", _of("skopeo", _seconds), at_most=0.35),
    Bar("long-cold", "time / ideal", _times_ideal, at_most=1.7),
    Bar("long-cold", "times as fast as skopeo", _against("skopeo"), at_least=15),
    Bar("long-cold", "connections open at once to a host", _most_open, at_most=PROC + METADATA_CONNECTIONS),
    Bar("long-same", "times as fast as skopeo", _against("skopeo"), at_least=80),
    Bar("long-blob", "times as fast as over one connection", _against("syncer", 1), at_least=3.2),
    Bar("capped-cold", "times as fast as skopeo", _against("skopeo"), at_least=1),
    Bar("small-cold", "requests for each blob", _requests_for(lambda result: result.blobs), at_most=4.2),
    Bar("small-same", "requests / (2 a tag + 2 a repository)", _requests_for(lambda result: 2 * (result.units + result.repositories)), at_most=1),
    Bar("tags-100000", "MB", _peak_mb, at_most=250),
    *(Bar(case, "downloads of a blob", _most_downloads, at_most=1) for case in ("loopback-cold", "long-cold", "long-blob", "capped-cold", "small-cold", "memory")),
)  # fmt: skip
