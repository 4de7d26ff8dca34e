"""What a transport sends and returns: HTTP messages.

They are not those of httpx, whose import takes a quarter of the start-up time, and whose messages take longer than the
rest of a short request. `syncer.http.httpx_transport` makes a transport for httpx of one.
"""

import ssl
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Sequence
from functools import lru_cache
from types import TracebackType
from typing import Protocol, Self, overload
from urllib.parse import urlsplit

import msgspec

from syncer.accounts.settings import Proxy
from syncer.http.internal import Guard
from syncer.http.splice import BodyStream
from syncer.http.transport_errors import UnsupportedProtocol

PORTS = {"http": 80, "https": 443}
"""The default port of each scheme that can be requested."""
_HOST_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-._~!$&'()*+,;=:%")
"""Of names and addresses (RFC 3986, section 3.2.2)."""


class Headers:
    """The headers of a response (RFC 9110, section 5). Names are in lower case, here and in the arguments.

    Any byte of a value is a character: servers send other encodings than ASCII.
    """

    __slots__ = ("_fields",)

    def __init__(self, fields: Sequence[tuple[bytes, bytes]] = ()) -> None:
        self._fields = fields

    @property
    def raw(self) -> Sequence[tuple[bytes, bytes]]:
        """The name and the value of each line."""
        return self._fields

    def __contains__(self, name: str) -> bool:
        wanted = name.encode()
        for key, _value in self._fields:  # noqa: SIM110 - a generator costs more, and each response is asked
            if key == wanted:
                return True
        return False

    @overload
    def get(self, name: str) -> str | None: ...
    @overload
    def get(self, name: str, default: str) -> str: ...
    def get(self, name: str, default: str | None = None) -> str | None:
        """Return the values of a header, joined by commas (RFC 9110, section 5.2)."""
        lines = self._lines(name)
        return b", ".join(lines).decode("latin-1") if lines else default

    def get_list(self, name: str) -> list[str]:
        """Return the value of each line of a header."""
        return [value.decode("latin-1") for value in self._lines(name)]

    def _lines(self, name: str) -> list[bytes]:
        # The parser keeps trailing whitespace, which is not a part of the value (RFC 9110, section 5.5).
        wanted = name.encode()
        return [value.strip(b" \t") for key, value in self._fields if key == wanted]


class HttpRequest(msgspec.Struct, gc=False):
    """A request. It is checked when it is sent.

    `scheme` and `netloc` (host and port) are those of the URL, `target` its path and query. `tls` is for an https URL,
    None for the CAs of the system. `read_seconds`: seconds to wait for the headers. `proxy`: `DIRECT` for none; None
    for that of the environment. `guard` blocks internal addresses. `prewarm`: how many connections to open for the
    requests that follow, and the maximum number to the origin.
    """

    method: str
    scheme: str
    netloc: str
    target: bytes
    headers: dict[str, str] = {}
    body: bytes | BodyStream = b""
    tls: ssl.SSLContext | None = None
    read_seconds: float | None = None
    proxy: Proxy | None = None
    guard: Guard | None = None
    prewarm: tuple[int, int] | None = None


class ResponseStream(Protocol):
    """The body of a response, in chunks as they arrive. Raises `TransportError`."""

    def __aiter__(self) -> AsyncIterator[bytes]: ...

    async def aclose(self) -> None: ...


class HttpResponse:
    """A response whose body has not been read yet.

    `internal`: whether the server's address is internal. `empty`: there is no body to read, as after HEAD.
    """

    __slots__ = ("body", "empty", "headers", "internal", "status", "streamed", "url")

    def __init__(
        self,
        status: int,
        headers: Headers,
        body: ResponseStream,
        *,
        internal: bool = True,
        empty: bool = False,
    ) -> None:
        self.status = status
        self.headers = headers
        self.body = body
        self.internal = internal
        self.empty = empty
        self.url = ""
        """The URL of the request."""
        self.streamed = False
        """Whether the request was for a body that is streamed."""

    async def aclose(self) -> None:
        await self.body.aclose()


class Transport(ABC):
    """Sends requests. An asynchronous context manager: `aclose` at its end."""

    @abstractmethod
    async def send(self, request: HttpRequest) -> HttpResponse:
        """Send a request and return its response before the body is read. Raises `TransportError`."""

    @abstractmethod
    async def aclose(self) -> None:
        """Close all connections."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()


@lru_cache(maxsize=4096)
def origin_of(url: str) -> tuple[str, str]:
    """Return the scheme, and the host and port, of an absolute URL without its path.

    The host is in lower case and encoded for DNS (IDNA). A default port and credentials are dropped. Raises
    `UnsupportedProtocol` if the URL has no valid host, or a scheme other than http and https.
    """
    invalid = UnsupportedProtocol(f"not a URL: {url.rpartition('@')[2][:200]}")
    try:
        parts = urlsplit(url)
        scheme, host, port = parts.scheme, parts.hostname or "", parts.port
        if not host.isascii():
            host = host.encode("idna").decode("ascii")
    except ValueError:
        raise invalid from None
    if scheme not in PORTS or not host or not _HOST_CHARACTERS.issuperset(host):
        raise invalid
    if ":" in host:
        host = f"[{host}]"
    return scheme, host if port in (None, PORTS[scheme]) else f"{host}:{port}"
