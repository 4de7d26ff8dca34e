"""Parser for `Link` headers (RFC 8288, section 3). It takes linear time for any input."""

import re
from collections.abc import Iterable, Iterator
from urllib.parse import urljoin, urlsplit

import msgspec

from syncer.lazy_pattern import lazy_pattern

MAX_LENGTH = 8192
"""Characters, for all `Link` headers of a response."""
_TOKEN = lazy_pattern(r"[^\s;,=]*")
_UNQUOTED = lazy_pattern(r"[^\s;,<>]*")
_SPACE = lazy_pattern(r"\s*")


class InvalidLink(ValueError):
    """A `Link` header that cannot be parsed."""


class Link(msgspec.Struct, frozen=True):
    """One link. `relations` are in lower case; None if the link has no `rel`."""

    target: str
    relations: frozenset[str] | None


def next_link(values: Iterable[str], *, same_list: str) -> str | None:
    """Return the target of the link to the next page, from all `Link` headers of a response; None if there is none.

    A link without a `rel` counts as the next page if its target contains `same_list`, the path of the current list.
    Raise `InvalidLink` if a header cannot be parsed, or if the next page is ambiguous.
    """
    values = list(values)
    if sum(map(len, values)) > MAX_LENGTH:
        raise InvalidLink(f"Link headers are longer than {MAX_LENGTH} characters")
    targets = set()
    for value in values:
        for link in parse_links(value):
            if link.relations is None and same_list not in link.target:
                raise InvalidLink(f"link has no relation: {value[:200]!r}")
            if link.relations is None or "next" in link.relations:
                if not link.target:
                    raise InvalidLink(f"link to the next page has no target: {value[:200]!r}")
                targets.add(link.target)
    if len(targets) > 1:
        raise InvalidLink("links name several next pages")
    return targets.pop() if targets else None


def next_target(values: Iterable[str], *, url: str, same_list: str) -> str | None:
    """Return the path and query of the next page, from the `Link` headers of the answer of `url`; None if there is none.

    The host of the link is ignored: the registry itself is used. For `same_list`, see `next_link`. Raise `InvalidLink`.
    """
    link = next_link(values, same_list=same_list)
    return None if link is None else target_of(link, url=url, same_list=same_list)


def target_of(link: str, *, url: str, same_list: str) -> str:
    """Return the path and query of a link in the answer of `url`, without its host. Raise `InvalidLink`."""
    try:
        parts = urlsplit(urljoin(url, link))
    except ValueError as error:
        raise InvalidLink(str(error)) from error
    # A proxy that takes a part of the path away leaves it in the links.
    path = same_list if parts.path.endswith(same_list) else parts.path
    target = f"{path}?{parts.query}" if parts.query else path
    if not target.startswith("/") or not (target.isascii() and target.isprintable()) or " " in target:
        raise InvalidLink(f"not a target: {link[:200]!r}")
    return target


def parse_links(value: str) -> list[Link]:
    """Return the links of one header, in order. Raise `InvalidLink` if it cannot be parsed."""
    links = []
    position = _skip(_SPACE, value, 0)
    while position < len(value):
        if value[position] == ",":
            position = _skip(_SPACE, value, position + 1)
            continue
        end = value.find(">", position)
        if value[position] != "<" or end < 0:
            raise InvalidLink(f"invalid link: {value[position : position + 200]!r}")
        target = value[position + 1 : end].strip()
        relations = None
        position = _skip(_SPACE, value, end + 1)
        while value[position : position + 1] == ";":
            name, text, position = _parameter(value, position + 1)
            # Only the first `rel` counts (section 3.3).
            if name == "rel" and relations is None:
                relations = frozenset(text.lower().split())
        if position < len(value) and value[position] != ",":
            raise InvalidLink(f"invalid link parameter: {value[position : position + 200]!r}")
        links.append(Link(target, relations))
    return links


def _parameter(value: str, position: int) -> tuple[str, str, int]:
    """Return the name and the value of a parameter, and the position after it."""
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
    """Return a quoted string and the position after it (RFC 9110, section 5.6.4); `position` is after the first quote."""
    parts = []
    for start, end in _stretches(value, position, quote):
        parts.append(value[start:end])
        if value[end : end + 1] == quote:
            return "".join(parts), end + 1
    raise InvalidLink(f"unterminated quoted string: {value[position : position + 200]!r}")


def _stretches(value: str, position: int, quote: str) -> Iterator[tuple[int, int]]:
    """Yield the start and end of each run of characters in a quoted string. Backslashes of escapes are left out."""
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
