"""How the bars and the closing table look, for a given width and height. Needs nothing but what is handed in."""

from collections.abc import Iterator
from dataclasses import dataclass

from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from syncer.events import RuleWarning
from syncer.observe import words
from syncer.observe.progress.picture import FailedImage, Picture, Transfer

NARROW = 64
"""Columns below which numbers are left out."""
_MOST_REPOSITORY = 44


@dataclass(frozen=True, slots=True)
class Glyphs:
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


FANCY = Glyphs("━", "╸", "─", "✗", "✓", "!", "→", "·", "…")
ASCII = Glyphs("#", "#", "-", "x", "*", "!", "->", "|", "..")


def live_lines(picture: Picture, width: int, height: int, glyphs: Glyphs) -> list[Text]:
    """The lines that are drawn over while the run goes on, each shorter than `width`."""
    width -= 1
    lines = [_overall(picture, width, glyphs), _details(picture, width, glyphs)]
    # One line stays free for what comes above, one for the cursor.
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
    parts = [
        Text(f"{words.size(picture.moved)} at {words.rate(speed)}"),
        Text(words.duration(picture.elapsed)),
    ]
    if left is not None:
        parts[-1].append(f", about {words.duration(max(left, 1.0))} left")
    if picture.failed:
        # What matters most must not fall off at the right of a narrow window.
        parts.insert(0, Text(f"{picture.failed} failed", "bold red"))
    line = Text("  ")
    line.append_text(Text(f" {glyphs.dot} ", "dim").join(parts))
    line.truncate(width)
    return line


def _transfer(transfer: Transfer, picture: Picture, width: int, glyphs: Glyphs) -> Text:
    speed = picture.speed_of(transfer)
    whole = transfer.whole
    if width < NARROW:
        digest, numbers = transfer.digest.hex[:7], f"{_percent(transfer):>5}"
        repository_room = max(6, (width - len(digest) - len(numbers) - 6) // 2)
    else:
        digest = transfer.digest.hex[:12]
        numbers = f"{_of(transfer.moved, whole):>16}  {words.rate(speed):>10}"
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
    """A bar of `room` columns; each part takes its share of `whole` in its color."""
    line = Text()
    halves_left = max(0, room) * 2
    for amount, style in parts:
        halves = min(halves_left, amount * room * 2 // whole)
        if amount and not halves and halves_left and style == "red":
            halves = min(2, halves_left)
        halves_left -= halves
        line.append(glyphs.done * (halves // 2) + glyphs.half * (halves % 2), style)
        halves_left -= halves % 2
    line.append(glyphs.rest * (halves_left // 2), "dim")
    return line


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
    head = Text(f"{glyphs.cross} ", "bold red")
    head.append(f"{failed.source} {glyphs.arrow} {failed.destination}", "bold not red")
    yield head
    retry = "" if failed.failure.permanent else " (trying again may help)"
    yield Padding(Text(f"{failed.failure.message}{retry}", "red"), (0, 0, 0, 2))


def warning_line(warning: RuleWarning, glyphs: Glyphs) -> Text:
    return Text.assemble((f"{glyphs.warning} ", "bold yellow"), (warning.message, "yellow"))


def closing(picture: Picture, glyphs: Glyphs) -> Iterator[Text | Table | Padding]:
    """What the run came to."""
    yield Text()
    yield _verdict(picture, glyphs)
    yield Text()
    yield _table(picture)
    if picture.failures:
        yield Text()
        for failed in picture.failures:
            yield from failure_lines(failed, glyphs)
        if rest := picture.failed - len(picture.failures):
            yield Text(f"  and {rest} more, see the report", "dim")
    yield Text()


def _verdict(picture: Picture, glyphs: Glyphs) -> Text:
    assert picture.finished is not None
    took = f" in {words.duration(picture.finished.seconds)}"
    match picture.finished.outcome:
        case "interrupted":
            return Text(f"{glyphs.warning} Stopped before the end{took}", "bold yellow")
        case "success" if picture.dry_run:
            return Text(f"{glyphs.check} Planned{took}: nothing was changed", "bold green")
        case "success":
            return Text(f"{glyphs.check} Finished{took}: every image is at its destination", "bold green")
    failed = words.count(picture.failed, "image")
    return Text(f"{glyphs.cross} Finished{took}: {failed} of {picture.done} failed", "bold red")


def _table(picture: Picture) -> Table:
    blobs, nbytes = picture.blobs, picture.nbytes
    rows: list[tuple[str, list[tuple[str, str, str]]]] = [
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
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim")
    for title, cells in rows:
        line = Text("   ").join(
            Text.assemble((number, style if number != "0" else "dim"), (f" {name}", "dim"))
            for number, name, style in cells
        )
        table.add_row(f"  {title}", line)
    return table
