"""Tolerant parsers for response headers. They return a default if a header is missing or invalid, and never raise."""

import re

from syncer.lazy_pattern import lazy_pattern

MAX_CHUNK = 512 * 1024 * 1024
"""Bytes. Larger minimum chunk sizes are ignored."""

_CONTENT_RANGE = lazy_pattern(r"bytes[ =]{1,8}([0-9]{1,18})-([0-9]{1,18})/([0-9]{1,18}|\*)", re.IGNORECASE)
_RANGE = lazy_pattern(r"(?:bytes[ =])?0-([0-9]{1,18})", re.IGNORECASE)


def content_range(value: str | None) -> tuple[int, int, int]:
    """Return the first and last byte position and the complete size from a `Content-Range`. Unknown values are -1."""
    match = _CONTENT_RANGE.fullmatch((value or "").strip())
    if not match:
        return -1, -1, -1
    return int(match[1]), int(match[2]), -1 if match[3] == "*" else int(match[3])


def number(value: str | None) -> int:
    return int(value) if value and value.isascii() and value.isdigit() and len(value) < 19 else -1


def session_offset(value: str | None) -> int:
    """Return the number of bytes in an upload session, from its `Range` header; 0 if the header is missing or invalid.

    Registries also send `0-0` for an empty session, so it counts as 0.
    """
    match = _RANGE.fullmatch(value.strip()) if value else None
    return int(match[1]) + 1 if match and int(match[1]) else 0


def min_chunk_size(value: str | None) -> int:
    """Return the bytes of an `OCI-Chunk-Min-Length`; 0 if it is missing, invalid or larger than `MAX_CHUNK`."""
    text = (value or "").strip()
    least = int(text) if text.isascii() and text.isdigit() and len(text) < 12 else 0
    return least if least <= MAX_CHUNK else 0
