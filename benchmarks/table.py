"""The results as tables of Markdown, which are read on a terminal too."""

from collections.abc import Iterable, Mapping, Sequence

from benchmarks.bars import Verdict
from benchmarks.results import CaseResult, Outcome

NOTHING = "-"

Row = Sequence[str]


def ratios(result: CaseResult) -> str:
    """Time, CPU and memory of each program, divided by those of the first."""
    rows = [_ratio_row(result, outcome) for outcome in result.outcomes]
    return render(["program", "time", "CPU", "memory"], rows, left=1)


def times(results: Iterable[CaseResult]) -> str:
    """Time, CPU and memory."""
    head = ["case", "program", "s", "runs", "ideal s", "/ ideal", "CPU s", "ms/request", "CPU s/GiB", "MB"]  # fmt: skip
    return render(head, [_times_row(result, outcome) for result, outcome in _pairs(results)], left=2)


def wire(results: Iterable[CaseResult]) -> str:
    """Requests, bytes and connections."""
    head = ["case", "program", "requests", "source", "destination", "pulled MB", "pushed MB", "downloads", "mounts", "connections"]  # fmt: skip
    rows = [
        _wire_row(result, outcome)
        for result, outcome in _pairs(results)
        if outcome.median.traffic is not None
    ]
    return render(head, rows, left=2)


def requests(results: Iterable[CaseResult]) -> str:
    """How many requests of each kind, at each side."""
    rows = []
    for result, outcome in _pairs(results):
        if (traffic := outcome.median.traffic) and not outcome.problem:
            sides = (_kinds(traffic.source), _kinds(traffic.destination))
            rows.append([result.case.name, outcome.contender.name, *sides])
    return render(["case", "program", "at the source", "at the destination"], rows, left=4)


def verdicts(judged: Iterable[Verdict]) -> str:
    """Which bars were held."""
    rows = [
        [each.bar.case, each.bar.text, each.bar.limit, number(each.value), "yes" if each.held else "NO"]
        for each in judged
    ]
    return render(["case", "bar", "limit", "measured", "held"], rows, left=2)


def render(head: Row, rows: Sequence[Row], *, left: int) -> str:
    """A table of Markdown with columns of even width; the first `left` of them are text, the others numbers."""
    if not rows:
        return "(nothing)"
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    aligned = [
        [cell.ljust(width) if n < left else cell.rjust(width) for n, (cell, width) in enumerate(zip(row, widths, strict=True))]
        for row in (head, *rows)
    ]  # fmt: skip
    rule = ["-" * width if n < left else "-" * (width - 1) + ":" for n, width in enumerate(widths)]
    return "\n".join(f"| {' | '.join(row)} |" for row in (aligned[0], rule, *aligned[1:]))


def number(value: float | None) -> str:
    """Three digits, and never more than two behind the point; a dash for what there is not."""
    if value is None:
        return NOTHING
    if abs(value) >= 100 or value == int(value):
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def _pairs(results: Iterable[CaseResult]) -> list[tuple[CaseResult, Outcome]]:
    return [(result, outcome) for result in results for outcome in result.outcomes]


def _ratio_row(result: CaseResult, outcome: Outcome) -> Row:
    time = result.ratio(outcome, lambda run: run.seconds)
    if outcome.median.timed_out:
        return [outcome.contender.name, f"> {_ratio(time)}" if time else NOTHING, NOTHING, NOTHING]
    if outcome.problem:
        return [outcome.contender.name, "FAILED", NOTHING, NOTHING]
    cpu = result.ratio(outcome, lambda run: run.cpu_seconds)
    memory = result.ratio(outcome, lambda run: run.peak_bytes)
    return [outcome.contender.name, *map(_ratio, (time, cpu, memory))]


def _ratio(value: float | None) -> str:
    """As a number, but 1 is 1.00 as its neighbours are."""
    return f"{value:.2f}" if value is not None and value < 10 else number(value)


def _times_row(result: CaseResult, outcome: Outcome) -> Row:
    first = [result.case.name, outcome.contender.name]
    run = outcome.median
    if outcome.problem:
        shown = f"> {number(run.seconds)}" if run.timed_out else "FAILED"
        return [*first, shown, *[NOTHING] * 7]
    slowest, fastest = outcome.spread
    spread = number(run.seconds) if len(outcome.runs) == 1 else f"{number(slowest)} … {number(fastest)}"
    return [
        *first,
        number(run.seconds),
        NOTHING if len(outcome.runs) == 1 else spread,
        number(outcome.ideal),
        number(outcome.times_ideal),
        number(run.cpu_seconds),
        number(run.cpu_ms_per_request),
        number(run.cpu_per_gib),
        number(run.peak_bytes / 1e6),
    ]


def _wire_row(result: CaseResult, outcome: Outcome) -> Row:
    run = outcome.median
    assert run.traffic
    traffic = run.traffic
    downloads = traffic.downloads
    return [
        result.case.name,
        outcome.contender.name,
        number(run.requests),
        number(sum(traffic.source.values())),
        number(sum(traffic.destination.values())),
        number(traffic.pulled / 1e6),
        number(traffic.pushed / 1e6),
        f"{number(downloads[0])} … {number(downloads[1])}" if downloads else NOTHING,
        number(traffic.mounts),
        "{} + {}".format(*run.open_at_once) if run.open_at_once else NOTHING,
    ]


def _kinds(counted: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} {kind}" for kind, count in counted.items()) or NOTHING
