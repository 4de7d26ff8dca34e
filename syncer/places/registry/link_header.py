"""`Link` headers: where a list goes on (RFC 8288, section 3). Read in one pass, however hostile the text."""

import re
from collections.abc import Iterable, Iterator

import msgspec

MAX_LENGTH = 8192
"""Characters of all `Link` headers of an answer."""
_TOKEN = re.compile(r"[^\s;,=]*")
_UNQUOTED = re.compile(r"[^\s;,<>]*")
_SPACE = re.compile(r"\s*")


class InvalidLink(ValueError):
    """A `Link` header that cannot be read."""


class Link(msgspec.Struct, frozen=True):
    """One link. `relations` are in lower case, and None where the link has no `rel`."""

    target: str
    relations: frozenset[str] | None


def next_link(values: Iterable[str], *, same_list: str) -> str | None:
    """The target of the link to the next page, from all `Link` headers of an answer; None if they have none.

    A link without a `rel` is one to the next page where its target contains `same_list`, the path of this very list.
    Raises `InvalidLink` where a header cannot be read, and where it cannot be told which page is next.
    """
    values = list(values)
    if sum(map(len, values)) > MAX_LENGTH:
        raise InvalidLink(f"links of more than {MAX_LENGTH} characters")
    targets = set()
    for value in values:
        for link in parse_links(value):
            if link.relations is None and same_list not in link.target:
                raise InvalidLink(f"a link without a relation: {value[:200]!r}")
            if link.relations is None or "next" in link.relations:
                if not link.target:
                    raise InvalidLink(f"a link to the next page without an address: {value[:200]!r}")
                targets.add(link.target)
    if len(targets) > 1:
        raise InvalidLink("several next pages")
    return targets.pop() if targets else None


def parse_links(value: str) -> list[Link]:
    """The links of one header, in order. Raises `InvalidLink`."""
    links = []
    position = _skip(_SPACE, value, 0)
    while position < len(value):
        if value[position] == ",":
            position = _skip(_SPACE, value, position + 1)
            continue
        end = value.find(">", position)
        if value[position] != "<" or end < 0:
            raise InvalidLink(f"not a link: {value[position : position + 200]!r}")
        target = value[position + 1 : end].strip()
        relations = None
        position = _skip(_SPACE, value, end + 1)
        while value[position : position + 1] == ";":
            name, text, position = _parameter(value, position + 1)
            # Of several only the first counts (section 3.3).
            if name == "rel" and relations is None:
                relations = frozenset(text.lower().split())
        if position < len(value) and value[position] != ",":
            raise InvalidLink(f"not a link's parameter: {value[position : position + 200]!r}")
        links.append(Link(target, relations))
    return links


def _parameter(value: str, position: int) -> tuple[str, str, int]:
    """The name and the value of a parameter, and where the text goes on behind it."""
    position = _skip(_SPACE, value, position)
    start, position = position, _skip(_TOKEN, value, position)
    name = value[start:position].lower()
    position = _skip(_SPACE, value, position)
    if value[position : position + 1] != "=":
        return name, "", position
    position = _skip(_SPACE, value, position + 1)
    quote = value[position : position + 1]
    if quote in {'"', "'"}:
        text, position = _quoted(value, position + 1, quote)
    else:
        start, position = position, _skip(_UNQUOTED, value, position)
        text = value[start:position]
    return name, text, _skip(_SPACE, value, position)


def _quoted(value: str, position: int, quote: str) -> tuple[str, int]:
    """A quoted string from behind its first quote on (RFC 9110, section 5.6.4). Single quotes are no quotes there."""
    parts = []
    for start, end in _stretches(value, position, quote):
        parts.append(value[start:end])
        if value[end : end + 1] == quote:
            return "".join(parts), end + 1
    raise InvalidLink(f"a quoted string that does not end: {value[position : position + 200]!r}")


def _stretches(value: str, position: int, quote: str) -> Iterator[tuple[int, int]]:
    """The stretches of text up to the end of a quoted string, cut where a backslash is left out."""
    start = position
    while position < len(value):
        if value[position] == quote:
            yield start, position
            return
        if value[position] == "\\":
            yield start, position
            start = position = position + 1
        position += 1


def _skip(pattern: re.Pattern[str], value: str, position: int) -> int:
    match = pattern.match(value, position)
    assert match is not None
    return match.end()
