"""How the bars and the closing table look, for a given width and height. Needs nothing but what is handed in."""

import re
from collections.abc import Iterator

import msgspec
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from syncer.observe import words
from syncer.observe.progress.run_progress import INTERRUPTED, FailedImage, RunProgress, Transfer

NARROW = 64
"""Columns below which numbers are left out."""
_MAX_REPOSITORY = 44
_ATTEMPT = re.compile(r"(?:GET|HEAD|PUT|POST|PATCH|DELETE) .*?: ")


class Glyphs(msgspec.Struct, frozen=True):
    """The characters that are not letters."""

    done: str
    half: str
    rest: str
    cross: str
    check: str
    warning: str
    arrow: str
    dot: str
    more: str


FANCY = Glyphs("━", "╾", "─", "✗", "✓", "!", "→", "·", "…")
ASCII = Glyphs("#", "#", "-", "x", "*", "!", "->", "|", "..")


def live_lines(progress_now: RunProgress, width: int, height: int, glyphs: Glyphs) -> list[Text]:
    """The lines that are drawn over while the run goes on, each shorter than `width`."""
    width -= 1
    lines = [Text(), _overall(progress_now, width, glyphs), _details(progress_now, width, glyphs)]
    # Some lines stay free: for a blank one, the cursor, and the last of what went up.
    room = height - len(lines) - 3
    slots = list(progress_now.slots)
    if slots and room > 0:
        lines.append(Text())
        shown = slots if len(slots) <= room else slots[: room - 1]
        lines += [_transfer(slot, progress_now, width, glyphs) if slot else Text() for slot in shown]
        hidden = sum(slot is not None for slot in slots[len(shown) :])
        if hidden:
            lines.append(Text(f"  and {hidden} more", "dim"))
    return lines


def _overall(progress_now: RunProgress, width: int, glyphs: Glyphs) -> Text:
    title = "Planning" if progress_now.dry_run else "Syncing"
    if progress_now.round:
        title = f"Trying again ({progress_now.round})"
    total = progress_now.total
    count = f"{progress_now.done}/{total} images"
    line = Text(f"  {title}  ", "bold")
    room = width - line.cell_len - len(count) - 2
    parts = ((progress_now.done - progress_now.failed, "green"), (progress_now.failed, "red"))
    line.append_text(bar(parts, max(1, total), room, glyphs))
    line.append(f"  {count}", "bold")
    line.truncate(width)
    return line


def _details(progress_now: RunProgress, width: int, glyphs: Glyphs) -> Text:
    speed = progress_now.speed()
    left = progress_now.time_left(speed)
    line = Text("  ")
    if progress_now.failed:
        # What matters most must not fall off at the right of a narrow window.
        line.append(f"{progress_now.failed} failed", "bold red").append(f" {glyphs.dot} ", "dim")
    line.append(f"{words.size(progress_now.moved)} at {words.rate(speed)}")
    line.append(f" {glyphs.dot} ", "dim").append(_whole(progress_now.elapsed))
    if left is not None:
        line.append(f", about {_whole(max(left, 1.0))} left")
    line.truncate(width)
    return line


def _whole(seconds: float) -> str:
    """Without tenths, which would flicker."""
    return f"{seconds:.0f} s" if seconds < 10 else words.duration(seconds)


def _transfer(transfer: Transfer, progress_now: RunProgress, width: int, glyphs: Glyphs) -> Text:
    speed = progress_now.speed_of(transfer)
    whole = transfer.whole
    if width < NARROW:
        digest, numbers = transfer.digest.hex[:7], f"{_percent(transfer):>5}"
        repository_room = max(6, (width - len(digest) - len(numbers) - 6) // 2)
    else:
        digest = transfer.digest.hex[:12]
        rate = words.rate(speed) if transfer.moved else ""
        numbers = f"{_of(transfer.moved, whole):>16}  {rate:>10}"
        repository_room = min(_MAX_REPOSITORY, (width - len(digest) - len(numbers) - 8) // 2)
    name = str(transfer.source) if len(str(transfer.source)) <= repository_room else transfer.source.path
    name = _from_right(name, repository_room, glyphs)
    line = Text("  ")
    line.append(digest, "cyan")
    line.append(f"  {name:<{repository_room}}  ")
    room = width - line.cell_len - len(numbers) - 1
    line.append_text(bar(((transfer.moved, "cyan"),), max(1, whole), room, glyphs))
    line.append(f" {numbers}")
    line.truncate(width)
    return line


def bar(parts: tuple[tuple[int, str], ...], whole: int, room: int, glyphs: Glyphs) -> Text:
    """A bar of `room` columns; each part takes its share of `whole` in its color, and at least one column."""
    line = Text()
    left = room = max(0, room)
    for amount, style in parts:
        halves = min(2 * left, amount * room * 2 // whole)
        full = min(left, max(halves // 2, 1 if amount else 0))
        line.append(glyphs.done * full, style)
        left -= full
        if halves > 2 * full and left and (amount, style) == parts[-1]:
            line.append(glyphs.half, style)
            left -= 1
    return line.append(glyphs.rest * left, "dim")


def _percent(transfer: Transfer) -> str:
    return f"{min(100, transfer.moved * 100 // transfer.whole)}%" if transfer.whole > 0 else ""


def _of(moved: int, whole: int) -> str:
    """`3.1/12.3 MB`: both in the unit of the whole."""
    if whole < 0:
        return words.size(moved)
    number, unit = words.size(whole).split()
    if not whole:
        return f"0/{number} {unit}"
    share = min(1.0, moved / whole)
    digits = 1 if "." in number else 0
    return f"{float(number) * share:.{digits}f}/{number} {unit}"


def _from_right(name: str, room: int, glyphs: Glyphs) -> str:
    """The end of a repository's name says more than its beginning."""
    return name if len(name) <= room else glyphs.more + name[len(name) - room + len(glyphs.more) :]


def failure_lines(failed: FailedImage, glyphs: Glyphs) -> Iterator[Text | Padding]:
    """An image that failed: what, and why."""
    yield _failure_head(failed, glyphs)
    yield Padding(Text(_printable(failed.failure.message)), (0, 0, 0, 2))


def _failure_head(failed: FailedImage, glyphs: Glyphs) -> Text:
    head = Text.assemble((f"{glyphs.cross} ", "bold red"), (str(failed.source), "bold"))
    return head.append(f" {glyphs.arrow} ", "dim").append(str(failed.destination), "bold")


def _printable(text: str) -> str:
    """A registry's words must not steer the terminal."""
    return "".join(character if character.isprintable() else " " for character in text)


def warning_line(message: str, glyphs: Glyphs) -> Text:
    return Text.assemble((f"{glyphs.warning} ", "bold yellow"), _printable(message))


def closing(progress_now: RunProgress, width: int, glyphs: Glyphs) -> Iterator[Text | Table | Padding]:
    """What the run came to. Reasons take a line each: in full they stand above, and in the report."""
    yield Text()
    yield _verdict(progress_now, glyphs)
    yield Text()
    yield _table(progress_now) if width > NARROW else Padding(_sums(progress_now), (0, 0, 0, 2))
    listed = [failed for failed in progress_now.failures if failed.failure.kind != INTERRUPTED]
    if listed:
        yield Text()
        for failed in listed:
            yield from _short_failure(failed, glyphs)
        if rest := progress_now.failed - progress_now.interrupted - len(listed):
            yield Text(f"  and {rest} more, see the report", "dim")
    yield Text()


def _short_failure(failed: FailedImage, glyphs: Glyphs) -> Iterator[Text | Padding]:
    yield _failure_head(failed, glyphs)
    # What was tried names the image once more: what came back matters more.
    reason = Text(_ATTEMPT.sub("", _printable(failed.failure.message)), no_wrap=True, overflow="ellipsis")
    yield Padding(reason, (0, 0, 0, 2))


def _verdict(progress_now: RunProgress, glyphs: Glyphs) -> Text:
    assert progress_now.finished is not None
    took = f" in {words.duration(progress_now.finished.seconds)}"
    match progress_now.finished.outcome:
        case "interrupted":
            left = (
                f": {words.count(progress_now.interrupted, 'image')} not done"
                if progress_now.interrupted
                else ""
            )
            return Text(f"{glyphs.warning} Stopped before the end{took}{left}", "bold yellow")
        case "success" if progress_now.dry_run:
            return Text(f"{glyphs.check} Planned{took}: nothing was changed", "bold green")
        case "success":
            return Text(f"{glyphs.check} Finished{took}: every image is at its destination", "bold green")
    failed = words.count(progress_now.failed, "image")
    return Text(f"{glyphs.cross} Finished{took}: {failed} of {progress_now.done} failed", "bold red")


def _cells(progress_now: RunProgress) -> list[tuple[str, list[tuple[str, str, str]]]]:
    """The rows of the closing table: a title, and numbers with their names and styles."""
    blobs, nbytes = progress_now.blobs, progress_now.nbytes
    return [
        (
            "Images",
            [
                (str(progress_now.synced), "would be synced" if progress_now.dry_run else "synced", "green"),
                (str(progress_now.skipped), "skipped", ""),
                (str(progress_now.failed), "failed", "bold red"),
            ],
        ),
        ("Blobs", [(str(blobs[name]), name, "") for name in ("copied", "mounted", "shared", "present")]),
        (
            "Bytes",
            [
                (words.size(nbytes["pulled"]), "pulled", ""),
                (words.size(nbytes["pushed"]), "pushed", ""),
                (words.rate(progress_now.average()), "on average", ""),
            ],
        ),
    ]


def _table(progress_now: RunProgress) -> Table:
    table = Table.grid()
    table.add_column(style="dim")
    for _ in range(4):
        table.add_column(justify="right")
        table.add_column(style="dim")
    for title, cells in _cells(progress_now):
        row = [Text(f"  {title}  ")]
        for number, name, style in cells:
            row += [Text(number, style if number != "0" else "dim"), Text(f" {name}   ")]
        table.add_row(*row)
    return table


def _sums(progress_now: RunProgress) -> Text:
    """The same for narrow windows: it wraps."""
    lines = [
        Text.assemble((f"{title}: ", "dim")).append_text(
            Text(", ").join(
                Text.assemble((number, style if number != "0" else "dim"), (f" {name}", "dim"))
                for number, name, style in cells
            )
        )
        for title, cells in _cells(progress_now)
    ]
    return Text("\n").join(lines)
