"""Reads the key `tags` of a rule: an object, or a glob or list of globs as shorthand for `include`."""

from collections.abc import Callable
from typing import Any

from syncer.config import nodes
from syncer.config.nodes import Node
from syncer.diagnostics import Findings, Unexpected, shown
from syncer.durations import InvalidDuration, parse_duration
from syncer.lazy_pattern import lazy_pattern
from syncer.rules.expressions import InvalidPattern, check_pattern
from syncer.rules.globs import InvalidGlob, check_glob
from syncer.rules.ranges import InvalidRange, VersionRange, parse_range
from syncer.rules.tag_filter import FilteredTags, is_literal, is_regex

EXPECTED = 'a glob, a list of globs, or a mapping, as {semver: ">=1.20", latest: 5}'
MAX_COUNT = 1_000_000
_MAX_AGE = 100 * 366 * 86400.0
_NOT_IN_GLOB = lazy_pattern(r"[^A-Za-z0-9_.*?!\[\]^-]")


def read_tags(node: Node, findings: Findings) -> FilteredTags:
    """Read the selection. Each problem goes to `findings`. Raises `Unexpected` if the whole value is of a wrong kind."""
    if not isinstance(node, nodes.Mapping):
        if nodes.is_null(node):
            raise node.place.unexpected(f"expected {EXPECTED}, found {nodes.found(node)}")
        return FilteredTags(include=_include(node, findings))
    read: dict[str, Any] = {}
    problems = len(findings.problems)
    for entry in node:
        reader = _READERS.get(entry.key)
        if reader is None:
            message = f"unknown key {shown(entry.key)}: expected {', '.join(_READERS)}"
            findings.problems.append(entry.place.problem(message))
        elif not nodes.is_null(entry.value):
            try:
                read[entry.key] = reader(entry.value, findings)
            except Unexpected as unexpected:
                findings.problems.append(unexpected.problem)
    selection = FilteredTags(**read)
    if len(findings.problems) == problems and (contradiction := _contradiction(selection)):
        key, message = contradiction
        place = next((entry.place for entry in node if entry.key == key), node.place)
        findings.problems.append(place.problem(message))
    return selection


def _contradiction(tags: FilteredTags) -> tuple[str, str] | None:
    """Return the key and the message of settings that cannot be meant together."""
    if "*" in tags.exclude:
        return "exclude", "this excludes every tag"
    if tags.include and all(map(is_literal, tags.include)) and not any(map(tags.keeps, tags.include)):
        return "exclude", "this excludes every tag of `include`"
    if tags.min_age is not None and tags.max_age is not None and tags.min_age >= tags.max_age:
        return "max_age", "expected max_age to be longer than min_age: no tag can have both ages"
    if tags.prerelease and tags.versions is None:
        return "prerelease", 'without effect: pre-releases are versions, so add semver: "*"'
    if tags.latest and not tags.latest_per and tags.order != "semver" and tags.at_least > tags.latest:
        return "at_least", f"expected at most {tags.latest}, because `latest` keeps no more tags"
    return None


def _include(node: Node, findings: Findings) -> tuple[str, ...]:
    return _patterns(node, 'a list of globs, as ["v*"]', findings)


def _exclude(node: Node, findings: Findings) -> tuple[str, ...]:
    return () if isinstance(node, nodes.Sequence) and not node.items else _include(node, findings)


def _patterns(node: Node, expected: str, findings: Findings) -> tuple[str, ...]:
    """Read a pattern or a list of patterns, each of them once."""
    if isinstance(node, nodes.Scalar):
        return (_pattern(node),)
    read: list[str] = []
    for item in nodes.items_of(node, expected):
        try:
            read.append(_pattern(item))
        except Unexpected as unexpected:
            findings.problems.append(unexpected.problem)
    return tuple(dict.fromkeys(read))


def _pattern(node: Node) -> str:
    text = _written(node, "a glob or /regular expression/ as text")
    try:
        if text.startswith("/"):
            if not is_regex(text):
                raise node.place.unexpected(f"expected /regular expression/, found {shown(text)}")
            check_pattern(text[1:-1])
            return text
        return _glob(text)
    except InvalidPattern as error:
        raise node.place.unexpected(f"not a regular expression (RE2): {error}") from error
    except InvalidGlob as error:
        raise node.place.unexpected(str(error)) from error


def _glob(text: str) -> str:
    check_glob(text)
    if wrong := _NOT_IN_GLOB.search(text):
        raise InvalidGlob(
            f'no tag contains {wrong.group()!r}: expected a glob such as "v1.*", found {shown(text)}'
        )
    return text


def _written(node: Node, expected: str) -> str:
    """Return text, or a number as it is written: 1.10 is a tag and a range. Raises `Unexpected`."""
    if isinstance(node, nodes.Scalar) and node.kind == "number":
        return node.text
    return nodes.text_of(node, expected)


def _semver(node: Node, _findings: Findings) -> VersionRange:
    text = _written(node, 'a range of versions as text, as ">=1.20 <2"')
    try:
        return parse_range(text)
    except InvalidRange as error:
        raise node.place.unexpected(str(error)) from error


def _variant(node: Node, _findings: Findings) -> str:
    try:
        return _glob(nodes.text_of(node, 'a glob for the suffix as text, as "-alpine"'))
    except InvalidGlob as error:
        raise node.place.unexpected(str(error)) from error


def _prerelease(node: Node, _findings: Findings) -> bool:
    return nodes.flag_of(node)


def _age(node: Node, _findings: Findings) -> float:
    expected = 'a duration with a unit, as "3d" or "12h"'
    text = nodes.text_of(node, expected)
    try:
        # A number alone would be seconds, and days are meant.
        if text.strip()[-1:].isalpha():
            return parse_duration(text, longest=_MAX_AGE)
    except InvalidDuration:
        pass
    raise node.place.unexpected(f"expected {expected}, found {shown(text)}")


def _one_of(*words: str) -> Callable[[Node, Findings], str]:
    expected = f"one of {', '.join(words)}"

    def read(node: Node, _findings: Findings) -> str:
        text = nodes.text_of(node, expected)
        if text not in words:
            raise node.place.unexpected(f"expected {expected}, found {shown(text)}")
        return text

    return read


def _count(lowest: int) -> Callable[[Node, Findings], int]:
    expected = f"a whole number of at least {lowest}"

    def read(node: Node, _findings: Findings) -> int:
        number = nodes.number_of(node, expected)
        if number != int(number) or not lowest <= number <= MAX_COUNT:
            raise node.place.unexpected(f"expected {expected}, found {number:g}")
        return int(number)

    return read


_READERS: dict[str, Callable[[Node, Findings], object]] = {
    "include": _include,
    "exclude": _exclude,
    "semver": _semver,
    "variant": _variant,
    "prerelease": _prerelease,
    "min_age": _age,
    "max_age": _age,
    "sort": _one_of("semver", "created", "name"),
    "latest": _count(1),
    "latest_per": _one_of("major", "minor"),
    "at_least": _count(0),
}
