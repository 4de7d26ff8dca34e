"""Reads YAML into nodes that know their line, from the parser's events.

Events and not PyYAML's own tree: so depth and the size of expanded aliases have bounds, unquoted text stays as
it was written, and duplicate keys show.
"""

from collections.abc import Iterator
from typing import Any

import yaml

from syncer.config.json_reader import MAX_DEPTH
from syncer.config.nodes import Entry, Kind, Mapping, Node, Scalar, Sequence, at, child_path
from syncer.diagnostics import Findings, Place, Problem, Unexpected

MAX_NODES = 1_000_000
"""Values in one file, each alias counted with all that it stands for."""

_NULLS = frozenset({"", "~", "null", "Null", "NULL"})
_CORE_TAGS = frozenset(
    {f"tag:yaml.org,2002:{name}" for name in ("str", "int", "float", "bool", "null", "map", "seq")} | {"!"}
)
_TEXT_TAGS = frozenset({"tag:yaml.org,2002:str", "!"})


def read_yaml(text: str, file: str, root: str, findings: Findings) -> Node | None:
    """The tree of a YAML text; `root` is the path of its top. Problems go to `findings`; None if it cannot be read."""
    loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        return _Builder(yaml.parse(text, Loader=loader), file, findings).document(root)
    except Unexpected as unexpected:
        findings.problems.append(unexpected.problem)
    except yaml.MarkedYAMLError as error:
        findings.problems.append(_syntax_problem(error, file))
    except yaml.YAMLError as error:
        line = 1 + text.count("\n", 0, getattr(error, "position", None) or 0)
        reason = getattr(error, "reason", None) or "it cannot be read"
        findings.problems.append(Problem(file, str(line), f"not YAML: {reason}"))
    return None


def _syntax_problem(error: yaml.MarkedYAMLError, file: str) -> Problem:
    mark = error.problem_mark or error.context_mark
    message = f"not YAML: {error.problem or error.context}"
    if "cannot start any token" in message:
        # libyaml's words for the two usual slips. The character itself may be the start of a password.
        message = "not YAML: found a character that cannot stand here (a tab, or a text that needs quotes)"
    return Problem(file, f"{mark.line + 1}:{mark.column + 1}" if mark else "", message)


class _Builder:
    def __init__(self, events: Iterator[Any], file: str, findings: Findings) -> None:
        self._events = events
        self._file = file
        self._findings = findings
        self._anchors: dict[str, tuple[Node, int]] = {}
        self._count = 0

    def document(self, root: str) -> Node | None:
        next(self._events)  # the stream's start
        event = next(self._events)
        if isinstance(event, yaml.StreamEndEvent):
            return None
        node = self._node(next(self._events), root, 0)
        next(self._events)  # the document's end
        event = next(self._events)
        if isinstance(event, yaml.DocumentStartEvent):
            message = "a second document begins here ('---'): it and all that follows is ignored"
            self._findings.warnings.append(self._place(event, root).problem(message))
        return node

    def _node(self, event: Any, path: str, depth: int) -> Node:
        if depth > MAX_DEPTH:
            raise self._unexpected(event, path, f"nested more than {MAX_DEPTH} levels deep")
        before = self._count
        self._counted(1, event, path)
        place = self._place(event, path)
        if isinstance(event, yaml.AliasEvent):
            if event.anchor not in self._anchors:
                raise self._unexpected(
                    event, path, "an alias (*…) of nothing; a text that begins with '*' needs quotes"
                )
            node, size = self._anchors[event.anchor]
            self._counted(size, event, path)
            return at(node, place)
        if event.tag is not None and event.tag not in _CORE_TAGS:
            raise self._unexpected(
                event,
                path,
                "a YAML tag (!…) that means nothing here; a text that begins with '!' needs quotes",
            )
        node = self._built(event, place, depth)
        if event.anchor is not None:
            self._anchors[event.anchor] = (node, self._count - before)
        return node

    def _built(self, event: Any, place: Place, depth: int) -> Node:
        if isinstance(event, yaml.ScalarEvent):
            return Scalar(place, event.value, _kind(event))
        if isinstance(event, yaml.SequenceStartEvent):
            items: list[Node] = []
            while not isinstance(event := next(self._events), yaml.SequenceEndEvent):
                items.append(self._node(event, f"{place.path}[{len(items)}]", depth + 1))
            return Sequence(place, tuple(items))
        return self._mapping(place, depth)

    def _mapping(self, place: Place, depth: int) -> Mapping:
        entries: dict[str, Entry] = {}
        repeated: list[Entry] = []
        merged: list[Entry] = []
        while not isinstance(event := next(self._events), yaml.MappingEndEvent):
            key_node = self._node(event, place.path, depth + 1)
            if not isinstance(key_node, Scalar) or key_node.kind == "null":
                raise self._unexpected(
                    event, place.path, "expected a name, found a list, a mapping or nothing before ':'"
                )
            key = key_node.text
            key_place = self._place(event, child_path(place.path, key))
            value = self._node(next(self._events), key_place.path, depth + 1)
            if key == "<<" and key_node.kind == "plain":
                merged += self._merged(value)
            elif key in entries:
                repeated.append(Entry(key, key_place, value))
            else:
                entries[key] = Entry(key, key_place, value)
        for entry in merged:
            entries.setdefault(entry.key, entry)
        return Mapping(place, tuple(entries.values()), tuple(repeated))

    def _merged(self, value: Node) -> list[Entry]:
        if isinstance(value, Sequence) and all(isinstance(item, Mapping) for item in value.items):
            return [entry for item in value.items if isinstance(item, Mapping) for entry in item]
        if isinstance(value, Mapping):
            return list(value)
        raise value.place.unexpected("expected a mapping (or a list of some) to merge with '<<'")

    def _counted(self, nodes: int, event: Any, path: str) -> None:
        self._count += nodes
        if self._count > MAX_NODES:
            raise self._unexpected(
                event, path, f"more than {MAX_NODES:,} values once its aliases are expanded"
            )

    def _place(self, event: Any, path: str) -> Place:
        return Place(self._file, event.start_mark.line + 1, path)

    def _unexpected(self, event: Any, path: str, message: str) -> Unexpected:
        return self._place(event, path).unexpected(message)


def _kind(event: Any) -> Kind:
    plain = event.implicit[0] if event.tag is None else event.tag not in _TEXT_TAGS
    if not plain:
        return "text"
    return "null" if event.value in _NULLS else "plain"
