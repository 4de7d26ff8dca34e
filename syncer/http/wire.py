"""An httpx transport with its own connection pool.

Bodies are passed through unchanged as they arrive. The transport does not decompress, store cookies or follow
redirects, and does not handle registries.
"""

import asyncio
import ssl
from collections import deque
from collections.abc import AsyncIterator, Awaitable
from functools import partial
from math import inf
from typing import NamedTuple

import anyio
import httpx

from syncer.accounts.settings import Proxy
from syncer.http.connection import Connection
from syncer.http.dialling import Dialler, host_and_port, usual_context
from syncer.http.internal import Guard, InternalAddress
from syncer.http.proxies import ProxyChoice, authorization
from syncer.http.request_head import request_head
from syncer.http.splice import BodySplice, BodyStream, Check, SpliceThreads

Transport = httpx.AsyncBaseTransport
"""The type of a transport: `ConnectionPool`, or httpx's `MockTransport` in tests."""

READ_SECONDS = 60.0
"""Seconds to wait for the headers after the request was sent, and for more data within a body."""
READ_SIZE = 256 * 1024
"""Size of the read buffer in bytes. All connections share it, because a buffer per response would cost more."""
SPLICE_THRESHOLD = 1024 * 1024
"""Bytes. Fewer bytes of a body are not worth handing the sockets to a thread."""
IDLE_SECONDS = 15.0
"""Seconds to keep an idle connection."""
CLOSE_SECONDS = 2.0
"""Seconds to wait for the sockets to close in `aclose`."""

_FORWARDING = frozenset({"http", "https"})
"""Proxies that get an absolute URL for a plain HTTP request. For https and through other proxies, a tunnel is opened."""
_IDEMPOTENT = frozenset({"GET", "HEAD", "PUT", "DELETE", "OPTIONS"})


class Origin(NamedTuple):
    """The destination of a connection. Connections with equal origins are interchangeable."""

    scheme: str
    netloc: str
    tls: ssl.SSLContext | None
    proxy: Proxy


class ConnectionPool(httpx.AsyncBaseTransport):
    """Sends httpx requests over pooled connections, one request per connection at a time.

    Extensions of a request: `ssl` (the `ssl.SSLContext` for an https URL), `read_seconds`, `target` (of httpx: the path
    and query), `prewarm` (the number of connections to open for the following requests, and the maximum number to the
    origin), `proxy` (`DIRECT` for none; by default `HTTPS_PROXY` and `NO_PROXY` of the environment), and `guard`
    (blocks internal addresses). Extension of a response: `internal` (whether the address was internal).

    The caller limits the concurrent requests. With `most` connections open, an idle one is closed before another is
    opened.
    """

    def __init__(self, most: float = inf) -> None:
        self._most = most
        self._proxies: dict[tuple[str, bytes], Proxy] = {}
        self._idle: dict[Origin, list[Connection]] = {}
        self._warming: dict[Origin, deque[asyncio.Task[Connection]]] = {}
        """Connections that are being prewarmed and that no request waits for yet."""
        self._connections: dict[Connection, Origin] = {}
        self._buffer = memoryview(bytearray(READ_SIZE))
        self._dialler = Dialler()
        self._threads = SpliceThreads()
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
                # The connection may have been opened for a request without this guard.
                self._check(connection, origin, guard)
            try:
                await connection.exchange(head, body, seconds=seconds, bodiless=request.method == "HEAD")
            except httpx.TransportError:
                connection.abort()
                # A server may close an idle connection just when it is reused (RFC 9112, section 9.3.1).
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
                    stream=ResponseBody(connection, self, min(seconds, READ_SECONDS)),
                    request=request,
                    extensions={"internal": connection.internal},
                )
                # Set an encoding that accepts any byte. Otherwise httpx tries several encodings on all headers.
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
        """Return the most recently used idle connection."""
        waiting = self._idle.get(origin)
        while waiting:
            connection = waiting.pop()
            if connection.reusable:
                return connection
        return None

    def _claimed(self, origin: Origin) -> Awaitable[Connection] | None:
        """Take over a connection that is being prewarmed. The caller gets its error, and cancels it if cancelled."""
        warming = self._warming.get(origin)
        return warming.popleft() if warming else None

    def _check(self, connection: Connection, origin: Origin, guard: Guard) -> None:
        """Raise `InternalAddress` if the guard does not allow the address of an open connection."""
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
        """Close the first idle connection."""
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
        """Open connections for the requests that will follow, while the current request is in progress."""
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
            # The task may not have started. The next request that connects reports the error.
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
        """Return a connection to the pool, or close it if it cannot be reused."""
        if connection.reusable:
            connection.rest(IDLE_SECONDS)
            self._idle.setdefault(self._connections[connection], []).append(connection)
        else:
            connection.abort()

    @property
    def threads(self) -> SpliceThreads:
        """The threads that move large bodies. They start when they are needed."""
        return self._threads

    async def aclose(self) -> None:
        self._threads.close()
        for opening in [each for warming in self._warming.values() for each in warming]:
            opening.cancel()
        for connection in list(self._connections):
            connection.abort()
        if self._connections:
            # The event loop closes the sockets in its next iterations.
            self._closing = anyio.Event()
            with anyio.move_on_after(CLOSE_SECONDS, shield=True):
                await self._closing.wait()


def _head(request: httpx.Request, origin: Origin) -> bytes:
    """Return the request line and headers for the server or the proxy. Raises `httpx.LocalProtocolError`."""
    target: bytes = request.extensions.get("target") or request.url.raw_path
    fields = request.headers.raw
    if "host" not in request.headers:
        fields = [(b"Host", origin.netloc.encode("ascii")), *fields]
    if origin.tls is None and origin.proxy.scheme in _FORWARDING:
        target = f"http://{origin.netloc}".encode("ascii") + target
        fields = [*fields, *authorization(origin.proxy)]
    return request_head(request.method, target, fields)


class RequestBody(httpx.AsyncByteStream):
    """A request body: bytes, or chunks from a generator. The caller sets `Content-Length`.

    It avoids httpx's own encoding of content, which takes as long as sending a short request.
    """

    def __init__(self, content: bytes | BodyStream) -> None:
        self.content = content

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Yield the content for transports other than `ConnectionPool`. Their responses have no splices."""
        if isinstance(self.content, bytes):
            yield self.content
        else:
            async for chunk in self.content:
                assert isinstance(chunk, bytes)
                yield chunk


class ResponseBody(httpx.AsyncByteStream):
    """A response body, in chunks as they arrive. It is not a generator, because an unfinished generator needs closing."""

    def __init__(self, connection: Connection, pool: ConnectionPool, seconds: float) -> None:
        self._connection: Connection | None = connection
        self._pool = pool
        self._seconds = seconds

    def __aiter__(self) -> "ResponseBody":
        return self

    async def __anext__(self) -> bytes:
        if self._connection is None:
            raise httpx.StreamClosed
        chunk = await self._connection.read(self._seconds)
        if not chunk:
            raise StopAsyncIteration
        return chunk

    def splice(self, length: int, check: Check) -> BodySplice | None:
        """Return the next bytes, at most `length`, for a thread to move. None if they must be read from here."""
        connection = self._connection
        if connection is None or length < SPLICE_THRESHOLD:
            return None
        available = min(length, connection.prepare_splice(SPLICE_THRESHOLD))
        return BodySplice(connection, self._pool.threads, available, check) if available else None

    async def aclose(self) -> None:
        # The connection is reused only if the body was read to its end.
        connection, self._connection = self._connection, None
        if connection is not None:
            self._pool.release_connection(connection)
