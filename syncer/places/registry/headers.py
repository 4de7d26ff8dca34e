"""Headers of registries, read tolerantly: what is missing or cannot be read has a value that says so. Nothing here raises."""

import re

MAX_CHUNK = 512 * 1024 * 1024
"""Bytes. A registry that wants larger chunks is not heeded."""

_CONTENT_RANGE = re.compile(r"bytes[ =]{1,8}([0-9]{1,18})-[0-9]{1,18}/([0-9]{1,18}|\*)", re.IGNORECASE)
_RANGE = re.compile(r"(?:bytes[ =])?0-([0-9]{1,18})", re.IGNORECASE)


def content_range(value: str | None) -> tuple[int, int]:
    """The first byte and the size of the whole, from a `Content-Range`; -1 for what it does not say."""
    match = _CONTENT_RANGE.fullmatch((value or "").strip())
    if not match:
        return -1, -1
    return int(match[1]), -1 if match[2] == "*" else int(match[2])


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
