"""Requests and responses of the demo's registry, independent of the HTTP library."""

from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qsl

import msgspec

from syncer.demo.errors import Refusal

_KEPT_HEADERS = (
    "Accept",
    "Authorization",
    "Content-Length",
    "Content-Range",
    "Content-Type",
    "Host",
    "Range",
    "User-Agent",
)


class Headers(Mapping[str, str]):
    """Headers by case-insensitive name. If a name occurs several times, the first value is used."""

    def __init__(self, fields: Iterable[tuple[bytes, bytes]]) -> None:
        self._values: dict[str, str] = {}
        for name, value in fields:
            self._values.setdefault(name.decode("latin-1").lower(), value.decode("latin-1"))

    def __getitem__(self, name: str) -> str:
        return self._values[name.lower()]

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name.lower() in self._values

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)


class Request:
    """An incoming request. `received` is the number of bytes of the body that were read.

    `path` is decoded, `query_string` is as sent. If a name occurs several times, `query` has the first value.
    """

    __slots__ = ("_body", "headers", "method", "path", "query", "query_string", "received")

    def __init__(
        self,
        method: str,
        path: str,
        query_string: str,
        headers: Mapping[str, str],
        body: AsyncIterator[bytes],
    ) -> None:
        self.method = method
        self.path = path
        self.query_string = query_string
        self.query: Mapping[str, str] = dict(reversed(parse_qsl(query_string, keep_blank_values=True)))
        self.headers = headers
        self.received = 0
        self._body = body

    async def chunks(self) -> AsyncIterator[bytes]:
        async for chunk in self._body:
            self.received += len(chunk)
            yield chunk

    async def read(self, limit: int) -> bytes:
        """Return the whole body. Raises `Refusal` with status 413 if it is longer than `limit` bytes."""
        announced = int(self.headers.get("Content-Length", "0"))
        body = bytearray()
        if announced <= limit:
            async for chunk in self.chunks():
                body += chunk
                if len(body) > limit:
                    break
        if max(announced, len(body)) > limit:
            raise Refusal("SIZE_INVALID", f"more than {limit} bytes", status=413)
        return bytes(body)


@dataclass(frozen=True, slots=True)
class Answer:
    """A response. If its `Content-Length` header is larger than the body, the connection breaks after the body.

    If the header is smaller, the body is truncated.
    """

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | memoryview = b""

    @classmethod
    def json(
        cls, document: object, headers: Mapping[str, str] | None = None, *, status: int = 200
    ) -> "Answer":
        kind = {"Content-Type": "application/json"}
        return cls(status, {**kind, **(headers or {})}, msgspec.json.encode(document))

    @classmethod
    def refusal(cls, refusal: Refusal) -> "Answer":
        """Return an error response in the format of the specification."""
        error: dict[str, object] = {"code": refusal.code, "message": refusal.message}
        errors = [{**error, "detail": detail} for detail in refusal.details] or [error]
        return cls.json({"errors": errors}, refusal.headers, status=refusal.status)


@dataclass(frozen=True, slots=True)
class Recorded:
    """The record of an answered request, for tests.

    `query` is as sent. `received` and `sent` are the lengths of the two bodies in bytes.
    """

    method: str
    path: str
    query: str
    status: int
    headers: Mapping[str, str]
    received: int
    sent: int


def kept_headers(headers: Mapping[str, str]) -> dict[str, str]:
    return {name: headers[name] for name in _KEPT_HEADERS if name in headers}
