"""How the bars and the closing table look, for a given width and height. Needs nothing but what is handed in."""

import re
from collections.abc import Iterator

import msgspec
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from syncer.observe import words
from syncer.observe.progress.run_progress import INTERRUPTED, FailedImage, Picture, Transfer

NARROW = 64
"""Columns below which numbers are left out."""
_MOST_REPOSITORY = 44
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


def live_lines(picture: Picture, width: int, height: int, glyphs: Glyphs) -> list[Text]:
    """The lines that are drawn over while the run goes on, each shorter than `width`."""
    width -= 1
    lines = [Text(), _overall(picture, width, glyphs), _details(picture, width, glyphs)]
    # Some lines stay free: for a blank one, the cursor, and the last of what went up.
    room = height - len(lines) - 3
    slots = list(picture.slots)
    if slots and room > 0:
        lines.append(Text())
        shown = slots if len(slots) <= room else slots[: room - 1]
        lines += [_transfer(slot, picture, width, glyphs) if slot else Text() for slot in shown]
        hidden = sum(slot is not None for slot in slots[len(shown) :])
        if hidden:
            lines.append(Text(f"  and {hidden} more", "dim"))
    return lines


def _overall(picture: Picture, width: int, glyphs: Glyphs) -> Text:
    title = "Planning" if picture.dry_run else "Syncing"
    if picture.round:
        title = f"Trying again ({picture.round})"
    total = picture.total
    count = f"{picture.done}/{total} images"
    line = Text(f"  {title}  ", "bold")
    room = width - line.cell_len - len(count) - 2
    parts = ((picture.done - picture.failed, "green"), (picture.failed, "red"))
    line.append_text(bar(parts, max(1, total), room, glyphs))
    line.append(f"  {count}", "bold")
    line.truncate(width)
    return line


def _details(picture: Picture, width: int, glyphs: Glyphs) -> Text:
    speed = picture.speed()
    left = picture.time_left(speed)
    line = Text("  ")
    if picture.failed:
        # What matters most must not fall off at the right of a narrow window.
        line.append(f"{picture.failed} failed", "bold red").append(f" {glyphs.dot} ", "dim")
    line.append(f"{words.size(picture.moved)} at {words.rate(speed)}")
    line.append(f" {glyphs.dot} ", "dim").append(_whole(picture.elapsed))
    if left is not None:
        line.append(f", about {_whole(max(left, 1.0))} left")
    line.truncate(width)
    return line


def _whole(seconds: float) -> str:
    """Without tenths, which would flicker."""
    return f"{seconds:.0f} s" if seconds < 10 else words.duration(seconds)


def _transfer(transfer: Transfer, picture: Picture, width: int, glyphs: Glyphs) -> Text:
    speed = picture.speed_of(transfer)
    whole = transfer.whole
    if width < NARROW:
        digest, numbers = transfer.digest.hex[:7], f"{_percent(transfer):>5}"
        repository_room = max(6, (width - len(digest) - len(numbers) - 6) // 2)
    else:
        digest = transfer.digest.hex[:12]
        rate = words.rate(speed) if transfer.moved else ""
        numbers = f"{_of(transfer.moved, whole):>16}  {rate:>10}"
        repository_room = min(_MOST_REPOSITORY, (width - len(digest) - len(numbers) - 8) // 2)
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


def closing(picture: Picture, width: int, glyphs: Glyphs) -> Iterator[Text | Table | Padding]:
    """What the run came to. Reasons take a line each: in full they stand above, and in the report."""
    yield Text()
    yield _verdict(picture, glyphs)
    yield Text()
    yield _table(picture) if width > NARROW else Padding(_sums(picture), (0, 0, 0, 2))
    listed = [failed for failed in picture.failures if failed.failure.kind != INTERRUPTED]
    if listed:
        yield Text()
        for failed in listed:
            yield from _short_failure(failed, glyphs)
        if rest := picture.failed - picture.interrupted - len(listed):
            yield Text(f"  and {rest} more, see the report", "dim")
    yield Text()


def _short_failure(failed: FailedImage, glyphs: Glyphs) -> Iterator[Text | Padding]:
    yield _failure_head(failed, glyphs)
    # What was tried names the image once more: what came back matters more.
    reason = Text(_ATTEMPT.sub("", _printable(failed.failure.message)), no_wrap=True, overflow="ellipsis")
    yield Padding(reason, (0, 0, 0, 2))


def _verdict(picture: Picture, glyphs: Glyphs) -> Text:
    assert picture.finished is not None
    took = f" in {words.duration(picture.finished.seconds)}"
    match picture.finished.outcome:
        case "interrupted":
            left = f": {words.count(picture.interrupted, 'image')} not done" if picture.interrupted else ""
            return Text(f"{glyphs.warning} Stopped before the end{took}{left}", "bold yellow")
        case "success" if picture.dry_run:
            return Text(f"{glyphs.check} Planned{took}: nothing was changed", "bold green")
        case "success":
            return Text(f"{glyphs.check} Finished{took}: every image is at its destination", "bold green")
    failed = words.count(picture.failed, "image")
    return Text(f"{glyphs.cross} Finished{took}: {failed} of {picture.done} failed", "bold red")


def _cells(picture: Picture) -> list[tuple[str, list[tuple[str, str, str]]]]:
    """The rows of the closing table: a title, and numbers with their names and styles."""
    blobs, nbytes = picture.blobs, picture.nbytes
    return [
        (
            "Images",
            [
                (str(picture.synced), "would be synced" if picture.dry_run else "synced", "green"),
                (str(picture.skipped), "skipped", ""),
                (str(picture.failed), "failed", "bold red"),
            ],
        ),
        ("Blobs", [(str(blobs[name]), name, "") for name in ("copied", "mounted", "shared", "present")]),
        (
            "Bytes",
            [
                (words.size(nbytes["pulled"]), "pulled", ""),
                (words.size(nbytes["pushed"]), "pushed", ""),
                (words.rate(picture.average()), "on average", ""),
            ],
        ),
    ]


def _table(picture: Picture) -> Table:
    table = Table.grid()
    table.add_column(style="dim")
    for _ in range(4):
        table.add_column(justify="right")
        table.add_column(style="dim")
    for title, cells in _cells(picture):
        row = [Text(f"  {title}  ")]
        for number, name, style in cells:
            row += [Text(number, style if number != "0" else "dim"), Text(f" {name}   ")]
        table.add_row(*row)
    return table


def _sums(picture: Picture) -> Text:
    """The same for narrow windows: it wraps."""
    lines = [
        Text.assemble((f"{title}: ", "dim")).append_text(
            Text(", ").join(
                Text.assemble((number, style if number != "0" else "dim"), (f" {name}", "dim"))
                for number, name, style in cells
            )
        )
        for title, cells in _cells(picture)
    ]
    return Text("\n").join(lines)
