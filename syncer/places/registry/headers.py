"""Headers of registries, read tolerantly: what is missing or cannot be read has a value that says so. Nothing here raises."""

import re

MAX_CHUNK = 512 * 1024 * 1024
"""Bytes. A registry that wants larger chunks is not heeded."""

_NEXT = re.compile(r'<([^<>]{0,8192})>\s{0,8};[^,]{0,256}\brel\s{0,8}=\s{0,8}"?next"?', re.IGNORECASE)
_CONTENT_RANGE = re.compile(r"bytes[ =]{1,8}([0-9]{1,18})-[0-9]{1,18}/([0-9]{1,18}|\*)", re.IGNORECASE)
_UNSATISFIED = re.compile(r"bytes[ =]{1,8}\*/([0-9]{1,18})", re.IGNORECASE)
_RANGE = re.compile(r"(?:bytes[ =])?0-([0-9]{1,18})", re.IGNORECASE)


def next_link(value: str) -> str | None:
    """Where a `Link` header says that a list goes on (distribution-spec, "Listing Tags")."""
    match = _NEXT.search(value[:8192])
    return match[1].strip() if match else None


def content_range(value: str | None) -> tuple[int, int]:
    """The first byte and the size of the whole, from a `Content-Range`; -1 for what it does not say."""
    match = _CONTENT_RANGE.fullmatch((value or "").strip())
    if not match:
        return -1, -1
    return int(match[1]), -1 if match[2] == "*" else int(match[2])


def content_range_size(value: str | None) -> int:
    """The size of the whole that a 416 tells in its `Content-Range`; -1 where it does not."""
    match = _UNSATISFIED.fullmatch((value or "").strip())
    return int(match[1]) if match else -1


def number(value: str | None) -> int:
    return int(value) if value and value.isascii() and value.isdigit() and len(value) < 19 else -1


def session_offset(value: str | None) -> int:
    """How many bytes a session has, from its `Range`; 0 where it does not say, or has one byte at most.

    `0-0` is what registries say of an empty session, too.
    """
    match = _RANGE.fullmatch(value.strip()) if value else None
    return int(match[1]) + 1 if match and int(match[1]) else 0


def min_chunk_size(value: str | None) -> int:
    """Bytes, from `OCI-Chunk-Min-Length`; 0 where there is none, or one beyond reason."""
    text = (value or "").strip()
    least = int(text) if text.isascii() and text.isdigit() and len(text) < 12 else 0
    return least if least <= MAX_CHUNK else 0
