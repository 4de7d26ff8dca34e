"""The history as a small chart: how long each run took, what it pushed, and how it ended. Numbers only, no drawing."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from syncer.state.history import Document

MAX_BARS = 60
STEP = 12
"""Width of a bar with the gap behind it, in the units of the drawing."""
HEIGHT = 40
"""Of the tallest bar of each kind."""
_LEAST = 1.5


@dataclass(frozen=True, slots=True)
class Bar:
    """One run: `x` is its left edge, `long` and `large` are heights for its duration and its bytes."""

    run: Document
    x: float
    long: float
    large: float


@dataclass(frozen=True, slots=True)
class Chart:
    """Oldest run first. `longest` is in seconds, `largest` in bytes; `counts` are runs by their outcome."""

    bars: tuple[Bar, ...]
    longest: float
    largest: int
    counts: dict[str, int]


def seconds_of(run: Document, now: str) -> float:
    """How long a run took, or takes as of `now`."""
    end = datetime.fromisoformat(run["finished"] or now)
    return max(0.0, (end - datetime.fromisoformat(run["started"])).total_seconds())


def chart_of(runs: Sequence[Document], now: str) -> Chart:
    """Of runs as the history has them, the newest first."""
    shown = [run for run in runs if run["finished"]][:MAX_BARS][::-1]
    seconds = [seconds_of(run, now) for run in shown]
    nbytes = [run["totals"]["bytes"]["pushed"] for run in shown]
    longest, largest = max(seconds, default=0.0), max(nbytes, default=0)
    first = MAX_BARS - len(shown)
    bars = tuple(
        Bar(run, (first + place) * STEP, _height(seconds[place], longest), _height(nbytes[place], largest))
        for place, run in enumerate(shown)
    )
    counts = {
        outcome: sum(run["outcome"] == outcome for run in shown)
        for outcome in ("success", "partial", "failure", "interrupted")
    }
    return Chart(bars, longest, largest, counts)


def _height(value: float, most: float) -> float:
    """Little is seen too; nothing is not."""
    return round(max(_LEAST, HEIGHT * value / most), 1) if value > 0 else 0.0
