"""`Connection`: HTTP/1.1 over one socket, an exchange after the other (RFC 9112).

httptools reads heads and chunked bodies; a body whose length is known passes by it. Nothing
here knows of URLs, registries or retries.
"""

import asyncio
import re
import ssl
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import aclosing
from math import inf
from typing import cast

import httptools
import httpx

MAX_HEAD = 64 * 1024
"""Bytes of an answer's status line and headers, and of its trailers."""
READ_AHEAD = 256 * 1024
"""Bytes kept for whoever reads the body before the peer is held back."""
HEAD_SECONDS = 10.0
"""How long an answer's headers may take from their first byte on."""
MIN_RATE = 1024
"""Bytes per second that a body must bring while it is waited for."""
RATE_SECONDS = 10.0
"""How long it may bring less: of each single wait `MAX_WAIT` counts, so that one pause is no drip."""
MAX_WAIT = 3.0
_JOINED = 64 * 1024
"""A body of so many bytes goes out in one piece with its head."""


_TARGET = re.compile(rb"[\x21-\x7e]+")
_UNSAFE = re.compile(rb"[\r\n\0]")


def request_head(method: str, target: bytes, fields: Iterable[tuple[bytes, bytes]]) -> bytes:
    """A request line and headers. Raises `httpx.LocalProtocolError` for what would end a line too early."""
    if not _TARGET.fullmatch(target):
        raise httpx.LocalProtocolError("a URL with blanks or control characters")
    lines = []
    for name, value in fields:
        if _UNSAFE.search(value):
            raise httpx.LocalProtocolError(f"a line break in the header {name.decode('latin-1')}")
        lines.append(b"%b: %b\r\n" % (name, value))
    return b"%b %b HTTP/1.1\r\n%b\r\n" % (method.encode("ascii"), target, b"".join(lines))


class TooSlow(httpx.ReadTimeout):
    """The answer comes, but drop by drop."""


class Connection(asyncio.BufferedProtocol):
    """What one server says and is told. `exchange`, then `read` to the end: then, if `reusable`, once more.

    Failures are httpx' `TransportError`s. `gone` is called when the connection has ended, whoever ended it. The
    socket is read into `buffer`, which all connections of one event loop may share.
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
        self._error: httpx.TransportError | None = None
        self.address = ""
        """The address that it leads to; behind a proxy none, but where the host is written as one."""
        self.internal = False
        """Whether that is an internal one."""
        self._start(bodiless=True)
        self._complete = True

    def _start(self, *, bodiless: bool) -> None:
        self._parser = httptools.HttpResponseParser(self)
        # What browsers and other clients let pass too: odd bytes in a header's value, a line that ends without CR.
        self._parser.set_dangerous_leniencies(
            lenient_headers=True, lenient_optional_cr_before_lf=True, lenient_spaces_after_chunk_size=True
        )
        self._bodiless = bodiless
        self._touched = False  # by any byte of an answer
        self._head_size = 0
        self._head_began = 0.0
        self._left = 0  # bytes of a body whose length is known, and which passes by the parser
        self._received = 0
        self._waited = 0.0  # seconds for a body, since it last was fast enough
        self._rated = 0  # bytes that it had then
        self._chunks: deque[bytes] = deque()
        self._held = 0
        self._paused = False
        self._complete = False
        self._keep = False
        self.status = 0
        self.headers: list[tuple[bytes, bytes]] = []

    # --- for whoever uses it ----------------------------------------------------------------------------------------

    @property
    def reusable(self) -> bool:
        """Whether an exchange may follow: the one before, if any, is over, and both sides want to go on."""
        return self._complete and self._keep and not self._paused and not self.closed

    @property
    def closed(self) -> bool:
        return self._transport is None or self._transport.is_closing()

    @property
    def untouched(self) -> bool:
        """Whether the server closed it before it answered anything: then the request may never have been read."""
        return self.closed and not self._touched and not isinstance(self._error, httpx.TimeoutException)

    async def exchange(
        self, head: bytes, body: bytes | AsyncGenerator[bytes], *, seconds: float, bodiless: bool
    ) -> None:
        """Send a request, and wait for `status` and `headers`.

        The headers must begin within so many `seconds` once the request is out, and be there `HEAD_SECONDS` later.
        `bodiless` says that the answer has no body whatever its headers say, as with HEAD. A server that answers before
        it has read all of a streamed body is not sent the rest.
        """
        self._deadline = inf
        self._start(bodiless=bodiless)
        transport = self._opened()
        whole = True
        if not isinstance(body, bytes):
            transport.write(head)
            whole = await self._stream(transport, body)
        elif len(body) <= _JOINED:
            transport.write(head + body)
        else:
            transport.write(head)
            transport.write(body)
        until = self._loop.time() + seconds
        while not self.status:
            await self._news(until)
            if self._head_began and not self.status:
                until = min(until, self._head_began + HEAD_SECONDS)
        self._keep = self._keep and whole

    async def read(self, seconds: float) -> bytes:
        """The next bytes of the answer's body, none at its end.

        `seconds` is how long nothing may come. What is waited for must come at `MIN_RATE` at least.
        """
        while not self._chunks:
            if self._complete:
                return b""
            began = self._loop.time()
            await self._news(began + seconds)
            self._waited += min(self._loop.time() - began, MAX_WAIT)
            if self._waited > RATE_SECONDS:
                if self._received - self._rated < MIN_RATE * self._waited and not self._complete:
                    self._fail(TooSlow(f"the answer comes at less than {MIN_RATE} bytes per second"))
                self._waited, self._rated = 0.0, self._received
        chunk = self._chunks.popleft()
        self._held -= len(chunk)
        if self._paused and not self._chunks and self._transport is not None:
            self._paused = False
            self._transport.resume_reading()
        return chunk

    def rest(self, seconds: float) -> None:
        """Between two exchanges: close it when it was not used for so many seconds."""
        self._watch(self._loop.time() + seconds)

    def abort(self) -> None:
        """Close it at once."""
        if self._transport is not None:
            self._transport.abort()

    async def secure(self, tls: ssl.SSLContext, host: str) -> None:
        """Speak TLS from now on, with `host`. Raises `OSError` (`ssl.SSLError` among them)."""
        plain = self._opened()
        self._transport = await self._loop.start_tls(plain, self, tls, server_hostname=host)

    # --- waiting ----------------------------------------------------------------------------------------------------

    def _opened(self) -> asyncio.Transport:
        if self._error is not None:
            raise self._error
        if self._transport is None or self._transport.is_closing():
            raise self._broken(None)
        return self._transport

    async def _stream(self, transport: asyncio.Transport, body: AsyncGenerator[bytes]) -> bool:
        """Send a body chunk by chunk. Whether all of it went out: an answer that comes sooner ends it."""
        async with aclosing(body):
            async for chunk in body:
                while self._full and not self.status:
                    await self._news(inf)
                if self.status:
                    return False
                self._opened()
                transport.write(chunk)
        return True

    async def _news(self, until: float) -> None:
        """Wait until something has changed, no longer than `until` on the loop's clock. Raises the connection's failure, if that is it."""
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

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _watch(self, until: float) -> None:
        # The timer is set once and looks again where it was early: most waits are over long before.
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
            self._fail(httpx.ReadTimeout("no answer in time"))

    def _fail(self, error: httpx.TransportError, cause: Exception | None = None) -> None:
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
        if self.status and not self._complete and not self._framed() and ended_well:
            self._complete = True  # such a body ends with the connection
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
            # Nobody asked: whatever it is, it must not be taken for the next answer.
            self.abort()
            return
        self._touched = True
        data = bytes(self._buffer[:nbytes])
        if self._left:
            self._take(data)
        else:
            self._parse(data)
        if (
            self._held > READ_AHEAD
            and not self._paused
            and not self._complete
            and self._transport is not None
        ):
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
                self._fail(httpx.RemoteProtocolError(f"the answer is not HTTP: {error}"), error)
                return
            self._keep = False
        if self.status and self._bodiless:
            # The parser does not know that: what it takes for a body should not be there.
            self._keep = self._keep and not self._received
            self._chunks.clear()
            self._complete = True
        elif self._received == received and not self._complete:
            # Headers, or the trailers of a chunked body.
            self._head_size += len(data)
            if self._head_size > MAX_HEAD:
                self._fail(httpx.RemoteProtocolError(f"the answer's headers have more than {MAX_HEAD} bytes"))
        if self.status and not self._complete:
            self._left = max(0, self._length() - self._received)

    def _take(self, data: bytes) -> None:
        if len(data) > self._left:
            # More than it said. The digest tells whether the body is right; the connection is not used again.
            data = data[: self._left]
            self._keep = False
        self._left -= len(data)
        self.on_body(data)
        self._complete = not self._left

    def _length(self) -> int:
        """The bytes that the body is said to have; 0 where the parser finds its end."""
        if self._header(b"transfer-encoding"):
            return 0
        return int(self._header(b"content-length") or 0)

    def _framed(self) -> bool:
        return bool(self._header(b"transfer-encoding") or self._header(b"content-length"))

    def _header(self, name: bytes) -> bytes:
        return next((value for key, value in self.headers if key.lower() == name), b"")

    def _broken(self, error: Exception | None) -> httpx.TransportError:
        reason = f": {error}" if error is not None and str(error) else ""
        if not self.status:
            return httpx.ReadError(f"the server closed the connection before it answered{reason}")
        return httpx.RemoteProtocolError(
            f"the server closed the connection after {self._received} bytes of a body{reason}"
        )

    # --- the parser calls these -------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        if self._complete:
            self._keep = False

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self.status:  # else it is a trailer, and nobody reads those
            self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if self._complete:
            return
        if status < 200 and status != 101:
            self.headers.clear()  # an interim answer (RFC 9110, section 15.2): the real one follows
            self._head_began = 0.0
            return
        self.status = status
        said = self._header(b"connection").lower()
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
