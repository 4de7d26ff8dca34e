"""Reads a plain list of rules: `[--platform=OS/ARCH] SOURCE [DESTINATION]` on each line."""

import re
from collections.abc import Iterator
from pathlib import Path

from syncer.config.nodes import Entry, Mapping, Node, Scalar, Sequence
from syncer.diagnostics import Findings, Place, Unexpected, shown
from syncer.lazy_pattern import lazy_pattern

MAX_PROBLEMS = 1000
"""Problems after which the rest of a list is not read."""
_PLATFORM = "--platform="
_DOCUMENTS = (".json", ".yaml", ".yml")
_YAML = lazy_pattern(r"- |-$|---|\? |%YAML|.{0,4096}?:(?: |$)")


def is_list(path: Path, text: str) -> bool:
    """Return whether a file that is not named as JSON or YAML is a plain list. Its first rule decides."""
    if path.suffix.lower() in _DOCUMENTS:
        return False
    first = next((line for line in map(_without_comment, text.split("\n")) if line), "")
    return not first.startswith(("{", "[")) and not _YAML.match(first)


def read_list(text: str, file: str, findings: Findings) -> Node:
    """Return the rules as a list of mappings with `from`, `to` and `platforms`. Problems go to `findings`."""
    items: list[Node] = []
    problems = 0
    for number, line in enumerate(text.split("\n"), 1):
        place = Place(file, number)
        try:
            if words := _without_comment(line).split():
                items.append(Mapping(place, tuple(_entries(words, place))))
        except Unexpected as unexpected:
            findings.problems.append(unexpected.problem)
            problems += 1
            if problems == MAX_PROBLEMS:
                findings.problems.append(
                    place.problem(f"{problems:,} problems; the rest of the file is not read")
                )
                break
    return Sequence(Place(file, 1), tuple(items))


def _without_comment(line: str) -> str:
    """Return the line up to a `#` at its start or after a blank."""
    return re.split(r"(?:^|\s)#", line, maxsplit=1)[0].strip()


def _entries(words: list[str], place: Place) -> Iterator[Entry]:
    platforms: list[Node] = []
    while words and words[0].startswith("--"):
        option = words.pop(0)
        names = option.removeprefix(_PLATFORM).split(",") if option.startswith(_PLATFORM) else []
        if not all(names) or not names:
            raise place.unexpected(
                f"expected --platform=OS/ARCH, as --platform=linux/amd64, found {shown(option)}"
            )
        platforms += [Scalar(place, name, "text") for name in names]
    if len(words) not in (1, 2):
        raise place.unexpected(
            f"expected [--platform=OS/ARCH] SOURCE [DESTINATION], found {len(words)} words after the options"
        )
    for key, word in zip(("from", "to"), words, strict=False):
        yield Entry(key, place, Scalar(place, word, "text"))
    if platforms:
        yield Entry("platforms", place, Sequence(place, tuple(platforms)))
