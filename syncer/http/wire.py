"""The wire: an httpx transport over connections of our own, kept open between requests.

httpx is how the program speaks of requests; here they become bytes. Nothing here knows of registries. Bodies come
as they arrive and as they are: nothing is decompressed, no cookie is kept, no redirect is followed.
"""

import asyncio
import ssl
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable
from functools import partial
from math import inf
from typing import NamedTuple

import anyio
import httpx

from syncer.accounts.settings import Proxy
from syncer.http.connection import Connection, request_head
from syncer.http.dialling import Dialler, host_and_port, usual_context
from syncer.http.internal import Guard, InternalAddress
from syncer.http.proxies import ProxyChoice, authorization

Transport = httpx.AsyncBaseTransport
"""What sends requests: this, or httpx's `MockTransport` in a test."""

READ_SECONDS = 60.0
"""How long a peer may take for the headers once the request is out, and be silent within a body."""
READ_SIZE = 256 * 1024
"""Bytes taken from a socket at once. A buffer that is shared: to allocate so much for each answer costs more."""
IDLE_SECONDS = 15.0
"""How long a connection is kept for the next request."""
CLOSE_SECONDS = 2.0
"""How long the sockets may take to be closed at the end."""

_FORWARDING = frozenset({"http", "https"})
"""Proxies that are sent the whole URL where TLS is not spoken; through others a connection is made."""
_IDEMPOTENT = frozenset({"GET", "HEAD", "PUT", "DELETE", "OPTIONS"})


class Origin(NamedTuple):
    """Where a connection leads, and how: connections to the same one are as good as each other."""

    scheme: str
    netloc: str
    tls: ssl.SSLContext | None
    proxy: Proxy


class ConnectionPool(httpx.AsyncBaseTransport):
    """Sends httpx requests, each over a connection of its own while it lasts.

    A request may carry extensions: `ssl` (an `ssl.SSLContext`, for an https URL), `read_seconds`, httpx' own
    `target` (what stands behind the URL's origin), and `prewarm`: how many connections to open for the requests that
    will follow it, and how many there may be in all. Otherwise there are as many as requests at once, and that is
    for the caller to bound. `proxy` is the one to use (`DIRECT` for none); without it the environment decides
    (`HTTPS_PROXY`, `NO_PROXY`). A `guard` keeps the request away from internal addresses; an answer's extension
    `internal` says whether it came from one.

    Beyond `most` connections, those that wait for a request are closed before another is opened.
    """

    def __init__(self, most: float = inf) -> None:
        self._most = most
        self._proxies: dict[tuple[str, bytes], Proxy] = {}
        self._idle: dict[Origin, list[Connection]] = {}
        self._warming: dict[Origin, deque[asyncio.Task[Connection]]] = {}
        """Connections that are being opened ahead, and that nobody waits for yet."""
        self._connections: dict[Connection, Origin] = {}
        self._buffer = memoryview(bytearray(READ_SIZE))
        self._dialler = Dialler()
        self._closing: anyio.Event | None = None

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        origin = self._origin(request)
        guard: Guard | None = request.extensions.get("guard")
        body = request.stream.content if isinstance(request.stream, RequestBody) else request.content
        head = _head(request, origin)
        seconds: float = request.extensions.get("read_seconds", READ_SECONDS)
        repeatable = isinstance(body, bytes) and request.method in _IDEMPOTENT
        found = (
            self._idle_connection(origin)
            or self._claimed(origin)
            or self._opened(self._begun(origin), origin, guard)
        )
        if prewarm := request.extensions.get("prewarm"):
            self._prewarm(origin, guard, *prewarm)
        while True:
            reused = isinstance(found, Connection)
            connection = found if isinstance(found, Connection) else await found
            if guard is not None and connection.internal:
                # It may have been opened for a request that was allowed to go there.
                self._check(connection, origin, guard)
            try:
                await connection.exchange(head, body, seconds=seconds, bodiless=request.method == "HEAD")
            except httpx.TransportError:
                connection.abort()
                # A server may close a connection that waits just when it is used again (RFC 9112, section 9.3.1).
                if not (reused and repeatable and connection.untouched):
                    raise
                found = self._opened(self._begun(origin), origin, guard)
            except BaseException:
                connection.abort()
                raise
            else:
                response = httpx.Response(
                    connection.status,
                    headers=connection.headers,
                    stream=_Body(connection, self, min(seconds, READ_SECONDS)),
                    request=request,
                    extensions={"internal": connection.internal},
                )
                # httpx would try all headers for each encoding in turn; this one takes any byte.
                response.headers.encoding = "iso-8859-1"
                return response

    def _origin(self, request: httpx.Request) -> Origin:
        url = request.url
        scheme, netloc = url.scheme, url.netloc
        if scheme not in {"http", "https"} or not netloc:
            raise httpx.UnsupportedProtocol(f"not a URL: {str(url)[:200]}", request=request)
        tls = request.extensions.get("ssl") or usual_context() if scheme == "https" else None
        proxy = request.extensions.get("proxy") or self._proxies.get((scheme, netloc))
        if proxy is None:
            proxy = ProxyChoice().proxy_for(scheme, *host_and_port(netloc.decode("ascii"), scheme))
            self._proxies[scheme, netloc] = proxy
        return Origin(scheme, netloc.decode("ascii"), tls, proxy)

    def _idle_connection(self, origin: Origin) -> Connection | None:
        """A connection that waits for a request, the one used last."""
        waiting = self._idle.get(origin)
        while waiting:
            connection = waiting.pop()
            if connection.reusable:
                return connection
        return None

    def _claimed(self, origin: Origin) -> Awaitable[Connection] | None:
        """A connection that was to be opened ahead: whoever waits for it shares its failure, and ends it."""
        warming = self._warming.get(origin)
        return warming.popleft() if warming else None

    def _check(self, connection: Connection, origin: Origin, guard: Guard) -> None:
        """Raises `InternalAddress` where a request must not go by a connection that is open."""
        host, port = host_and_port(origin.netloc, origin.scheme)
        if not guard.admits(host, port, connection.address):
            self.release_connection(connection)
            raise InternalAddress(host, connection.address)

    def _begun(self, origin: Origin) -> Connection:
        if len(self._connections) >= self._most:
            self._close_idle()
        connection = Connection(self._forget, self._buffer)
        self._connections[connection] = origin
        return connection

    def _close_idle(self) -> None:
        """Make room: the connection that has waited longest is the first to go."""
        for waiting in self._idle.values():
            if waiting:
                waiting.pop(0).abort()
                return

    async def _opened(self, connection: Connection, origin: Origin, guard: Guard | None) -> Connection:
        try:
            await self._dialler.dial(connection, origin.netloc, origin.tls, origin.proxy, guard)
        except BaseException:
            connection.abort()
            self._forget(connection)
            raise
        return connection

    def _prewarm(self, origin: Origin, guard: Guard | None, count: int, most: int) -> None:
        """Open connections while a request is under way that others will follow: their round trips are over then."""
        room = min(
            most - sum(other == origin for other in self._connections.values()),
            self._most - len(self._connections),
        )
        for _ in range(int(min(count, room))):
            connection = self._begun(origin)
            opening = asyncio.create_task(self._opened(connection, origin, guard))
            opening.add_done_callback(partial(self._arrived, origin, connection))
            self._warming.setdefault(origin, deque()).append(opening)

    def _arrived(self, origin: Origin, connection: Connection, opened: asyncio.Task[Connection]) -> None:
        failed = opened.cancelled() or opened.exception() is not None
        if failed:
            # Perhaps before it ran at all. Why it failed is for the next who tries to tell.
            self._forget(connection)
        warming = self._warming[origin]
        if opened in warming:
            warming.remove(opened)
            if not failed:
                self.release_connection(connection)

    def _forget(self, connection: Connection) -> None:
        origin = self._connections.pop(connection, None)
        waiting = self._idle.get(origin) if origin else None
        if waiting and connection in waiting:
            waiting.remove(connection)
        if self._closing is not None and not self._connections:
            self._closing.set()

    def release_connection(self, connection: Connection) -> None:
        """Nobody uses it now: keep the connection if it can be used again."""
        if connection.reusable:
            connection.rest(IDLE_SECONDS)
            self._idle.setdefault(self._connections[connection], []).append(connection)
        else:
            connection.abort()

    async def aclose(self) -> None:
        for opening in [each for warming in self._warming.values() for each in warming]:
            opening.cancel()
        for connection in list(self._connections):
            connection.abort()
        if self._connections:
            # Their sockets are closed in the loop's next rounds.
            self._closing = anyio.Event()
            with anyio.move_on_after(CLOSE_SECONDS, shield=True):
                await self._closing.wait()


def _head(request: httpx.Request, origin: Origin) -> bytes:
    """The request line and the headers, to the server or to the proxy. Raises `httpx.LocalProtocolError`."""
    target: bytes = request.extensions.get("target") or request.url.raw_path
    fields = request.headers.raw
    if "host" not in request.headers:
        fields = [(b"Host", origin.netloc.encode("ascii")), *fields]
    if origin.tls is None and origin.proxy.scheme in _FORWARDING:
        target = f"http://{origin.netloc}".encode("ascii") + target
        fields = [*fields, *authorization(origin.proxy)]
    return request_head(request.method, target, fields)


class RequestBody(httpx.AsyncByteStream):
    """A request's body: bytes, or chunks that are made while they are sent. Whoever sends it sets `Content-Length`.

    httpx would look for a way to encode it, and set headers, which takes as long as sending a short request.
    """

    def __init__(self, content: bytes | AsyncGenerator[bytes]) -> None:
        self.content = content

    async def __aiter__(self) -> AsyncIterator[bytes]:
        if isinstance(self.content, bytes):
            yield self.content
        else:
            async for chunk in self.content:
                yield chunk


class _Body(httpx.AsyncByteStream):
    """A response body, chunk by chunk as the socket gives it.

    Not a generator: one that is left before its end would have to be closed, too.
    """

    def __init__(self, connection: Connection, pool: ConnectionPool, seconds: float) -> None:
        self._connection: Connection | None = connection
        self._pool = pool
        self._seconds = seconds

    def __aiter__(self) -> "_Body":
        return self

    async def __anext__(self) -> bytes:
        if self._connection is None:
            raise httpx.StreamClosed
        chunk = await self._connection.read(self._seconds)
        if not chunk:
            raise StopAsyncIteration
        return chunk

    async def aclose(self) -> None:
        # A body that was read to its end gives its connection back; any other closes it.
        connection, self._connection = self._connection, None
        if connection is not None:
            self._pool.release_connection(connection)
