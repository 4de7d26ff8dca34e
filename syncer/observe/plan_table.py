"""The result of a dry run as a table: drawn by rich on a terminal, otherwise as plain lines of any length."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from syncer.events import SkipReason
from syncer.observe.words import count, listed, short, size

MAX_DRAWN = 2_000
"""Number of images. A longer table is printed as plain lines, since rich would take minutes to measure it."""

_HEADINGS = ("action", "copy", "mount", "there", "bytes", "image")
_IN_TOTALS = {"copy": "to copy", "replace": "to replace", "conflict": "in conflict"}
_STYLES = {
    "copy": "green",
    "replace": "yellow",
    "up to date": "dim",
    "drift": "yellow",
    "failed": "red",
    "conflict": "red",
}


class _Row(msgspec.Struct, frozen=True):
    """One image. `there` is the number of blobs that are present or copied for another image of the run."""

    action: str
    copied: int
    mounted: int
    there: int
    nbytes: int
    image: str
    notes: tuple[str, ...]

    @property
    def numbers(self) -> tuple[str, str, str, str]:
        return str(self.copied), str(self.mounted), str(self.there), size(self.nbytes)


def render_plan(document: Mapping[str, Any], *, width: int = 80, styled: bool = False) -> Iterator[str]:
    """Yield the lines of a dry run's report as a table.

    If `styled` is set, the table is for a terminal of `width` columns, with colors and wrapped names. Otherwise each
    image is one line of any length.
    """
    rows = [_row(image) for image in document["images"]]
    if styled and len(rows) <= MAX_DRAWN:
        yield from _drawn(rows, width)
    else:
        yield from _plain(rows)
    for selection in document.get("selections", ()):
        yield f"{selection['source']}: {selection['text']}"
    for removal in document.get("pruned", ()):
        yield f"remove {removal['destination']} ({short(removal['digest'])}): {removal['reason']}"
    for stay in document.get("not_pruned", ()):
        yield f"not removed: {stay['destination']}: {stay['reason']}"
    yield from _summary(rows)
    if removals := len(document.get("pruned", ())):
        yield f"{count(removals, 'tag')} to remove with --prune"


def _row(image: Mapping[str, Any]) -> _Row:
    plan = image["plan"]
    blobs = plan["blobs"]
    action, notes = _action(image)
    if filtered := image.get("narrowed"):
        notes = (*notes, f"keeps {listed(filtered['kept'])}, drops {listed(filtered['dropped'])}")
    return _Row(
        action,
        blobs["copied"],
        blobs["mounted"],
        blobs["present"] + blobs["shared"],
        plan["bytes"],
        f"{image['source']} -> {image['destination']}",
        notes,
    )


def _action(image: Mapping[str, Any]) -> tuple[str, tuple[str, ...]]:
    """Return the action in one or two words, and notes about it."""
    match image["outcome"]:
        case "failed":
            error = image["error"]
            # A 409 of a registry has a status. A conflict of two rules has none.
            between_rules = error["kind"] == "conflict" and error["status"] is None
            return ("conflict" if between_rules else "failed"), (error["message"],)
        case "skipped" if image["skip_reason"] == SkipReason.UP_TO_DATE:
            return "up to date", ()
        case "skipped" if image["skip_reason"] == SkipReason.IMMUTABLE and image["digest"] is None:
            return "immutable", ()
        case "skipped" if image.get("drift"):
            return "drift", (image["reason"],)
        case "skipped":
            return "skipped", (image["reason"],)
    plan = image["plan"]
    if plan["action"] == "replace":
        change = f"{short(image['previous_digest'])} -> {short(image['digest'])}"
        return "replace", ("forced" if image["previous_digest"] == image["digest"] else change,)
    _, _, also = plan["reason"].partition("; ")
    return str(plan["action"]), (also,) if also else ()


def _plain(rows: Sequence[_Row]) -> Iterator[str]:
    if not rows:
        return
    actions = max(len(_HEADINGS[0]), *(len(row.action) for row in rows))
    widths = [
        max(len(heading), *(len(row.numbers[index]) for row in rows))
        for index, heading in enumerate(_HEADINGS[1:5])
    ]

    def line(action: str, numbers: Sequence[str], image: str) -> str:
        right = "  ".join(number.rjust(width) for number, width in zip(numbers, widths, strict=True))
        return f"{action.ljust(actions)}  {right}  {image}"

    yield line(_HEADINGS[0], _HEADINGS[1:5], _HEADINGS[5])
    for row in rows:
        notes = "".join(f"; {note}" for note in row.notes)
        yield line(row.action, row.numbers, f"{row.image}{notes}")


def _drawn(rows: Sequence[_Row], width: int) -> Iterator[str]:
    # Importing rich is slow, and only a terminal needs it.
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    if not rows:
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column(_HEADINGS[0], no_wrap=True)
    for heading in _HEADINGS[1:5]:
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column(_HEADINGS[5], overflow="fold", ratio=1)
    for row in rows:
        style = _STYLES.get(row.action, "")
        notes = (Text(note, style=style or "dim") for note in row.notes)
        image = Text("\n").join([Text(row.image), *notes])
        # Omit zeros, so that the other numbers stand out.
        numbers = ("" if number.startswith("0") else number for number in row.numbers)
        table.add_row(Text(row.action, style=style), *numbers, image)
    console = Console(width=width, force_terminal=True, highlight=False)
    with console.capture() as capture:
        console.print(table)
    for line in capture.get().splitlines():
        yield line.rstrip()


def _summary(rows: Sequence[_Row]) -> Iterator[str]:
    actions = Counter(_IN_TOTALS.get(row.action, row.action) for row in rows)
    said = ", ".join(f"{number} {action}" for action, number in actions.items())
    copied = sum(row.copied for row in rows)
    mounted = sum(row.mounted for row in rows)
    there = sum(row.there for row in rows)
    nbytes = sum(row.nbytes for row in rows)
    yield f"{count(len(rows), 'image')}{f': {said}' if said else ''}"
    yield f"{count(copied, 'blob')} to copy, {mounted} to mount, {there} already there; {size(nbytes)} to push"
