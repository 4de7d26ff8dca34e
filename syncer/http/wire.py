"""The transport of registries: HTTP/1.1 over a connection pool.

Bodies are passed through unchanged as they arrive. The transport does not decompress, store cookies or follow
redirects, and does not handle registries.
"""

import asyncio
import ssl
from collections import deque
from collections.abc import Awaitable
from contextlib import suppress
from functools import partial
from math import inf

import msgspec

from syncer.accounts.settings import Proxy
from syncer.http.connection import Connection
from syncer.http.dialling import Dialler, host_and_port
from syncer.http.internal import Guard, InternalAddress
from syncer.http.proxies import ProxyChoice, authorization
from syncer.http.request_head import request_head
from syncer.http.splice import BodySplice, Check, SpliceThreads
from syncer.http.transport import Headers, HttpRequest, HttpResponse, Transport
from syncer.http.transport_errors import TransportError
from syncer.http.trust import usual_context

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


class Origin(msgspec.Struct, frozen=True, cache_hash=True):
    """The destination of a connection. Connections with equal origins are interchangeable."""

    scheme: str
    netloc: str
    tls: ssl.SSLContext | None
    proxy: Proxy


class ConnectionPool(Transport):
    """Sends requests over pooled connections, one request per connection at a time.

    The caller limits the concurrent requests. With `most` connections open, an idle one is closed before another is
    opened.
    """

    def __init__(self, most: float = inf) -> None:
        self._most = most
        self._proxies: dict[tuple[str, str], Proxy] = {}
        self._idle: dict[Origin, list[Connection]] = {}
        self._warming: dict[Origin, deque[asyncio.Task[Connection]]] = {}
        """Connections that are being prewarmed and that no request waits for yet."""
        self._connections: dict[Connection, Origin] = {}
        self._buffer = memoryview(bytearray(READ_SIZE))
        self._dialler = Dialler()
        self._threads = SpliceThreads()
        self._closing: asyncio.Event | None = None

    async def send(self, request: HttpRequest) -> HttpResponse:
        origin = self._origin(request)
        guard, body = request.guard, request.body
        head = _head(request, origin)
        seconds = READ_SECONDS if request.read_seconds is None else request.read_seconds
        repeatable = isinstance(body, bytes) and request.method in _IDEMPOTENT
        found = (
            self._idle_connection(origin)
            or self._claimed(origin)
            or self._opened(self._begun(origin), origin, guard)
        )
        if request.prewarm is not None:
            self._prewarm(origin, guard, *request.prewarm)
        while True:
            reused = isinstance(found, Connection)
            connection = found if isinstance(found, Connection) else await found
            if guard is not None and connection.internal:
                # The connection may have been opened for a request without this guard.
                self._check(connection, origin, guard)
            try:
                await connection.exchange(head, body, seconds=seconds, bodiless=request.method == "HEAD")
            except TransportError:
                connection.abort()
                # A server may close an idle connection just when it is reused (RFC 9112, section 9.3.1).
                if not (reused and repeatable and connection.untouched):
                    raise
                found = self._opened(self._begun(origin), origin, guard)
            except BaseException:
                connection.abort()
                raise
            else:
                return HttpResponse(
                    connection.status,
                    Headers(connection.headers),
                    ResponseBody(connection, self, min(seconds, READ_SECONDS)),
                    internal=connection.internal,
                    empty=connection.ended,
                )

    def _origin(self, request: HttpRequest) -> Origin:
        scheme, netloc = request.scheme, request.netloc
        tls = request.tls or usual_context() if scheme == "https" else None
        proxy = request.proxy or self._proxies.get((scheme, netloc))
        if proxy is None:
            proxy = ProxyChoice().proxy_for(scheme, *host_and_port(netloc, scheme))
            self._proxies[scheme, netloc] = proxy
        return Origin(scheme, netloc, tls, proxy)

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
            self._closing = asyncio.Event()
            with suppress(TimeoutError):
                async with asyncio.timeout(CLOSE_SECONDS):
                    await self._closing.wait()


def _head(request: HttpRequest, origin: Origin) -> bytes:
    """Return the request line and headers for the server or the proxy. Raises `LocalProtocolError`."""
    target = request.target
    fields = [("Host", origin.netloc), *request.headers.items()]
    if origin.tls is None and origin.proxy.scheme in _FORWARDING:
        target = f"http://{origin.netloc}".encode("ascii") + target
        fields += authorization(origin.proxy)
    return request_head(request.method, target, fields)


class ResponseBody:
    """A response body, in chunks as they arrive. It is not a generator, because an unfinished generator needs closing."""

    def __init__(self, connection: Connection, pool: ConnectionPool, seconds: float) -> None:
        self._connection: Connection | None = connection
        self._pool = pool
        self._seconds = seconds

    def __aiter__(self) -> "ResponseBody":
        return self

    async def __anext__(self) -> bytes:
        if self._connection is None:
            raise RuntimeError("the response is closed")
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
