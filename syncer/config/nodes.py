"""What a file holds, as a small tree whose nodes know their place, and problems that say it.

Both readers (JSON and YAML) build this tree, so that checks and their messages are the same for both. (Structs and not
dataclasses: a dataclass takes a millisecond to define, and every start pays it.)
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import msgspec

from syncer.diagnostics import MAX_SHOWN, Place, Problem, shown
from syncer.lazy_pattern import lazy_pattern
from syncer.rules.attestations import Attestations

_PLAIN_NAME = lazy_pattern(r"[A-Za-z_$][A-Za-z0-9_-]*", re.ASCII)
_YAML_TRUE = frozenset({"true", "yes", "on", "y"})
_YAML_FALSE = frozenset({"false", "no", "off", "n"})
_WHOLE = lazy_pattern(r"0|[1-9][0-9]{0,15}", re.ASCII)
_NUMBER = lazy_pattern(
    r"[+-]?(?:[0-9]{1,30}(?:\.[0-9]{0,30})?|\.[0-9]{1,30})(?:[eE][+-]?[0-9]{1,3})?", re.ASCII
)


Kind = Literal["text", "plain", "number", "boolean", "null"]
_KINDS: dict[Kind, str] = {
    "text": "text",
    "plain": "text",
    "number": "a number",
    "boolean": "true or false",
    "null": "nothing (null)",
}


class Scalar(msgspec.Struct, frozen=True):
    """A single value. `kind` is `plain` for unquoted YAML, which may be read as text or as anything else."""

    place: Place
    text: str
    kind: Kind


class Sequence(msgspec.Struct, frozen=True):
    place: Place
    items: "tuple[Node, ...]"


class Entry(msgspec.Struct, frozen=True):
    """One name of a mapping with its value; `place` is that of the name."""

    key: str
    place: Place
    value: "Node"


class Mapping(msgspec.Struct, frozen=True):
    """`entries` has each name once, `repeated` those that stand there again, for whom it concerns."""

    place: Place
    entries: tuple[Entry, ...]
    repeated: tuple[Entry, ...] = ()

    def __iter__(self) -> Iterator[Entry]:
        return iter(self.entries)

    def get(self, key: str) -> "Node | None":
        return next((entry.value for entry in self.entries if entry.key == key), None)


Node = Scalar | Sequence | Mapping


def duplicate_keys(node: Node) -> Iterator[Problem]:
    """The problems of names that stand twice in one mapping, in a node and in all below."""
    if isinstance(node, Sequence):
        for item in node.items:
            yield from duplicate_keys(item)
    elif isinstance(node, Mapping):
        for entry in node.repeated:
            yield _duplicate(node, entry)
        for entry in node:
            yield from duplicate_keys(entry.value)


def _duplicate(mapping: Mapping, entry: Entry) -> Problem:
    first = next(each.place.line for each in mapping if each.key == entry.key)
    return entry.place.problem(f"duplicate key {shown(entry.key)}: it stands in line {first} already")


def child_path(parent: str, key: str) -> str:
    """The path of a name below `parent`: `images."quay.io/x".to`."""
    if not _PLAIN_NAME.fullmatch(key):
        key = json.dumps(
            key if len(key) <= MAX_SHOWN else f"{key[:MAX_SHOWN]}…", ensure_ascii=not key.isprintable()
        )
    return f"{parent}.{key}" if parent else key


def at(node: Node, place: Place) -> Node:
    """The same node as seen from another place (a YAML alias)."""
    return msgspec.structs.replace(node, place=place)


def found(node: Node) -> str:
    """What kind of thing a node is, for messages. Never its value: that may be a secret."""
    if isinstance(node, Scalar):
        return _KINDS[node.kind] if node.text or node.kind == "null" else "an empty text"
    return "a list" if isinstance(node, Sequence) else "a mapping"


def is_null(node: Node) -> bool:
    """Whether nothing is written there."""
    return isinstance(node, Scalar) and node.kind == "null"


def has(node: Node, key: str) -> bool:
    """Whether a node is a mapping that sets a key: null sets nothing."""
    value = node.get(key) if isinstance(node, Mapping) else None
    return value is not None and not is_null(value)


def is_empty(node: Node) -> bool:
    """Whether nothing is there: null, an empty text, an empty list."""
    if isinstance(node, Scalar):
        return node.kind == "null" or (node.kind in ("text", "plain") and not node.text.strip())
    return isinstance(node, Sequence) and not node.items


def text_of(node: Node, expected: str = "text") -> str:
    """Raises `Unexpected`."""
    if isinstance(node, Scalar) and node.kind in ("text", "plain"):
        return node.text
    hint = " (put it in quotes)" if isinstance(node, Scalar) and node.kind != "null" else ""
    raise node.place.unexpected(f"expected {expected}, found {found(node)}{hint}")


def path_from(place: Place, written: str) -> Path:
    """Return the path that a text at `place` means. A relative one starts at the folder of the file."""
    return Path(place.file).parent / written


def flag_of(node: Node) -> bool:
    """True or false; unquoted YAML may also say yes, no, on, off. Raises `Unexpected`."""
    if isinstance(node, Scalar) and node.kind == "boolean":
        return node.text == "true"
    if isinstance(node, Scalar) and node.kind == "plain" and node.text.lower() in _YAML_TRUE | _YAML_FALSE:
        return node.text.lower() in _YAML_TRUE
    hint = " (write it without quotes)" if isinstance(node, Scalar) and node.kind == "text" else ""
    raise node.place.unexpected(f"expected true or false, found {found(node)}{hint}")


def number_of(node: Node, expected: str = "a number") -> float:
    """A finite number. Raises `Unexpected`."""
    if isinstance(node, Scalar) and node.kind in ("number", "plain") and _NUMBER.fullmatch(node.text):
        number = float(node.text)
        if abs(number) < 1e18:
            return number
    raise node.place.unexpected(f"expected {expected}, found {found(node)}")


def attestations_of(node: Node) -> Attestations:
    """Raises `Unexpected`."""
    expected = ", ".join(Attestations)
    text = text_of(node, f"one of {expected}")
    if text not in list(Attestations):
        raise node.place.unexpected(f"expected one of {expected}, found {shown(text)}")
    return Attestations(text)


def items_of(node: Node, expected: str) -> "tuple[Node, ...]":
    """The members of a list that is not empty. Raises `Unexpected`."""
    if isinstance(node, Sequence) and node.items:
        return node.items
    raise node.place.unexpected(
        f"expected {expected}, found {'an empty list' if isinstance(node, Sequence) else found(node)}"
    )


def mapping_of(node: Node, expected: str) -> Mapping:
    """Raises `Unexpected`."""
    if isinstance(node, Mapping):
        return node
    raise node.place.unexpected(f"expected {expected}, found {found(node)}")
