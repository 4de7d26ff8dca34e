"""The layout of the bars and the closing table. Depends only on the arguments."""

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from syncer.lazy_pattern import lazy_pattern
from syncer.observe import words
from syncer.observe.progress.run_progress import INTERRUPTED, FailedImage, RunProgress, Transfer

_NARROW = 64
"""Columns. Numbers are omitted in a narrower window."""
_MAX_REPOSITORY = 44
_ATTEMPT = lazy_pattern(r"(?:GET|HEAD|PUT|POST|PATCH|DELETE) .*?: ")
_GAP = (0, 2, 0, 0)
_INDENT = (0, 0, 0, 2)


def live(run: RunProgress, width: int, height: int) -> RenderableType:
    """Return the live display for a window of `width` columns and `height` lines."""
    parts: list[RenderableType] = [Text(), _overall(run), _details(run)]
    # Keep some lines free: a blank line, the cursor, and the last lines printed above.
    room = height - len(parts) - 3
    slots = list(run.slots)
    if slots and room > 0:
        shown = slots if len(slots) <= room else slots[: room - 1]
        parts += [Text(), _transfers(shown, run, width)]
        if hidden := sum(slot is not None for slot in slots[len(shown) :]):
            parts.append(Text(f"and {hidden} more", "dim"))
    return Padding(Group(*parts), (0, 1, 0, 2))


def _overall(run: RunProgress) -> Table:
    title = f"Retrying (round {run.round})" if run.round else "Planning" if run.dry_run else "Syncing"
    grid = Table.grid("", "", "", padding=_GAP, expand=True)
    grid.columns[1].ratio = 1
    count = Text(f"{run.done}/{run.total} images", "bold", no_wrap=True)
    grid.add_row(Text(title, "bold", no_wrap=True), _bar(run.done, run.total, "green"), count)
    return grid


def _details(run: RunProgress) -> Text:
    speed = run.speed()
    left = run.time_left(speed)
    line = Text(no_wrap=True, overflow="crop")
    if run.failed:
        # The most important number comes first: a narrow window cuts off the right side.
        line.append(f"{run.failed} failed", "bold red").append(" · ", "dim")
    line.append(f"{words.size(run.moved)} at {words.rate(speed)}")
    line.append(" · ", "dim").append(_whole(run.elapsed))
    if left is not None:
        line.append(f", about {_whole(max(left, 1.0))} left")
    return line


def _whole(seconds: float) -> str:
    """Format seconds without tenths, which would flicker."""
    return f"{seconds:.0f} s" if seconds < 10 else words.duration(seconds)


def _transfers(slots: list[Transfer | None], run: RunProgress, width: int) -> Table:
    narrow = width < _NARROW
    repository_room = max(6, min(_MAX_REPOSITORY, (width - (20 if narrow else 48)) // 2))
    grid = Table.grid(padding=_GAP, expand=True)
    grid.add_column(style="cyan", no_wrap=True)
    grid.add_column(width=repository_room, no_wrap=True)
    grid.add_column(ratio=1)
    for room in (4,) if narrow else (14, 10):
        grid.add_column(justify="right", min_width=room, no_wrap=True)
    for transfer in slots:
        if transfer is None:
            grid.add_row()
            continue
        rate = words.rate(run.speed_of(transfer)) if transfer.moved else ""
        grid.add_row(
            transfer.digest.hex[: 7 if narrow else 12],
            Text(_repository(transfer, repository_room)),
            _bar(transfer.moved, transfer.whole, "cyan"),
            *((_percent(transfer),) if narrow else (_of(transfer.moved, transfer.whole), rate)),
        )
    return grid


def _bar(completed: int, total: int, style: str) -> ProgressBar:
    """Return a bar. If `total` is not known (-1), it pulses."""
    return ProgressBar(
        max(1, total) if total >= 0 else None,
        completed,
        style="dim",
        complete_style=style,
        finished_style=style,
        pulse_style=style,
    )


def _percent(transfer: Transfer) -> str:
    return f"{min(100, transfer.moved * 100 // transfer.whole)}%" if transfer.whole > 0 else ""


def _of(moved: int, whole: int) -> str:
    """Return, for example, `3.1/12.3 MB`: both numbers in the unit of the total."""
    if whole < 0:
        return words.size(moved)
    number, unit = words.size(whole).split()
    if not whole:
        return f"0/{number} {unit}"
    share = min(1.0, moved / whole)
    digits = 1 if "." in number else 0
    return f"{float(number) * share:.{digits}f}/{number} {unit}"


def _repository(transfer: Transfer, room: int) -> str:
    """Return the repository, with its host if there is room. The end of a long name is kept, not the beginning."""
    name = str(transfer.source) if len(str(transfer.source)) <= room else transfer.source.path
    return name if len(name) <= room else "…" + name[len(name) - room + 1 :]


def failure(failed: FailedImage) -> RenderableType:
    """Return a failed image with its error."""
    return Group(_failure_head(failed), Padding(Text(_printable(failed.failure.message)), _INDENT))


def _failure_head(failed: FailedImage) -> Text:
    names = (str(failed.source), "bold"), (" → ", "dim"), (str(failed.destination), "bold")
    return Text.assemble(("✗ ", "bold red"), *names)


def _printable(text: str) -> str:
    """Replace control characters in untrusted text."""
    return "".join(character if character.isprintable() else " " for character in text)


def warning(message: str) -> Text:
    return Text.assemble(("! ", "bold yellow"), _printable(message))


def closing(run: RunProgress) -> RenderableType:
    """Return the closing table. Each error takes one line; the full text is above, and in the report."""
    listed = [failed for failed in run.failures if failed.failure.kind != INTERRUPTED]
    failures: list[RenderableType] = [Text()] if listed else []
    failures += [_short_failure(failed) for failed in listed]
    if listed and (rest := run.failed - run.interrupted - len(listed)):
        failures.append(Text(f"  and {rest} more, see the report", "dim"))
    return Group(Text(), _verdict(run), Text(), Padding(_table(run), _INDENT), *failures, Text())


def _short_failure(failed: FailedImage) -> RenderableType:
    # Omit the attempt, which repeats the image, to leave room for the response.
    reason = Text(_ATTEMPT.sub("", _printable(failed.failure.message)), no_wrap=True, overflow="ellipsis")
    return Group(_failure_head(failed), Padding(reason, _INDENT))


def _verdict(run: RunProgress) -> Text:
    assert run.finished is not None
    took = f" in {words.duration(run.finished.seconds)}"
    match run.finished.outcome:
        case "interrupted":
            left = f": {words.count(run.interrupted, 'image')} not done" if run.interrupted else ""
            return Text(f"! Stopped before the end{took}{left}", "bold yellow")
        case "success" if run.dry_run:
            return Text(f"✓ Planned{took}: nothing was changed", "bold green")
        case "success":
            return Text(f"✓ Finished{took}: every image is at its destination", "bold green")
    failed = words.count(run.failed, "image")
    return Text(f"✗ Finished{took}: {failed} of {run.done} failed", "bold red")


def _cells(run: RunProgress) -> list[tuple[str, list[tuple[str, str, str]]]]:
    """The rows of the closing table: a title, and numbers with their names and styles."""
    blobs, nbytes = run.blobs, run.nbytes
    return [
        (
            "Images",
            [
                (str(run.synced), "would be synced" if run.dry_run else "synced", "green"),
                (str(run.skipped), "skipped", ""),
                (str(run.failed), "failed", "bold red"),
            ],
        ),
        ("Blobs", [(str(blobs[name]), name, "") for name in ("copied", "mounted", "shared", "present")]),
        (
            "Bytes",
            [
                (words.size(nbytes["pulled"]), "pulled", ""),
                (words.size(nbytes["pushed"]), "pushed", ""),
                (words.rate(run.average()), "on average", ""),
            ],
        ),
    ]


def _table(run: RunProgress) -> Table:
    table = Table.grid("", "", padding=_GAP)
    table.columns[0].style = "dim"
    for title, cells in _cells(run):
        numbers = [
            Text.assemble((number, style if number != "0" else "dim"), (f" {name}", "dim"))
            for number, name, style in cells
        ]
        table.add_row(title, Text(", ").join(numbers))
    return table
