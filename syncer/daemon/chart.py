"""Computes the chart of the history: duration, pushed bytes and outcome of each run. The template draws it."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from syncer.state.history import Document

MAX_BARS = 60
STEP = 12
"""Width of a bar including its gap, in SVG units."""
HEIGHT = 40
"""Height of the tallest bar of each kind, in SVG units."""
_LEAST = 1.5


@dataclass(frozen=True, slots=True)
class Bar:
    """The bars of one run: `x` is the left edge; `long` and `large` are the heights for duration and bytes."""

    run: Document
    x: float
    long: float
    large: float


@dataclass(frozen=True, slots=True)
class Chart:
    """The chart, oldest run first. `longest` is in seconds, `largest` in bytes; `counts` maps outcomes to runs."""

    bars: tuple[Bar, ...]
    longest: float
    largest: int
    counts: dict[str, int]


def seconds_of(run: Document, now: str) -> float:
    """Return the duration of a run in seconds. For a run in progress, `now` is the end."""
    end = datetime.fromisoformat(run["finished"] or now)
    return max(0.0, (end - datetime.fromisoformat(run["started"])).total_seconds())


def chart_of(runs: Sequence[Document], now: str) -> Chart:
    """Return the chart of the finished runs in `runs`, which are sorted newest first."""
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
    """Return the height of a bar. Small values stay visible; zero has no bar."""
    return round(max(_LEAST, HEIGHT * value / most), 1) if value > 0 else 0.0
