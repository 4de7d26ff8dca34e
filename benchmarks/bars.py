"""The bars that the program has to hold at full scale, as data."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from benchmarks.cases import PROC
from benchmarks.results import GIB, CaseResult, Measurement, Outcome

METADATA_CONNECTIONS = 4 * PROC
"""The width of the metadata lane."""

Of = Callable[[CaseResult, Outcome], float | None]


@dataclass(frozen=True, slots=True)
class Bar:
    """`of` gives what was measured of syncer, or None where that was not; it must stay within one of the limits."""

    case: str
    text: str
    of: Of
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
        ours = result.outcome("syncer", PROC) if result else None
        value = bar.of(result, ours) if result and ours else None
        if value is not None:
            verdicts.append(Verdict(bar, value))
    return verdicts


def _run(of: Callable[[Measurement], float | None]) -> Of:
    """A figure of the median run."""
    return lambda _result, ours: of(ours.median)


def _seconds(run: Measurement) -> float:
    return run.seconds


def _against(program: str, proc: int | None = None) -> Of:
    """How many times as fast as another contender."""

    def of(result: CaseResult, ours: Outcome) -> float | None:
        theirs = result.outcome(program, proc)
        return theirs.median.seconds / ours.median.seconds if theirs else None

    return of


def _cpu_budget(run: Measurement) -> float | None:
    """CPU against 0.3 s for start-up, 0.9 s a GiB, and 0.5 ms a request."""
    pulled = run.traffic.pulled if run.traffic else 0
    return run.cpu_seconds / (0.3 + 0.9 * pulled / GIB + 0.0005 * run.requests)


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
    Bar("start-request", "seconds until the first request", _run(_seconds), at_most=0.3),
    Bar("loopback-cold", "times as fast as skopeo (0.35 of its time)", _against("skopeo"), at_least=1 / 0.35),
    Bar("loopback-cold", "CPU / (0.3 s + 0.9 s/GiB + 0.5 ms/request)", _run(_cpu_budget), at_most=1),
    Bar("loopback-same", "seconds", _run(_seconds), at_most=0.35),
    Bar("long-cold", "times the ideal", lambda _result, ours: ours.times_ideal, at_most=1.7),
    Bar("long-cold", "times as fast as skopeo", _against("skopeo"), at_least=15),
    Bar("long-cold", "connections open at once to a host", _most_open, at_most=PROC + METADATA_CONNECTIONS),
    Bar("long-same", "seconds", _run(_seconds), at_most=0.8),
    Bar("long-same", "times as fast as skopeo", _against("skopeo"), at_least=80),
    Bar("long-blob", "times as fast as over one connection", _against("syncer", 1), at_least=3.2),
    Bar("capped-cold", "times as fast as skopeo", _against("skopeo"), at_least=1),
    Bar("small-cold", "CPU ms for each request", _run(lambda run: run.cpu_ms_per_request), at_most=0.45),
    Bar("small-cold", "requests for each blob", _requests_for(lambda result: result.blobs), at_most=4.2),
    Bar("small-same", "CPU ms for each tag", lambda result, ours: ours.median.cpu_seconds * 1e3 / result.units, at_most=0.7),
    Bar("small-same", "requests / (2 a tag + 2 a repository)", _requests_for(lambda result: 2 * (result.units + result.repositories)), at_most=1),
    Bar("tags-100000", "MB", _peak_mb, at_most=250),
    Bar("layers", "times as fast as crane", _against("crane"), at_least=1),
    Bar("layers-tls", "times as fast as crane", _against("crane"), at_least=1),
    Bar("layers-tls", "CPU s/GiB", lambda _result, ours: ours.median.cpu_per_gib, at_most=2.3),
    Bar("loopback-cold-tls", "times as fast as regsync (0.5 of its time)", _against("regsync"), at_least=2),
    Bar("loopback-cold-tls", "MB", _peak_mb, at_most=60),
    Bar("memory", "MB", _peak_mb, at_most=120),
    Bar("memory-tls", "MB", _peak_mb, at_most=120),
    *(Bar(case, "downloads of a blob", _most_downloads, at_most=1) for case in ("loopback-cold", "long-cold", "long-blob", "capped-cold", "small-cold", "memory")),
)  # fmt: skip
