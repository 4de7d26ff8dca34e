"""Reads JSON (RFC 8259) into nodes that know their line. The standard library's reader forgets where things were."""

import re
from bisect import bisect_right
from json import JSONDecodeError
from json.decoder import scanstring  # type: ignore[attr-defined]  # undocumented, and as old as the module

from syncer.config.nodes import Entry, Kind, Mapping, Node, Scalar, Sequence, child_path
from syncer.diagnostics import Findings, Place, Problem, Unexpected
from syncer.lazy_pattern import lazy_pattern

MAX_DEPTH = 32
"""Levels of nesting; the deepest file that makes sense has five."""

_BLANKS = lazy_pattern(r"[ \t\n\r]*")
_NUMBER = lazy_pattern(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?", re.ASCII)
_WORD = lazy_pattern(r"[A-Za-z]+")
_OPENING = {"{": "object", "[": "list"}
_SURROGATE = lazy_pattern(r"[\ud800-\udfff]")
_WORDS: dict[str, Kind] = {"true": "boolean", "false": "boolean", "null": "null"}


def read_json(text: str, file: str, root: str, findings: Findings) -> Node | None:
    """The tree of a JSON text; `root` is the path of its top. Problems go to `findings`; None if it cannot be read."""
    try:
        return _Reader(text, file).document(root)
    except Unexpected as unexpected:
        findings.problems.append(unexpected.problem)
        return None


class _Reader:
    def __init__(self, text: str, file: str) -> None:
        self._text = text
        self._file = file
        self._lines = [0, *(match.end() for match in re.finditer("\n", text))]

    def document(self, root: str) -> Node:
        start = self._skip(0)
        node, end = self._value(start, root, 0)
        end = self._skip(end)
        if end < len(self._text):
            top = "object" if isinstance(node, Mapping) else "value"
            message = f"expected the end of the file after the {top}, found {self._rest(end)}"
            raise self._bad(end, message)
        return node

    def _value(self, at: int, path: str, depth: int) -> tuple[Node, int]:
        if depth > MAX_DEPTH:
            raise self._unexpected(at, f"nested more than {MAX_DEPTH} levels deep")
        place = self._place(at, path)
        match self._text[at : at + 1]:
            case "{":
                return self._mapping(at, place, depth)
            case "[":
                return self._sequence(at, place, depth)
            case '"':
                text, end = self._string(at)
                return Scalar(place, text, "text"), end
        word = _WORD.match(self._text, at)
        if word and word.group() in _WORDS:
            return Scalar(place, word.group(), _WORDS[word.group()]), word.end()
        if number := _NUMBER.match(self._text, at):
            return Scalar(place, number.group(), "number"), number.end()
        raise self._unexpected(
            at, "expected a value (text in double quotes, {, [, a number, true, false or null)"
        )

    def _mapping(self, at: int, place: Place, depth: int) -> tuple[Mapping, int]:
        entries: list[Entry] = []
        repeated: list[Entry] = []
        seen: set[str] = set()
        at = self._skip(at + 1)
        if self._text[at : at + 1] == "}":
            return Mapping(place, ()), at + 1
        while True:
            if self._text[at : at + 1] != '"':
                raise self._unexpected(at, "expected a name in double quotes", after_comma=bool(entries))
            key, end = self._string(at)
            key_place = self._place(at, child_path(place.path, key))
            at = self._skip(end)
            if self._text[at : at + 1] != ":":
                raise self._unexpected(at, "expected ':' after a name")
            value, at = self._value(self._skip(at + 1), key_place.path, depth + 1)
            (repeated if key in seen else entries).append(Entry(key, key_place, value))
            seen.add(key)
            at = self._skip(at)
            if self._text[at : at + 1] == "}":
                return Mapping(place, tuple(entries), tuple(repeated)), at + 1
            if self._text[at : at + 1] != ",":
                raise self._unexpected(at, "expected ',' or '}'")
            at = self._skip(at + 1)

    def _sequence(self, at: int, place: Place, depth: int) -> tuple[Sequence, int]:
        items: list[Node] = []
        at = self._skip(at + 1)
        if self._text[at : at + 1] == "]":
            return Sequence(place, ()), at + 1
        while True:
            if items and self._text[at : at + 1] == "]":
                raise self._unexpected(at, "expected a value", after_comma=True)
            item, at = self._value(at, f"{place.path}[{len(items)}]", depth + 1)
            items.append(item)
            at = self._skip(at)
            if self._text[at : at + 1] == "]":
                return Sequence(place, tuple(items)), at + 1
            if self._text[at : at + 1] != ",":
                raise self._unexpected(at, "expected ',' or ']'")
            at = self._skip(at + 1)

    def _string(self, at: int) -> tuple[str, int]:
        try:
            text, end = scanstring(self._text, at + 1, True)
        except JSONDecodeError as error:
            message = error.msg.removesuffix(" at").removesuffix(" starting").lower()
            raise self._bad(error.pos, f"bad text: {message}") from None
        if not text.isascii() and _SURROGATE.search(text):
            raise self._bad(at, "bad text: half of a \\u surrogate pair")
        return text, end

    def _skip(self, at: int) -> int:
        match = _BLANKS.match(self._text, at)
        return match.end() if match else at

    def _place(self, at: int, path: str) -> Place:
        return Place(self._file, bisect_right(self._lines, at), path)

    def _unexpected(self, at: int, expected: str, *, after_comma: bool = False) -> Unexpected:
        return self._bad(at, f"{expected}{self._met(at, after_comma)}")

    def _bad(self, at: int, message: str) -> Unexpected:
        line = bisect_right(self._lines, at)
        place = f"{line}:{at - self._lines[line - 1] + 1}"
        return Unexpected(Problem(self._file, place, f"not JSON: {message}"))

    def _rest(self, at: int) -> str:
        """What stands behind the end, in words: the text itself may be a secret."""
        met = self._text[at]
        if met in _OPENING:
            return f"{met!r}: a file holds one {_OPENING[met]}, and here another one begins"
        if met in "}]":
            return f"{met!r}: nothing is open that it could close"
        if met in ",:\"'/#":
            return f"{met!r} and what follows it"
        return "other text"

    def _met(self, at: int, after_comma: bool) -> str:
        """What stands there instead, where naming it helps and cannot be part of a secret."""
        met = self._text[at : at + 1]
        if not met:
            return ", found the end of the file"
        if after_comma and met in "}]":
            return f", found {met!r}: the last entry has no comma behind it"
        if met in "/#":
            return f", found {met!r}: JSON has no comments (YAML has)"
        if met == "'":
            return ", found a single quote: JSON has double quotes only"
        return f", found {met!r}" if met in '{}[]:,"' else ""
