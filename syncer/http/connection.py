"""`Connection`: HTTP/1.1 over one socket, one exchange at a time (RFC 9112).

httptools parses heads and chunked bodies. A body with `Content-Length` bypasses the parser. This module does not
handle URLs, registries or retries.
"""

import asyncio
import socket
import ssl
from collections import deque
from collections.abc import Callable
from contextlib import aclosing
from math import inf
from typing import cast

import httptools

from syncer.http.framing import content_length, header, is_framed
from syncer.http.pace import MIN_RATE, Pace, TooSlow
from syncer.http.sockets import SocketTransport, start_tls
from syncer.http.splice import BodySplice, BodyStream, Splice
from syncer.http.transport_errors import ReadError, ReadTimeout, RemoteProtocolError, TransportError

MAX_HEAD = 64 * 1024
"""Maximum size of the status line, headers and trailers of a response in bytes."""
READ_AHEAD = 256 * 1024
"""Bytes of a body that are buffered before reading from the socket is paused."""
HEAD_SECONDS = 10.0
"""Seconds from the first byte of the headers to the last."""


class Connection(asyncio.BufferedProtocol):
    """A connection to one server. Call `exchange`, then `read` to the end. If it is `reusable`, start again.

    Raises `TransportError`. `gone` is called when the connection has been closed by either side. The
    socket is read into `buffer`, which all connections of an event loop may share.
    """

    def __init__(self, gone: Callable[["Connection"], None], buffer: memoryview) -> None:
        self._gone = gone
        self._buffer = buffer
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._deadline = inf
        self._full = False
        self._error: TransportError | None = None
        self.address = ""
        """The IP address of the server. Empty behind a proxy, unless the host is an IP address."""
        self.internal = False
        """Whether `address` is internal."""
        self._start(bodiless=True)
        self._complete = True

    def _start(self, *, bodiless: bool) -> None:
        self._parser = httptools.HttpResponseParser(self)
        # Accept what browsers accept: unusual bytes in header values, and lines that end without CR.
        self._parser.set_dangerous_leniencies(
            lenient_headers=True, lenient_optional_cr_before_lf=True, lenient_spaces_after_chunk_size=True
        )
        self._bodiless = bodiless
        self._touched = False  # any byte of a response has arrived
        self._head_size = 0
        self._head_began = 0.0
        self._left = 0  # remaining bytes of a body with Content-Length, which bypass the parser
        self._received = 0
        self._pace = Pace()
        self._chunks: deque[bytes] = deque()
        self._held = 0
        self._paused = False
        self._complete = False
        self._keep = False
        self.status = 0
        self.headers: list[tuple[bytes, bytes]] = []  # names in lower case

    # --- public -----------------------------------------------------------------------------------------------------

    @property
    def reusable(self) -> bool:
        """Whether another exchange may follow: the last one is complete, and both sides keep the connection open."""
        idle = self._complete and self._keep and not self._paused
        return idle and self._transport is not None and not self._transport.is_closing()

    @property
    def ended(self) -> bool:
        """Whether the response is complete, and `read` has nothing more to return."""
        return self._complete and not self._chunks

    @property
    def closed(self) -> bool:
        return self._transport is None or self._transport.is_closing()

    @property
    def untouched(self) -> bool:
        """Whether the server closed the connection before any byte of a response. It may not have read the request."""
        return self.closed and not self._touched and not isinstance(self._error, ReadTimeout)

    async def exchange(
        self, head: bytes, body: bytes | BodyStream, *, seconds: float, bodiless: bool
    ) -> None:
        """Send a request, and wait for `status` and `headers`.

        The headers must start within `seconds` after the request was sent, and be complete `HEAD_SECONDS` later.
        `bodiless`: the response has no body regardless of its headers, as for HEAD. If the server responds before a
        streamed body has been sent, the rest of the body is not sent.
        """
        self._deadline = inf
        self._start(bodiless=bodiless)
        transport = self._opened()
        whole = True
        if not isinstance(body, bytes):
            transport.write(head)
            whole = await self._stream(transport, body)
        else:
            transport.write(head + body)
        until = self._loop.time() + seconds
        while not self.status:
            await self._news(until)
            if self._head_began and not self.status:
                until = min(until, self._head_began + HEAD_SECONDS)
        self._keep = self._keep and whole

    async def read(self, seconds: float) -> bytes:
        """Return the next bytes of the response body, or empty bytes at its end.

        Raises `ReadTimeout` after `seconds` without data, and `TooSlow` if the rate falls below `MIN_RATE`.
        """
        while not self._chunks:
            if self._complete:
                return b""
            self._resume()
            began = self._loop.time()
            await self._news(began + seconds)
            self._check_pace(self._loop.time() - began)
        chunk = self._chunks.popleft()
        self._held -= len(chunk)
        if not self._chunks:
            self._resume()
        return chunk

    def _resume(self) -> None:
        if self._paused and self._transport is not None:
            self._paused = False
            self._transport.resume_reading()

    def rest(self, seconds: float) -> None:
        """Close the connection if it stays idle for so many seconds."""
        self._watch(self._loop.time() + seconds)

    def abort(self) -> None:
        """Close the connection immediately."""
        if self._transport is not None:
            self._transport.abort()

    async def secure(self, tls: ssl.SSLContext, host: str) -> None:
        """Start TLS with `host`. Raises `OSError`, including `ssl.SSLError`."""
        plain = self._opened()
        if isinstance(plain, SocketTransport):
            opened, self._transport = plain.lend(), None
            SocketTransport(await start_tls(opened, tls, host), self)
        else:
            self._transport = await self._loop.start_tls(plain, self, tls, server_hostname=host)

    # --- lending the socket to a thread -----------------------------------------------------------------------------

    def prepare_splice(self, least: int) -> int:
        """Stop reading, and return how many bytes of the body a thread may read. 0 if fewer than `least` can be lent."""
        transport = self._transport
        if not isinstance(transport, SocketTransport) or self.closed or self._error is not None:
            return 0
        if self._chunks or self._left < least:
            return 0
        self._paused = True
        transport.pause_reading()
        return self._left

    def lend(self) -> socket.socket:
        assert isinstance(self._transport, SocketTransport)
        return self._transport.lend()

    def spliced_from(self, splice: Splice) -> None:
        self._left -= splice.read
        self._received += splice.read
        self._complete = not self._left
        self._check_pace(splice.waited)
        if isinstance(self._transport, SocketTransport):
            self._transport.take_back(splice.source_error, ended=splice.ended)
        if self._complete:
            self._resume()

    def spliced_to(self, splice: Splice) -> None:
        if isinstance(self._transport, SocketTransport):
            self._transport.take_back(splice.destination_error)
            self._transport.resume_reading()

    # --- waiting ----------------------------------------------------------------------------------------------------

    def _opened(self) -> asyncio.Transport:
        if self._error is not None:
            raise self._error
        if self._transport is None or self._transport.is_closing():
            raise self._broken(None)
        return self._transport

    async def _stream(self, transport: asyncio.Transport, body: BodyStream) -> bool:
        """Send a body chunk by chunk. Return False if a response arrived before the end of the body."""
        async with aclosing(body):
            async for chunk in body:
                if isinstance(chunk, BodySplice):
                    self._full = transport.get_write_buffer_size() > 0
                while self._full and not self.status:
                    await self._news(inf)
                if self.status:
                    return False
                self._opened()
                if isinstance(chunk, bytes):
                    transport.write(chunk)
                    continue
                transport.write(await chunk.move_to(self))
                while self._full and not self.status:
                    await self._news(inf)
        return True

    async def _news(self, until: float) -> None:
        """Wait for the next event, until `until` on the loop's clock at the latest. Raises if the connection failed."""
        if self._error is None:
            self._waiter = self._loop.create_future()
            self._watch(until)
            try:
                await self._waiter
            finally:
                self._waiter = None
                self._deadline = inf
        if self._error is not None and not self._chunks:
            raise self._error

    def _check_pace(self, waited: float) -> None:
        if self._pace.is_too_slow(waited, self._received) and not self._complete:
            self._fail(TooSlow(f"the response arrives at less than {MIN_RATE} bytes per second"))

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _watch(self, until: float) -> None:
        # Most waits end long before the deadline, so a timer that fires early is set again instead of being replaced.
        self._deadline = until
        if self._timer is not None and self._timer.when() > self._deadline:
            self._timer.cancel()
            self._timer = None
        if self._timer is None and self._deadline < inf:
            self._timer = self._loop.call_at(self._deadline, self._look)

    def _look(self) -> None:
        self._timer = None
        if self._loop.time() < self._deadline:
            if self._deadline < inf:
                self._timer = self._loop.call_at(self._deadline, self._look)
        elif self._complete:
            self.abort()
        else:
            self._fail(ReadTimeout("no response in time"))

    def _fail(self, error: TransportError, cause: Exception | None = None) -> None:
        error.__cause__ = cause
        self._error = self._error or error
        self.abort()
        self._wake()

    # --- asyncio calls these ----------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._keep = True

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        ended_well = error is None and self._error is None
        if self.status and not self._complete and not is_framed(self.headers) and ended_well:
            self._complete = True  # a body without framing ends with the connection
        if not self._complete:
            self._fail(self._broken(error), error)
        self._wake()
        self._gone(self)

    def pause_writing(self) -> None:
        self._full = True

    def resume_writing(self) -> None:
        self._full = False
        self._wake()

    def get_buffer(self, _sizehint: int) -> memoryview:
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        if self._complete:
            # Data without a request must not be taken for the next response.
            self.abort()
            return
        self._touched = True
        data = bytes(self._buffer[:nbytes])
        if self._left:
            self._take(data)
        else:
            self._parse(data)
        if self._held > READ_AHEAD and self._transport is not None and not (self._paused or self._complete):
            self._paused = True
            self._transport.pause_reading()
        self._wake()

    # --- reading ----------------------------------------------------------------------------------------------------

    def _parse(self, data: bytes) -> None:
        received = self._received
        if not self._head_began:
            self._head_began = self._loop.time()
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            if not (self.status and self._bodiless):
                self._fail(RemoteProtocolError(f"the response is not HTTP: {error}"), error)
                return
            self._keep = False
        if self.status and self._bodiless:
            # The parser does not know that there is no body. If it found one, do not reuse the connection.
            self._keep = self._keep and not self._received
            self._chunks.clear()
            self._complete = True
        elif self._received == received and not self._complete:
            # Headers, or the trailers of a chunked body.
            self._head_size += len(data)
            if self._head_size > MAX_HEAD:
                self._fail(RemoteProtocolError(f"the response headers exceed {MAX_HEAD} bytes"))
        if self.status and not self._complete:
            self._left = max(0, content_length(self.headers) - self._received)

    def _take(self, data: bytes) -> None:
        if len(data) > self._left:
            # More bytes than Content-Length. Cut the body, whose digest is verified, and do not reuse the connection.
            data = data[: self._left]
            self._keep = False
        self._left -= len(data)
        self.on_body(data)
        self._complete = not self._left

    def _broken(self, error: Exception | None) -> TransportError:
        reason = f": {error}" if error is not None and str(error) else ""
        if not self.status:
            return ReadError(f"the server closed the connection before it responded{reason}")
        return RemoteProtocolError(
            f"the server closed the connection after {self._received} bytes of the body{reason}"
        )

    # --- the parser calls these -------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        if self._complete:
            self._keep = False

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self.status:  # ignore trailers
            self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if self._complete:
            return
        if status < 200 and status != 101:
            self.headers.clear()  # an interim response (RFC 9110, section 15.2); the final one follows
            self._head_began = 0.0
            return
        self.status = status
        said = header(self.headers, b"connection").lower()
        self._keep = b"close" not in said and (
            self._parser.get_http_version() != "1.0" or b"keep-alive" in said
        )

    def on_body(self, body: bytes) -> None:
        if self._complete:
            return
        self._received += len(body)
        self._held += len(body)
        self._chunks.append(body)

    def on_message_complete(self) -> None:
        if self.status:
            self._complete = True
