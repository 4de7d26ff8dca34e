"""Reads from the headers of a response how its body ends (RFC 9112, section 6)."""

from collections.abc import Iterable

Fields = Iterable[tuple[bytes, bytes]]


def header(fields: Fields, name: bytes) -> bytes:
    """Return the first value of a header. Empty if it is missing. All names are in lower case."""
    for key, value in fields:
        if key == name:
            return value
    return b""


def content_length(fields: Fields) -> int:
    """Return the `Content-Length`, or 0 if the parser finds the end of the body."""
    if header(fields, b"transfer-encoding"):
        return 0
    return int(header(fields, b"content-length") or 0)


def is_framed(fields: Fields) -> bool:
    """Return whether the headers show where the body ends. Otherwise it ends with the connection."""
    return bool(header(fields, b"transfer-encoding") or header(fields, b"content-length"))
