"""Reads YAML and JSON with any number of documents into lists, mappings and texts that know their line.

An alias is the same object as its anchor, so that aliases of aliases take no memory: whoever walks a document must visit
each object once.
"""

import json
from collections.abc import Iterator
from typing import Any, Union

import msgspec

MAX_DEPTH = 200
"""Levels of nesting. The schemas of custom resources have about forty."""
MAX_NODES = 5_000_000
"""Values in one file. Keys that a merge (`<<`) copies count too."""


_NULLS = frozenset({"~", "null", "Null", "NULL"})


class Unreadable(ValueError):
    """A file that cannot be parsed. `line` is 0 if it is not known."""

    def __init__(self, message: str, line: int = 0) -> None:
        super().__init__(message)
        self.line = line


class Text(msgspec.Struct, frozen=True):
    """A scalar as it is written. `line` counts from 1. A JSON document does not tell the line: it is 0."""

    value: str
    line: int = 0


Node = Union[Text, list["Node"], dict[str, "Node"]]  # noqa: UP007 - a recursive alias needs the names as text


def read_json(text: str) -> Iterator[Node]:
    """Yield each document of a JSON text. Several may follow each other. Raises `Unreadable`."""
    # Long numbers would raise ValueError, and no reference is a number.
    decoder = json.JSONDecoder(parse_int=str, parse_float=str)
    at = 0
    while (at := _after_blanks(text, at)) < len(text):
        try:
            document, at = decoder.raw_decode(text, at)
            yield _converted(document, 0)
        except json.JSONDecodeError as error:
            raise Unreadable(f"not JSON: {error.msg.lower()}", error.lineno) from None
        except RecursionError:
            raise Unreadable(f"nested more than {MAX_DEPTH} levels deep") from None


def _after_blanks(text: str, at: int) -> int:
    while at < len(text) and text[at].isspace():
        at += 1
    return at


def _converted(value: object, depth: int) -> Node:
    if depth > MAX_DEPTH:
        raise Unreadable(f"nested more than {MAX_DEPTH} levels deep")
    match value:
        case dict():
            return {key: _converted(item, depth + 1) for key, item in value.items()}
        case list():
            return [_converted(item, depth + 1) for item in value]
        case str():
            return Text(value)
    return Text("" if value is None else json.dumps(value))


def read_yaml(text: str) -> Iterator[Node]:
    """Yield each document of a YAML text. Raises `Unreadable`; the documents before the error are yielded."""
    import yaml  # takes 40 ms

    loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        yield from _Documents(yaml.parse(text, Loader=loader)).documents()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 0
        raise Unreadable(f"not YAML: {error.problem or error.context}", line) from None
    except yaml.YAMLError as error:
        raise Unreadable(f"not YAML: {getattr(error, 'reason', None) or 'cannot be parsed'}") from None


def _line(event: Any) -> int:
    return int(event.start_mark.line) + 1


class _Documents:
    """Builds documents from the events of PyYAML's parser. Tags such as compose's `!reset` are ignored."""

    def __init__(self, events: Iterator[Any]) -> None:
        import yaml

        self._yaml = yaml
        self._events = events
        self._anchors: dict[str, Node] = {}
        self._count = 0

    def documents(self) -> Iterator[Node]:
        for event in self._events:
            if isinstance(event, self._yaml.DocumentStartEvent):
                self._anchors = {}
                yield self._node(next(self._events), 0)

    def _node(self, event: Any, depth: int) -> Node:
        kind = type(event)
        if kind is self._yaml.AliasEvent:
            if event.anchor not in self._anchors:
                raise Unreadable("an alias of nothing", _line(event))
            return self._anchors[event.anchor]
        self._charge(1, event)
        if depth > MAX_DEPTH:
            raise Unreadable(f"nested more than {MAX_DEPTH} levels deep", _line(event))
        node: Node
        if kind is self._yaml.ScalarEvent:
            is_null = not event.style and event.value in _NULLS
            node = Text("" if is_null else event.value, _line(event))
        elif kind is self._yaml.SequenceStartEvent:
            node = []
            while type(inner := next(self._events)) is not self._yaml.SequenceEndEvent:
                node.append(self._node(inner, depth + 1))
        else:
            node = self._mapping(depth)
        if event.anchor is not None:
            self._anchors[event.anchor] = node
        return node

    def _mapping(self, depth: int) -> dict[str, Node]:
        mapping: dict[str, Node] = {}
        merged: list[dict[str, Node]] = []
        while type(event := next(self._events)) is not self._yaml.MappingEndEvent:
            key = self._node(event, depth + 1)
            value = self._node(next(self._events), depth + 1)
            if not isinstance(key, Text):
                continue  # such keys name no field of any format here
            if key.value == "<<":
                each = value if isinstance(value, list) else [value]
                merged += [item for item in each if isinstance(item, dict)]
                self._charge(sum(len(item) for item in each if isinstance(item, dict)), event)
            else:
                mapping[key.value] = value
        for other in merged:
            for name, value in other.items():
                mapping.setdefault(name, value)
        return mapping

    def _charge(self, nodes: int, event: Any) -> None:
        self._count += nodes
        if self._count > MAX_NODES:
            raise Unreadable(f"more than {MAX_NODES:,} values", _line(event))
