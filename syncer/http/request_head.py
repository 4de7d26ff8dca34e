"""Writes the request line and the headers of a request (RFC 9112, sections 3 and 5)."""

from collections.abc import Collection

from syncer.http.transport_errors import LocalProtocolError
from syncer.lazy_pattern import lazy_pattern

_TARGET = lazy_pattern(rb"[\x21-\x7e]+")
_UNSAFE = lazy_pattern(r"[\r\n\0]")


def request_head(method: str, target: bytes, fields: Collection[tuple[str, str]]) -> bytes:
    """Return the request line and headers. Raises `LocalProtocolError` if a value would break a line."""
    if not _TARGET.fullmatch(target):
        raise LocalProtocolError("the URL contains spaces or control characters")
    lines = "".join([f"{name}: {value}\r\n" for name, value in fields])
    if lines.count("\n") != len(fields) or lines.count("\r") != len(fields) or "\0" in lines:
        name = next(name for name, value in fields if _UNSAFE.search(value))
        raise LocalProtocolError(f"the header {name} contains a line break")
    return b"%b %b HTTP/1.1\r\n%b\r\n" % (method.encode("ascii"), target, lines.encode())
