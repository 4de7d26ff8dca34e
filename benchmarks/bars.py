"""The bars that the program has to hold at full scale, as data."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from benchmarks.cases import PROC
from benchmarks.results import GIB, CaseResult, Outcome

METADATA_CONNECTIONS = 4 * PROC
"""The width of the metadata lane."""

Results = Mapping[str, CaseResult]


@dataclass(frozen=True, slots=True)
class Bar:
    """`value` gives what was measured, or None where that was not; it must stay within one of the limits."""

    case: str
    text: str
    value: Callable[[Results], float | None]
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
    measured = ((bar, bar.value(by_name)) for bar in BARS)
    return [Verdict(bar, value) for bar, value in measured if value is not None]


Of = Callable[[Outcome], float | None]
Value = Callable[[Results], float | None]


def _ours(case: str, of: Of) -> Value:
    """A figure of syncer in one case."""

    def value(results: Results) -> float | None:
        outcome = results[case].outcome("syncer", PROC) if case in results else None
        return of(outcome) if outcome else None

    return value


def _per_unit(case: str, of: Of) -> Value:
    """A figure of syncer for each image or tag."""

    def value(results: Results) -> float | None:
        found = _ours(case, of)(results)
        return None if found is None else found / results[case].units

    return value


def _skopeo_to_ours(case: str) -> Value:
    """How many times as fast as skopeo."""

    def value(results: Results) -> float | None:
        theirs = results[case].outcome("skopeo") if case in results else None
        ours = _ours(case, _seconds)(results)
        return theirs.median.seconds / ours if theirs and ours else None

    return value


def _quotient(one: Value, other: Value) -> Value:
    def value(results: Results) -> float | None:
        above, below = one(results), other(results)
        return above / below if above is not None and below else None

    return value


def _one_transfer_to_ours(results: Results) -> float | None:
    slow = results["long-blob"].outcome("syncer", 1) if "long-blob" in results else None
    ours = _ours("long-blob", _seconds)(results)
    return slow.median.seconds / ours if slow and ours else None


def _requests_to(case: str, allowed: Callable[[CaseResult], int]) -> Value:
    def value(results: Results) -> float | None:
        found = _ours(case, _requests)(results)
        return None if found is None else found / allowed(results[case])

    return value


def _cpu_budget(per_gib: float) -> Of:
    """CPU against 0.3 s for start-up, so much a GiB, and 0.5 ms a request."""

    def of(outcome: Outcome) -> float | None:
        run = outcome.median
        pulled = run.traffic.pulled if run.traffic else 0
        return run.cpu_seconds / (0.3 + per_gib * pulled / GIB + 0.0005 * run.requests)

    return of


def _seconds(outcome: Outcome) -> float:
    return outcome.median.seconds


def _cpu_ms(outcome: Outcome) -> float:
    return outcome.median.cpu_seconds * 1000


def _requests(outcome: Outcome) -> float:
    return outcome.median.requests


def _peak_mb(outcome: Outcome) -> float:
    return max(run.peak_bytes for run in outcome.runs) / 1e6


def _most_downloads(outcome: Outcome) -> float | None:
    found = [run.traffic.downloads for run in outcome.runs if run.traffic and run.traffic.downloads]
    return max((most for _, most in found), default=None)


def _most_open(outcome: Outcome) -> float | None:
    return max((max(run.open_at_once) for run in outcome.runs if run.open_at_once), default=None)


BARS: tuple[Bar, ...] = (
    Bar("start-request", "seconds until the first request", _ours("start-request", _seconds), at_most=0.3),
    Bar("loopback-cold", "times as fast as skopeo (0.35 of its time)", _skopeo_to_ours("loopback-cold"), at_least=1 / 0.35),
    Bar("loopback-cold", "CPU / (0.3 s + 0.9 s/GiB + 0.5 ms/request)", _ours("loopback-cold", _cpu_budget(0.9)), at_most=1),
    Bar("loopback-tls-cold", "CPU / (0.3 s + 1.5 s/GiB + 0.5 ms/request)", _ours("loopback-tls-cold", _cpu_budget(1.5)), at_most=1),
    Bar("loopback-same", "seconds", _ours("loopback-same", _seconds), at_most=0.35),
    Bar("long-cold", "times the ideal", _ours("long-cold", lambda outcome: outcome.times_ideal), at_most=1.7),
    Bar("long-cold", "times as fast as skopeo", _skopeo_to_ours("long-cold"), at_least=15),
    Bar("long-cold", "connections open at once to a host", _ours("long-cold", _most_open), at_most=PROC + METADATA_CONNECTIONS),
    Bar("long-same", "seconds", _ours("long-same", _seconds), at_most=0.8),
    Bar("long-same", "times as fast as skopeo", _skopeo_to_ours("long-same"), at_least=80),
    Bar("long-blob", "times as fast as over one connection", _one_transfer_to_ours, at_least=3.2),
    Bar("capped-cold", "times as fast as skopeo", _skopeo_to_ours("capped-cold"), at_least=1),
    Bar("small-cold", "CPU ms for each request", _ours("small-cold", lambda outcome: outcome.median.cpu_ms_per_request), at_most=0.45),
    Bar("small-cold", "requests for each blob", _requests_to("small-cold", lambda result: result.blobs), at_most=4.2),
    Bar("small-cold", "time of an image, against 200 images", _quotient(_per_unit("small-cold", _seconds), _per_unit("small-200", _seconds)), at_most=1.15),
    Bar("small-same", "CPU ms for each tag", _per_unit("small-same", _cpu_ms), at_most=0.7),
    Bar("small-same", "requests / (2 a tag + 2 a repository)", _requests_to("small-same", lambda result: 2 * (result.units + result.repositories)), at_most=1),
    Bar("tags-100000", "MB", _ours("tags-100000", _peak_mb), at_most=250),
    Bar("tags-100000", "time of a tag, against 10,000 tags", _quotient(_per_unit("tags-100000", _seconds), _per_unit("tags-10000", _seconds)), at_most=1.15),
    Bar("memory", "MB", _ours("memory", _peak_mb), at_most=150),
    Bar("memory-tls", "MB", _ours("memory-tls", _peak_mb), at_most=150),
    *(Bar(case, "downloads of a blob", _ours(case, _most_downloads), at_most=1) for case in ("loopback-cold", "long-cold", "long-blob", "capped-cold", "small-cold", "memory")),
)  # fmt: skip
