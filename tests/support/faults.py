"""A registry that fails on purpose: an HTTP proxy in front of a real registry, with scripted faults.

    faults.on("GET", "*/blobs/sha256:*", cut=1000, times=2)
    faults.on("PUT", "*/blobs/uploads/*", status=413, body=b"too large")

Each request uses its own connection. Requests without a fault pass through unchanged.
"""

import asyncio
import random
import socket
import ssl
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Self

import trustme

_SEND_BUFFER = 512 * 1024
"""Bytes that may be on their way to a client."""
_PIECE = 256 * 1024
_HEAD = 64 * 1024
REASONS = {200: "OK", 206: "Partial Content", 307: "Temporary Redirect"}


@dataclass
class Asked:
    """A request. `received` and `sent` are the bytes of the request body and response body that passed through."""

    method: str
    target: str
    headers: dict[str, str]
    status: int = 0
    received: int = 0
    sent: int = 0

    @property
    def path(self) -> str:
        return self.target.partition("?")[0]

    @property
    def line(self) -> str:
        return f"{self.method} {self.target}"


@dataclass(frozen=True, slots=True)
class Reply:
    """A response of the proxy instead of the registry. With `transfer-encoding`, `body` is encoded like that already."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


@dataclass
class Fault:
    """What goes wrong with one request. Offsets are in bytes of a body.

    `status`, `headers`, `body`: answered so, and the registry hears nothing. `reply` makes such an answer, or none.
    `reset` closes the connection without an answer. `early` answers before the request's body is read. `cut` and `cut_upload` break the connection after so many
    bytes of the answer or the request; `flip` and `flip_upload` change the byte there; `stall` keeps the answer
    back for so many seconds, before byte `stall_at`. `drop` leaves headers of the answer out; `rewrite` changes them.
    `restatus` replaces the status of an answer of success.
    `lose` has the request obeyed and its answer thrown away.
    """

    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    reply: Callable[[Asked], Reply | None] | None = None
    reset: bool = False
    early: bool = False
    cut: int | None = None
    cut_upload: int | None = None
    flip: int | None = None
    flip_upload: int | None = None
    stall: float = 0.0
    stall_at: int = 0
    drop: Iterable[str] = ()
    rewrite: Callable[[dict[str, str]], None] | None = None
    restatus: int | None = None
    lose: bool = False

    def answer(self, asked: Asked) -> Reply | None:
        if self.reply is not None:
            return self.reply(asked)
        return None if self.status is None else Reply(self.status, self.headers, self.body)


@dataclass
class _Rule:
    method: str
    pattern: str
    fault: Fault
    skip: int
    times: int
    over: int

    def applies(self, asked: Asked) -> bool:
        target = asked.target if "?" in self.pattern else asked.path
        if self.method not in {"*", asked.method} or not fnmatchcase(
            target, self.pattern.replace("?", "[?]")
        ):
            return False
        if int(asked.headers.get("content-length", 0)) <= self.over:
            return False
        if self.skip:
            self.skip -= 1
            return False
        self.times -= 1
        return self.times >= 0


class Faults:
    """The proxy, up while the `async with` block runs; `host` is where it is, `requests` what it was asked."""

    def __init__(self, upstream: str, *, tls: trustme.CA | None = None) -> None:
        self.upstream = upstream
        self.host = ""
        self.requests: deque[Asked] = deque()
        self.chaos: Chaos | None = None
        self._tls = tls
        self._rules: list[_Rule] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._closing = False

    def on(
        self,
        method: str,
        pattern: str,
        *,
        times: int = 1_000_000,
        skip: int = 0,
        over: int = -1,
        **fault: object,
    ) -> None:
        """From the (`skip` + 1)th request of `method` (or `*`) to a path like `pattern` on, `times` go wrong.

        Of those, only the ones whose body has more than `over` bytes. Further arguments are those of `Fault`. Of several rules the first that applies holds.
        """
        self._rules.append(_Rule(method, pattern, Fault(**fault), skip, times, over))  # type: ignore[arg-type]

    @property
    def lines(self) -> list[str]:
        """The requests so far as `GET /v2/…`."""
        return [asked.line for asked in self.requests]

    def count(self, method: str, pattern: str = "*") -> int:
        return sum(asked.method == method and fnmatchcase(asked.path, pattern) for asked in self.requests)

    @property
    def received(self) -> int:
        """Bytes of request bodies."""
        return sum(asked.received for asked in self.requests)

    @property
    def sent(self) -> int:
        """Bytes of response bodies."""
        return sum(asked.sent for asked in self.requests)

    async def __aenter__(self) -> Self:
        context = None
        if self._tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._tls.issue_cert("127.0.0.1", "localhost").configure_cert(context)
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0, limit=_HEAD * 4, ssl=context)
        self.host = f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_exc: object) -> None:
        self._closing = True
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # By default, the kernel may grow the buffer to 4 MiB, and a cut would lose more on a slow machine.
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)
        if self._closing:
            # The connection was accepted just before the end, and nothing would wait for its task.
            writer.transport.abort()
            return
        task = asyncio.create_task(self._connected(reader, writer))
        # A task that is cancelled before it starts closes nothing.
        task.add_done_callback(lambda _task: writer.close())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with suppress(ConnectionError, asyncio.IncompleteReadError, ssl.SSLError):
                await self._serve(reader, writer)
        except asyncio.CancelledError:
            writer.transport.abort()  # the end of the test; asyncio would log it
        finally:
            await _close(writer)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        first, headers = _head(await reader.readuntil(b"\r\n\r\n"))
        method, target, _ = first.split(" ", 2)
        asked = Asked(method, target, headers)
        self.requests.append(asked)
        fault = next((rule.fault for rule in self._rules if rule.applies(asked)), None)
        if fault is None:
            fault = self.chaos.fault(asked) if self.chaos else Fault()
        if fault.reset:
            writer.transport.abort()
            return
        if fault.stall and not fault.stall_at:
            await asyncio.sleep(fault.stall)
        if (reply := fault.answer(asked)) is not None:
            await _Exchange(asked, fault, reader, writer).reply(reply)
        else:
            await _Exchange(asked, fault, reader, writer).forward(self.upstream)


class _Exchange:
    """One request and its answer."""

    def __init__(
        self, asked: Asked, fault: Fault, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.asked = asked
        self.fault = fault
        self.reader = reader
        self.writer = writer
        self.length = int(asked.headers.get("content-length", 0))

    async def reply(self, reply: Reply) -> None:
        if not self.fault.early:
            async for piece in self._body():
                self.asked.received += len(piece)
        self.asked.status = reply.status
        headers = {"content-length": str(len(reply.body)), **reply.headers, "connection": "close"}
        if "transfer-encoding" in headers:
            del headers["content-length"]
        body = b"" if self.asked.method == "HEAD" else reply.body
        self.asked.sent = len(body)
        self.writer.write(_lines(_status_line(reply.status), headers) + body)
        await self.writer.drain()
        if self.fault.early:
            # Like servers, read the rest of the request for a moment, so that the response is not lost.
            self.writer.write_eof() if self.writer.can_write_eof() else None
            with suppress(TimeoutError):
                async with asyncio.timeout(0.3):
                    while await self.reader.read(_PIECE):
                        pass

    async def forward(self, upstream: str) -> None:
        host, _, port = upstream.partition(":")
        there_reader, there = await asyncio.open_connection(host, int(port), limit=_HEAD * 4)
        sending = asyncio.create_task(self._pass_on(there))
        try:
            await self._answer(there_reader)
        except asyncio.IncompleteReadError:
            self.writer.transport.abort()
        finally:
            # Do this before the first await: the test may end there.
            there.close()
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)
            await _close(there)

    async def _pass_on(self, there: asyncio.StreamWriter) -> None:
        try:
            await self._send(there)
        except (ConnectionError, asyncio.IncompleteReadError):
            there.close()  # the client is gone: so it is for the registry

    async def _send(self, there: asyncio.StreamWriter) -> None:
        asked, fault = self.asked, self.fault
        there.write(
            _lines(f"{asked.method} {asked.target} HTTP/1.1", {**asked.headers, "connection": "close"})
        )
        async for piece in self._body():
            data = _flipped(piece, asked.received, fault.flip_upload)
            if fault.cut_upload is not None and asked.received + len(data) > fault.cut_upload:
                there.write(data[: fault.cut_upload - asked.received])
                asked.received = fault.cut_upload
                # What came so far is the registry's; the client sees the connection break.
                await there.drain()
                there.close()
                self.writer.transport.abort()
                return
            asked.received += len(data)
            there.write(data)
            await there.drain()

    async def _body(self):
        left = self.length
        while left:
            piece = await self.reader.read(min(left, _PIECE))
            if not piece:
                raise asyncio.IncompleteReadError(b"", left)
            left -= len(piece)
            yield piece

    async def _answer(self, there: asyncio.StreamReader) -> None:
        asked, fault = self.asked, self.fault
        first, headers = _head(await there.readuntil(b"\r\n\r\n"))
        asked.status = int(first.split(" ", 2)[1])
        if fault.lose:
            while await there.read(_PIECE):
                pass
            self.writer.transport.abort()
            return
        for name in fault.drop:
            headers.pop(name.lower(), None)
        if fault.rewrite:
            fault.rewrite(headers)
        if fault.restatus and asked.status in {200, 201, 202}:
            first = _status_line(fault.restatus)
        self.writer.write(_lines(first, {**headers, "connection": "close"}))
        while piece := await there.read(_PIECE):
            data = _flipped(piece, asked.sent, fault.flip)
            if fault.stall and 0 < fault.stall_at <= asked.sent + len(data):
                await asyncio.sleep(fault.stall)
            if fault.cut is not None and asked.sent + len(data) > fault.cut:
                self.writer.write(data[: fault.cut - asked.sent])
                asked.sent = fault.cut
                await self.writer.drain()
                break
            asked.sent += len(data)
            self.writer.write(data)
            await self.writer.drain()
        if fault.cut is not None and asked.sent == fault.cut == 0:
            self.writer.transport.abort()


class Chaos:
    """A bad line for every request, by chance: the same each time for the same seed.

    Of `rate` (0 to 1) of all requests, each goes wrong in one of the ways below; `stall` is in seconds. The chance
    hangs on what is asked and how often it was, not on the order in which requests come.
    """

    def __init__(self, seed: int, rate: float = 0.02, *, stall: float = 0.2) -> None:
        self.happened: Counter[str] = Counter()
        self._seed = seed
        self._rate = rate
        self._seen: Counter[str] = Counter()
        self._ways: dict[str, Callable[[random.Random], Fault]] = {
            "reset": lambda _: Fault(reset=True),
            "429": lambda _: Fault(status=429, headers={"retry-after": "0"}),
            "500": lambda _: Fault(status=500),
            "503": lambda _: Fault(status=503),
            "cut": lambda chance: Fault(cut=chance.randrange(200_000), cut_upload=chance.randrange(200_000)),
            "stall": lambda _: Fault(stall=stall),
        }

    def fault(self, asked: Asked) -> Fault:
        # The names of upload sessions differ each time.
        what = asked.line.partition("/blobs/uploads/")[0] + str(asked.headers.get("content-length"))
        self._seen[what] += 1
        chance = random.Random(f"{self._seed} {what} {self._seen[what]}")
        if chance.random() >= self._rate:
            return Fault()
        name = chance.choice(sorted(self._ways))
        self.happened[name] += 1
        return self._ways[name](chance)


def _head(raw: bytes) -> tuple[str, dict[str, str]]:
    first, *lines = raw.decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")
    pairs = (line.split(":", 1) for line in lines)
    return first, {name.lower(): value.strip() for name, value in pairs}


def _lines(first: str, headers: Mapping[str, str]) -> bytes:
    lines = [first, *(f"{name}: {value}" for name, value in headers.items()), "", ""]
    return "\r\n".join(lines).encode("latin-1")


def _status_line(status: int) -> str:
    return f"HTTP/1.1 {status} {REASONS.get(status, 'As Scripted')}"


def _flipped(data: bytes, start: int, at: int | None) -> bytes:
    if at is None or not start <= at < start + len(data):
        return data
    changed = bytearray(data)
    changed[at - start] ^= 0xFF
    return bytes(changed)


async def _close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with suppress(ConnectionError, ssl.SSLError, TimeoutError):
        async with asyncio.timeout(1):
            await writer.wait_closed()
