"""Tests of connections and the connection pool, against servers with scripted responses."""

import asyncio
import os
import resource
import socket
import ssl
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import suppress
from typing import Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncer.accounts.settings import HostSettings
from syncer.errors import Attempt, Kind
from syncer.http import connection, dialling, pace, wire
from syncer.http.address import Address
from syncer.http.connection import MAX_HEAD, READ_AHEAD, Connection
from syncer.http.dialling import TooManyOpenFiles
from syncer.http.failures import from_transport
from syncer.http.proxies import ProxyRefused, ProxyUnreachable
from syncer.http.sockets import SocketTransport
from syncer.http.transport import HttpResponse
from syncer.http.transport_errors import (
    ConnectError,
    ConnectTimeout,
    LocalProtocolError,
    ReadError,
    ReadTimeout,
    RemoteProtocolError,
    TransportError,
    UnsupportedProtocol,
)
from syncer.http.wire import ConnectionPool
from tests.support.generated import examples
from tests.support.messages import request_to
from tests.support.waiting import OK, Waiting


class Peer:
    """A server that sends its responses in order, one per request. Its `requests` are the heads without bodies."""

    def __init__(self, answers: list[bytes]) -> None:
        self.answers = answers
        self.requests: list[str] = []
        self.bodies: list[bytes] = []
        self.connections = 0
        self.ended = anyio.Event()
        self.url = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while self.answers:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                self.requests.append(head)
                if "Content-Length: " in head:
                    length = int(head.partition("Content-Length: ")[2].partition("\r\n")[0])
                    self.bodies.append(await reader.readexactly(length))
                answer = self.answers.pop(0)
                writer.write(answer)
                await writer.drain()
                if not answer:
                    break  # asked, and gone without a word
            else:
                await reader.read()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()
            self.ended.set()


@pytest.fixture
async def listen():
    """A function that starts a server and gives its host and port; options are asyncio's."""
    servers: list[asyncio.Server] = []

    async def start(serve: Callable[..., Awaitable[None]], **options) -> str:
        server = await asyncio.start_server(serve, "127.0.0.1", 0, **options)
        servers.append(server)
        return f"127.0.0.1:{server.sockets[0].getsockname()[1]}"

    yield start
    for server in servers:
        server.close()
        await server.wait_closed()


@pytest.fixture
async def peer(listen):
    """A function that starts a `Peer` with these answers."""

    async def start(*answers: bytes) -> Peer:
        made = Peer(list(answers))
        made.url = f"http://{await listen(made.serve)}/v2/"
        return made

    return start


@pytest.fixture
async def pool(listen):
    # Created after `listen`, so that it is closed before the servers, which wait for its connections.
    async with ConnectionPool() as pool:
        yield pool


async def ask(pool: ConnectionPool, url: str, method: str = "GET", **options) -> tuple[HttpResponse, bytes]:
    """Send one request and read the whole response."""
    response = await pool.send(request_to(url, method, **options))
    try:
        return response, b"".join([chunk async for chunk in response.body])
    finally:
        await response.aclose()


# --- keeping connections ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "answer", "body"),
    [
        ("GET", OK, b"ok"),
        ("GET", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\no\r\n1\r\nk\r\n0\r\n\r\n", b"ok"),
        ("GET", b"HTTP/1.1 204 No Content\r\n\r\n", b""),
        ("GET", b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + OK, b"ok"),
        ("GET", b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok", b"ok"),
        ("HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 1234\r\n\r\n", b""),
        ("HEAD", b"HTTP/1.1 404 Not Found\r\n\r\n", b""),
        ("HEAD", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b""),
        ("POST", b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n", b""),
    ],
)
async def test_connection_is_reused_after_a_complete_response(peer, pool, method, answer, body):
    server = await peer(answer, answer)
    for _ in range(2):
        assert (await ask(pool, server.url, method))[1] == body
    assert server.connections == 1


@pytest.mark.parametrize(
    ("answer", "body"),
    [
        (b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok", b"ok"),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", b"ok"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok, and more", b"ok"),
        (OK + OK, b"ok"),
    ],
)
async def test_connection_is_not_reused_after_close_or_unclear_framing(peer, pool, answer, body):
    server = await peer(answer, OK)
    assert (await ask(pool, server.url))[1] == body
    server.connections = 0
    assert (await ask(pool, server.url))[1] == b"ok"
    assert server.connections == 1


async def test_head_response_with_a_body_is_not_read_as_the_next_response(peer, pool):
    server = await peer(OK, OK)
    assert (await ask(pool, server.url, "HEAD"))[1] == b""
    assert (await ask(pool, server.url))[1] == b"ok"
    assert server.connections == 2


async def test_unsolicited_data_is_not_read_as_the_next_response(listen, pool):
    later, left = anyio.Event(), anyio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(OK)
        await later.wait()
        writer.write(OK.replace(b"ok", b"no"))
        with suppress(ConnectionError):
            await reader.read()
        left.set()
        writer.close()

    url = f"http://{await listen(serve)}/"
    assert (await ask(pool, url))[1] == b"ok"
    later.set()
    with anyio.fail_after(10):
        await left.wait()
    assert (await ask(pool, url))[1] == b"ok"


async def test_idle_connection_is_closed(peer, pool, monkeypatch):
    monkeypatch.setattr(wire, "IDLE_SECONDS", 0.01)
    server = await peer(OK, OK)
    await ask(pool, server.url)
    with anyio.fail_after(10):
        await server.ended.wait()
    assert not pool._connections


async def test_closing_the_pool_closes_all_connections(peer):
    server = await peer(OK, OK)
    async with ConnectionPool() as pool:
        await ask(pool, server.url)
        await pool.send(request_to(server.url))
    with anyio.fail_after(10):
        await server.ended.wait()


async def test_unread_body_closes_its_connection(peer, pool):
    server = await peer(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok", OK)
    response = await pool.send(request_to(server.url))
    await response.aclose()
    with anyio.fail_after(10):
        await server.ended.wait()


async def test_cancelled_request_closes_its_connection(peer, pool):
    server = await peer(b"HTTP/1.1 200 OK\r\n", OK)
    with anyio.move_on_after(0.05):
        await ask(pool, server.url)
    with anyio.fail_after(10):
        await server.ended.wait()


# --- idle connections closed by the server ----------------------------------------------------------------------


class Forgetful(Peer):
    """Closes each used connection when the next request arrives."""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        for answer in (OK, b""):
            try:
                self.requests.append((await reader.readuntil(b"\r\n\r\n")).decode())
            except asyncio.IncompleteReadError:
                break
            writer.write(answer)
        writer.close()


async def test_idempotent_request_is_repeated_over_a_new_connection(listen, pool):
    server = Forgetful([])
    url = f"http://{await listen(server.serve)}/"
    for _ in range(2):
        assert (await ask(pool, url))[1] == b"ok"
    assert server.connections == 2
    assert len(server.requests) == 3


@pytest.mark.parametrize("method", ["POST", "PATCH"])
async def test_non_idempotent_request_is_not_repeated(listen, pool, method):
    server = Forgetful([])
    url = f"http://{await listen(server.serve)}/"
    await ask(pool, url)
    with pytest.raises(ReadError, match="before it responded"):
        await ask(pool, url, method)
    assert server.connections == 1


async def test_closed_new_connection_is_an_error(peer, pool):
    server = await peer(b"")
    with pytest.raises(ReadError, match="before it responded"):
        await ask(pool, server.url)
    assert server.connections == 1


# --- prewarmed connections ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("prewarm", "wanted"), [((2, 30), 3), ((4, 2), 2), ((4, 1), 1), ((0, 30), 1)])
async def test_connections_are_prewarmed_during_a_request(listen, pool, prewarm, wanted):
    server = Waiting(wanted)
    url = f"http://{await listen(server.serve)}/"
    await ask(pool, url, prewarm=prewarm)
    async with anyio.create_task_group() as group:
        for _ in range(wanted):
            group.start_soon(ask, pool, url)
    assert server.most == wanted


async def test_request_waits_for_a_prewarming_connection(listen, pool):
    server = Waiting(2)
    url = f"http://{await listen(server.serve)}/"
    async with anyio.create_task_group() as group:
        for _ in range(2):
            group.start_soon(lambda: ask(pool, url, prewarm=(1, 2)))
    assert server.most == 2


@pytest.fixture
def second_dial(monkeypatch) -> Callable[[Callable[[], Awaitable[None]]], None]:
    """A function that decides the result of the second connection."""
    real = dialling.Dialler.dial

    def replace(instead: Callable[[], Awaitable[None]]) -> None:
        dials = 0

        async def dial(self: dialling.Dialler, *given) -> None:
            nonlocal dials
            dials += 1
            await (instead() if dials == 2 else real(self, *given))

        monkeypatch.setattr(dialling.Dialler, "dial", dial)

    return replace


async def test_failed_prewarming_raises_no_error(peer, pool, second_dial):
    tried = anyio.Event()

    async def fail() -> None:
        tried.set()
        raise ConnectError("no more than one")

    second_dial(fail)
    server = await peer(OK, OK)
    await ask(pool, server.url, prewarm=(1, 30))
    await tried.wait()
    assert (await ask(pool, server.url))[1] == b"ok"
    assert server.connections == 1


async def test_request_that_waits_for_prewarming_gets_its_error(listen, pool, second_dial):
    claimed = anyio.Event()

    async def fail() -> None:
        await claimed.wait()
        raise ConnectError("no more than one")

    second_dial(fail)
    server = Waiting(1)
    url = f"http://{await listen(server.serve)}/"
    first = await pool.send(request_to(url, prewarm=(1, 30)))
    async with anyio.create_task_group() as group:

        async def second() -> None:
            with pytest.raises(ConnectError, match="no more than one"):
                await ask(pool, url)

        group.start_soon(second)
        await anyio.wait_all_tasks_blocked()
        claimed.set()
    await first.aclose()


async def test_closing_the_pool_cancels_prewarming(peer, second_dial):
    ended = anyio.Event()

    async def hang() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            ended.set()

    second_dial(hang)
    server = await peer(OK)
    with anyio.fail_after(5):
        async with ConnectionPool() as pool:
            await ask(pool, server.url, prewarm=(1, 30))
        await ended.wait()


async def test_prewarming_cancelled_before_its_start_is_forgotten(listen, pool):
    server = Waiting(1)
    url = f"http://{await listen(server.serve)}/"
    first = asyncio.create_task(ask(pool, url, prewarm=(1, 30)))
    second = asyncio.create_task(ask(pool, url))
    # Both have begun then, and the second waits for a task that has not.
    await asyncio.sleep(0)
    second.cancel()
    assert (await first)[1] == b"ok"
    assert second.cancelled()
    assert len(pool._connections) == server.most == 1


async def test_request_is_repeated_if_a_prewarmed_connection_was_closed(listen, pool):
    answers = [OK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"), b"", OK]
    connections = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        answer = answers[connections - 1]
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        writer.close()

    url = f"http://{await listen(serve)}/"
    await ask(pool, url, prewarm=(1, 30))
    assert (await ask(pool, url))[1] == b"ok"
    assert connections == 3


# --- invalid responses --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (b"SSH-2.0-OpenSSH_9.2\r\n", "not HTTP"),
        (b"HTTP/1.1 abc OK\r\n\r\n", "not HTTP"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 7\r\n\r\n", "not HTTP"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", "not HTTP"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", "not HTTP"),
        (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: upgrade\r\n\r\n", "not HTTP"),
        (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * (MAX_HEAD // 6 + 1), "headers exceed"),
        (b"HTTP/1.1 100 Continue\r\n\r\n" * (MAX_HEAD // 25 + 1), "headers exceed"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "not HTTP"),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: " + b"y" * 10 * MAX_HEAD,
            "headers exceed",
        ),
    ],
)
async def test_non_http_response_is_reported(peer, pool, answer, message):
    server = await peer(answer)
    with pytest.raises(RemoteProtocolError, match=message):
        await ask(pool, server.url)
    assert not pool._connections


async def test_a_body_without_a_length_ends_with_the_connection(listen, pool):
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\n\r\nall that ")
        await writer.drain()
        writer.write(b"there is")
        writer.close()

    assert (await ask(pool, f"http://{await listen(serve)}/"))[1] == b"all that there is"


@pytest.mark.parametrize("head", [b"Content-Length: 9", b"Transfer-Encoding: chunked"])
async def test_data_before_a_broken_connection_is_returned(listen, pool, head):
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(
            b"HTTP/1.1 200 OK\r\n" + head + b"\r\n\r\n" + (b"4\r\n" if b"chunked" in head else b"") + b"half"
        )
        writer.close()

    response = await pool.send(request_to(f"http://{await listen(serve)}/"))
    await anyio.wait_all_tasks_blocked()
    body = aiter(response.body)
    assert await anext(body) == b"half"
    with pytest.raises(RemoteProtocolError, match="after 4 bytes"):
        await anext(body)
    await response.aclose()


@pytest.mark.parametrize("answer", [b"HTTP/1.1 200 ", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf"])
async def test_silent_server_times_out(peer, pool, answer):
    server = await peer(answer, OK)
    with pytest.raises(ReadTimeout):
        await ask(pool, server.url, read_seconds=0.02)
    assert not [each for each in pool._connections if not each.closed]


# --- slow responses ----------------------------------------------------------------------------------------------------


@pytest.fixture
async def dripping(listen):
    """A server that sends so many bytes at once, then the rest byte by byte."""
    at_work: list[asyncio.Task[None] | None] = []

    async def start(answer: bytes, at_once: int) -> str:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            at_work.append(asyncio.current_task())
            try:
                await reader.readuntil(b"\r\n\r\n")
                writer.write(answer[:at_once])
                for byte in answer[at_once:]:
                    await asyncio.sleep(0.01)
                    writer.write(bytes((byte,)))
                    await writer.drain()
            except (asyncio.IncompleteReadError, ConnectionError):
                pass  # given up, as it should be
            finally:
                writer.close()
                with suppress(ConnectionError):
                    await writer.wait_closed()

        return f"http://{await listen(serve)}/"

    yield start
    await asyncio.gather(*filter(None, at_work))


@pytest.mark.parametrize("at_once", [0, 1, 40])
async def test_slow_headers_time_out(dripping, pool, monkeypatch, at_once):
    monkeypatch.setattr(connection, "HEAD_SECONDS", 0.1)
    url = await dripping(b"HTTP/1.1 200 OK\r\n" + b"X-Header: value\r\n" * 200, at_once)
    with anyio.fail_after(30), pytest.raises(ReadTimeout):
        await ask(pool, url)


@pytest.mark.parametrize("framing", [b"Content-Length: 9000\r\n", b"Transfer-Encoding: chunked\r\n", b""])
async def test_slow_body_times_out(dripping, pool, monkeypatch, framing):
    monkeypatch.setattr(pace, "RATE_SECONDS", 0.1)
    head = b"HTTP/1.1 200 OK\r\n" + framing + b"\r\n"
    url = await dripping(head + b"1\r\nx\r\n" * 1500, len(head))
    with anyio.fail_after(30), pytest.raises(pace.TooSlow):
        await ask(pool, url)


async def test_one_long_pause_in_a_body_is_allowed(listen, pool, monkeypatch):
    monkeypatch.setattr(pace, "RATE_SECONDS", 0.1)
    monkeypatch.setattr(pace, "MAX_WAIT", 0.01)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n")
        for pause in (0.5, 0.0, 0.0):
            await asyncio.sleep(pause)
            writer.write(b"x")
            await writer.drain()
        writer.close()

    assert (await ask(pool, f"http://{await listen(serve)}/"))[1] == b"xxx"


async def test_interim_responses_do_not_count_as_slow_headers(listen, pool, monkeypatch):
    monkeypatch.setattr(connection, "HEAD_SECONDS", 0.01)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 102 Processing\r\n\r\n")
        await writer.drain()
        await asyncio.sleep(0.1)
        writer.write(OK)
        await reader.read()
        writer.close()

    assert (await ask(pool, f"http://{await listen(serve)}/"))[1] == b"ok"


async def test_silence_within_a_body_has_the_default_timeout(peer, pool, monkeypatch):
    monkeypatch.setattr(wire, "READ_SECONDS", 0.05)
    server = await peer(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf", OK)
    with anyio.fail_after(30), pytest.raises(ReadTimeout):
        await ask(pool, server.url, read_seconds=600.0)


async def test_idle_connection_is_closed_at_the_connection_limit(peer):
    one, other = await peer(OK, OK), await peer(OK, OK)
    async with ConnectionPool(1) as pool:
        for server in (one, other, one):
            assert (await ask(pool, server.url))[1] == b"ok"
            await anyio.wait_all_tasks_blocked()
            assert len([each for each in pool._connections if not each.closed]) == 1
    assert (one.connections, other.connections) == (2, 1)


# --- requests ----------------------------------------------------------------------------------------------------------


async def test_request_is_written_unchanged(peer, pool):
    server = await peer(OK)
    await ask(pool, f"{server.url}a?b=%2F", "PUT", headers={"X-One": "1"}, body=b"body")
    host = server.url.split("/")[2]
    assert server.requests == [
        f"PUT /v2/a?b=%2F HTTP/1.1\r\nHost: {host}\r\nX-One: 1\r\nContent-Length: 4\r\n\r\n"
    ]
    assert server.bodies == [b"body"]


@pytest.mark.parametrize("size", [0, 1, 70_000, 3_000_000])
async def test_body_of_any_size_arrives_complete(peer, pool, size):
    body = bytes(range(256)) * (size // 256) + bytes(size % 256)

    async def chunks() -> AsyncGenerator[bytes]:
        for start in range(0, size, 100_000):
            yield body[start : start + 100_000]

    server = await peer(OK, OK)
    await ask(pool, server.url, "PUT", body=body)
    await ask(pool, server.url, "PUT", headers={"Content-Length": str(size)}, body=chunks())
    assert server.bodies == [body, body]
    assert server.connections == 1


@pytest.mark.parametrize("value", ["a\r\nX-Evil: 1", "a\nb", "a\0b"])
async def test_line_break_in_a_header_is_refused(peer, pool, value):
    server = await peer(OK)
    with pytest.raises(LocalProtocolError, match="the header X-One contains a line break"):
        await ask(pool, server.url, headers={"X-One": value})
    assert not server.connections


async def test_space_or_line_break_in_a_target_is_refused(peer, pool):
    server = await peer(OK)
    for target in (b"/ HTTP/1.1\r\nX: y", b"/a b", b"/\xff", b""):
        with pytest.raises((LocalProtocolError, UnsupportedProtocol)):
            await ask(pool, server.url.replace("/v2/", ""), target=target or b" ")
    assert not server.connections


@pytest.mark.parametrize("url", ["ftp://127.0.0.1/", "http:///nowhere"])
async def test_invalid_url_is_refused(pool, url):
    with pytest.raises(UnsupportedProtocol, match="not a URL"):
        await ask(pool, url)


async def test_early_response_stops_the_request_body(listen, pool):
    sent = 0
    closed = anyio.Event()

    async def chunks() -> AsyncGenerator[bytes]:
        nonlocal sent
        try:
            while True:
                sent += 1
                yield bytes(1000)
                await anyio.sleep(0.001)
        finally:
            closed.set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n")
        await reader.read()
        writer.close()

    response, _ = await ask(
        pool,
        f"http://{await listen(serve)}/",
        "PUT",
        headers={"Content-Length": "9999999"},
        body=chunks(),
    )
    assert response.status == 413
    assert closed.is_set()
    assert not [each for each in pool._connections if not each.closed]


async def test_error_of_a_body_generator_is_raised(peer, pool):
    async def chunks() -> AsyncGenerator[bytes]:
        yield b"half"
        raise LookupError("the source is gone")

    server = await peer(OK)
    with pytest.raises(LookupError, match="the source is gone"):
        await ask(pool, server.url, "PUT", headers={"Content-Length": "8"}, body=chunks())
    with anyio.fail_after(10):
        await server.ended.wait()


# --- a single connection -----------------------------------------------------------------------------------------


class Socket(asyncio.Transport):
    """What a connection writes to, and whether it is read from."""

    def __init__(self) -> None:
        super().__init__()
        self.reading: list[str] = []
        self.closing = False
        self.written = b""

    def write(self, data) -> None:
        self.written += bytes(data)

    def pause_reading(self) -> None:
        self.reading.append("paused")

    def resume_reading(self) -> None:
        self.reading.append("resumed")

    def is_closing(self) -> bool:
        return self.closing

    def abort(self) -> None:
        self.closing = True


def connected() -> tuple[Connection, Socket, Callable[[bytes], None]]:
    """A connection, its socket, and a function for what the server says."""
    buffer = memoryview(bytearray(wire.READ_SIZE))
    made, below = Connection(lambda _gone: None, buffer), Socket()
    made.connection_made(below)

    def say(data: bytes) -> None:
        made.get_buffer(-1)[: len(data)] = data
        made.buffer_updated(len(data))

    return made, below, say


async def exchanged(made: Connection, say: Callable[[bytes], None], answer: list[bytes], **options) -> None:
    async with anyio.create_task_group() as group:

        async def ask() -> None:
            await made.exchange(b"GET / HTTP/1.1\r\n\r\n", b"", seconds=60.0, bodiless=False, **options)

        group.start_soon(ask)
        await anyio.wait_all_tasks_blocked()
        for piece in answer:
            say(piece)


async def test_reading_pauses_while_the_body_is_not_consumed():
    made, below, say = connected()
    piece = bytes(100_000)
    await exchanged(made, say, [b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n"])
    for _ in range(READ_AHEAD // len(piece)):
        say(piece)
    assert below.reading == []
    say(piece)
    assert below.reading == ["paused"]
    for _ in range(READ_AHEAD // len(piece)):
        await made.read(60.0)
    assert below.reading == ["paused"]
    await made.read(60.0)
    assert below.reading == ["paused", "resumed"]


async def test_writing_pauses_while_the_server_does_not_read():
    made, below, say = connected()
    pulled = 0

    async def chunks() -> AsyncGenerator[bytes]:
        nonlocal pulled
        for _ in range(10):
            pulled += 1
            yield b"x"

    async with anyio.create_task_group() as group:
        group.start_soon(lambda: made.exchange(b"", chunks(), seconds=60.0, bodiless=False))
        made.pause_writing()
        await anyio.wait_all_tasks_blocked()
        assert (pulled, below.written) == (1, b"")
        made.resume_writing()
        await anyio.wait_all_tasks_blocked()
        assert (pulled, below.written) == (10, b"x" * 10)
        say(OK)


async def test_body_may_take_longer_than_the_idle_timeout():
    made, below, say = connected()
    made.rest(0.01)

    async def chunks() -> AsyncGenerator[bytes]:
        yield b"x"

    async with anyio.create_task_group() as group:
        group.start_soon(lambda: made.exchange(b"", chunks(), seconds=60.0, bodiless=False))
        made.pause_writing()
        await anyio.sleep(0.05)
        made.resume_writing()
        await anyio.wait_all_tasks_blocked()
        say(OK)
    assert below.written == b"x"
    assert made.status == 200


@examples(100)
@given(
    body=st.binary(max_size=300),
    framing=st.sampled_from(["length", "chunks", "end"]),
    cuts=st.lists(st.integers(1, 80), max_size=30),
    sizes=st.lists(st.integers(1, 50), min_size=1, max_size=5),
)
def test_response_is_the_same_for_any_segmentation(body, framing, cuts, sizes):
    head = b"HTTP/1.1 200 OK\r\nX-One: 1\r\n"
    if framing == "length":
        answer = head + b"Content-Length: %d\r\n\r\n" % len(body) + body
    elif framing == "end":
        answer = head + b"\r\n" + body
    else:
        answer, rest, number = head + b"Transfer-Encoding: chunked\r\n\r\n", body, 0
        while rest:
            size = sizes[number % len(sizes)]
            answer += b"%x\r\n%b\r\n" % (len(rest[:size]), rest[:size])
            rest, number = rest[size:], number + 1
        answer += b"0\r\n\r\n"
    pieces, rest = [], answer
    for cut in cuts:
        pieces.append(rest[:cut])
        rest = rest[cut:]
    pieces = [piece for piece in [*pieces, rest] if piece]

    async def run() -> None:
        made, _, say = connected()
        await exchanged(made, say, pieces)
        if framing == "end":
            made.connection_lost(None)
        assert made.status == 200
        assert (b"x-one", b"1") in made.headers
        received = b""
        while chunk := await made.read(60.0):
            received += chunk
        assert received == body
        assert made.reusable == (framing != "end")

    anyio.run(run)


# --- connecting ----------------------------------------------------------------------------------------------


async def test_concurrent_requests_resolve_a_name_once(peer, pool, monkeypatch):
    server = await peer(*[OK] * 9)
    asked: list[str] = []
    addresses = dialling._addresses

    def counted(host: str, port: int, flags: int):
        if not flags:
            asked.append(host)
        return addresses(host, port, flags)

    monkeypatch.setattr(dialling, "_addresses", counted)
    url = server.url.replace("127.0.0.1", "localhost")
    async with anyio.create_task_group() as group:
        for _ in range(9):
            group.start_soon(ask, pool, url)
    assert server.connections == 9
    assert asked == ["localhost"]


async def test_failed_lookup_is_not_cached(pool, monkeypatch):
    asked = 0

    def missing(_host: str, _port: int, _flags: int):
        nonlocal asked
        asked += 1
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(dialling, "_addresses", missing)
    for _ in range(2):
        with pytest.raises(ConnectError) as failure:
            await ask(pool, "http://registry.example/")
        assert isinstance(failure.value.__cause__, socket.gaierror)
    assert asked == 4  # as a number, and as a name


async def test_refused_connection_is_a_connect_error(pool):
    with pytest.raises(ConnectError):
        await ask(pool, "http://127.0.0.1:1/")


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost"])
async def test_too_many_open_files_is_reported_and_retryable(peer, pool, name):
    server = await peer(OK)
    url = server.url.replace("127.0.0.1", name)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    spare = os.open(os.devnull, os.O_RDONLY)
    os.close(spare)  # the lowest number that is free: none is left then
    resource.setrlimit(resource.RLIMIT_NOFILE, (spare, hard))
    try:
        with pytest.raises(TooManyOpenFiles) as failure:
            await ask(pool, url)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    error = from_transport(failure.value, attempt=Attempt("reg.example"))
    assert (error.kind, error.retryable) == (Kind.CONNECTION, True)
    assert "Too many open files" in str(error)
    assert "ulimit -n" in str(error)
    assert (await ask(pool, url))[1] == b"ok"


async def test_silent_tls_handshake_times_out(listen, pool, monkeypatch):
    monkeypatch.setattr(dialling, "CONNECT_SECONDS", 0.05)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    with pytest.raises(ConnectTimeout):
        await ask(pool, f"https://{await listen(serve)}/")


@pytest.fixture
def secured(ca):
    """A server's TLS context, and one of a client that trusts it."""
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    ca.issue_cert("127.0.0.1").configure_cert(server)
    client = ssl.create_default_context()
    ca.configure_trust(client)
    return server, client


async def test_untrusted_certificate_is_refused(listen, pool, secured):
    server, client = secured
    host = await listen(Peer([OK]).serve, ssl=server)
    with pytest.raises(ConnectError) as failure:
        await ask(pool, f"https://{host}/")
    assert isinstance(failure.value.__cause__, ssl.SSLCertVerificationError)
    assert (await ask(pool, f"https://{host}/", tls=client))[1] == b"ok"


async def test_connections_with_different_tls_contexts_are_not_shared(listen, pool, secured):
    server, client = secured
    host = await listen(Peer([OK, OK]).serve, ssl=server)
    await ask(pool, f"https://{host}/", tls=client)
    with pytest.raises(ConnectError):
        await ask(pool, f"https://{host}/")


# --- few system calls ------------------------------------------------------------------------------------------------


@pytest.fixture
def writes(monkeypatch):
    """Gets what the client writes, one item for each write."""
    written: list[bytes] = []
    real = SocketTransport.write

    def write(self: SocketTransport, data: bytes) -> None:
        written.append(bytes(data))
        real(self, data)

    monkeypatch.setattr(SocketTransport, "write", write)
    return written


@pytest.mark.parametrize("body", [b"", b"x" * 100_000])
async def test_body_in_memory_is_sent_in_the_write_of_the_head(peer, pool, writes, body):
    server = await peer(OK)
    assert (await ask(pool, server.url, "PUT", body=body))[1] == b"ok"
    (message,) = writes
    assert message.partition(b"\r\n\r\n")[2] == body


async def test_head_is_sent_before_a_streamed_body_that_begins_late(listen, pool):
    # A server closes a connection on which no request arrives, sooner than one on which a body is late.
    seen = anyio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        seen.set()
        assert await reader.readexactly(11) == b"firstsecond"
        writer.write(OK)
        await reader.read()
        writer.close()

    async def chunks() -> AsyncGenerator[bytes]:
        with anyio.fail_after(10):
            await seen.wait()
        yield b"first"
        yield b"second"

    url = f"http://{await listen(serve)}/"
    assert (await ask(pool, url, "PUT", body=chunks(), headers={"Content-Length": "11"}))[1] == b"ok"


async def test_response_to_the_head_of_a_late_streamed_body_ends_the_request(listen, pool):
    closed = anyio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 2\r\n\r\nno")
        await writer.drain()
        assert await reader.read() == b""
        writer.close()
        closed.set()

    async def chunks() -> AsyncGenerator[bytes]:
        while not [each for each in pool._connections if each.status]:  # noqa: ASYNC110 - nothing tells
            await anyio.sleep(0.01)
        yield b"not sent"

    url = f"http://{await listen(serve)}/"
    response, body = await ask(pool, url, "PUT", body=chunks(), headers={"Content-Length": "8"})
    assert (response.status, body) == (401, b"no")
    with anyio.fail_after(10):
        await closed.wait()


async def test_streamed_body_without_bytes_is_sent(peer, pool, writes):
    async def chunks() -> AsyncGenerator[bytes]:
        for _ in range(0):
            yield b""

    server = await peer(OK)
    assert (await ask(pool, server.url, "PUT", body=chunks(), headers={"Content-Length": "0"}))[1] == b"ok"
    (head,) = writes
    assert head.endswith(b"\r\n\r\n")


@pytest.fixture
def reads(monkeypatch):
    """Gets the size of each read from a TLS socket of the client, 0 for one that found nothing."""
    sizes: list[int] = []
    real = ssl.SSLSocket.recv_into

    def recv_into(self: ssl.SSLSocket, *arguments: Any) -> int:
        sizes.append(0)
        sizes[-1] = real(self, *arguments)
        return sizes[-1]

    monkeypatch.setattr(ssl.SSLSocket, "recv_into", recv_into)
    return sizes


async def test_short_response_over_tls_is_read_at_once(listen, pool, secured, reads):
    server, client = secured
    host = await listen(Peer([OK] * 20).serve, ssl=server)
    for _ in range(20):
        assert (await ask(pool, f"https://{host}/", tls=client))[1] == b"ok"
    assert reads.count(len(OK)) == 20
    assert len(reads) <= 22  # tickets for the next session come without data


async def test_short_records_that_arrive_together_are_all_read(listen, pool, secured):
    server, client = secured

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 300\r\n\r\n")
        for _ in range(30):
            writer.write(b"x" * 10)  # asyncio encrypts each write as one record
        await writer.drain()

    host = await listen(serve, ssl=server)
    assert (await ask(pool, f"https://{host}/", tls=client))[1] == b"x" * 300


async def test_record_behind_a_short_response_is_not_read_as_the_next_response(listen, pool, secured):
    server, client = secured

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while await reader.readuntil(b"\r\n\r\n"):
                writer.write(OK)
                writer.write(OK.replace(b"ok", b"no"))
        writer.close()

    host = await listen(serve, ssl=server)
    for _ in range(3):
        assert (await ask(pool, f"https://{host}/", tls=client))[1] == b"ok"


# --- through a proxy ---------------------------------------------------------------------------------------------------


@pytest.fixture
def proxied(monkeypatch):
    """`proxied(scheme, url)` names a proxy in the environment."""

    def set_(scheme: str, url: str) -> None:
        monkeypatch.setenv(f"{scheme}_proxy", url)
        monkeypatch.setenv("no_proxy", "")

    return set_


async def test_plain_request_through_a_proxy_has_an_absolute_url(peer, pool, proxied):
    proxy = await peer(OK)
    proxied("http", proxy.url.replace("http://", "http://user:p%40ss@").removesuffix("/v2/"))
    assert (await ask(pool, "http://registry.example:5000/v2/"))[1] == b"ok"
    first, _, rest = proxy.requests[0].partition("\r\n")
    assert first == "GET http://registry.example:5000/v2/ HTTP/1.1"
    assert "Host: registry.example:5000\r\n" in rest
    assert "Proxy-Authorization: Basic dXNlcjpwQHNz\r\n" in rest


class Tunnel:
    """A proxy that connects every client to one server. `asked` are the heads that it got."""

    def __init__(self, host: str) -> None:
        self.host, self.port = host.split(":")
        self.asked: list[str] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.asked.append((await reader.readuntil(b"\r\n\r\n")).decode())
        upstream, downstream = await asyncio.open_connection(self.host, int(self.port))
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")

        async def pipe(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
            try:
                while data := await source.read(65536):
                    sink.write(data)
            except ConnectionError:
                pass
            finally:
                sink.close()

        async with anyio.create_task_group() as group:
            group.start_soon(pipe, reader, downstream)
            group.start_soon(pipe, upstream, writer)


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_tls_goes_through_the_proxy_to_the_registry(  # noqa: PLR0917
    listen, pool, secured, proxied, monkeypatch, scheme
):
    server, client = secured
    registry = Peer([OK, OK])
    tunnel = Tunnel(await listen(registry.serve, ssl=server))
    proxy = await listen(tunnel.serve, **({"ssl": server} if scheme == "https" else {}))
    monkeypatch.setattr(dialling, "usual_context", lambda: client)
    proxied("https", f"{scheme}://user:pass@{proxy}")
    for _ in range(2):
        headers = {"Authorization": "Bearer for-the-registry"}
        response = await ask(pool, f"https://{tunnel.host}:{tunnel.port}/v2/", headers=headers, tls=client)
        assert response[1] == b"ok"
    (asked,) = tunnel.asked
    assert asked.startswith(f"CONNECT 127.0.0.1:{tunnel.port} HTTP/1.1\r\n")
    assert "Proxy-Authorization: Basic dXNlcjpwYXNz\r\n" in asked
    assert "for-the-registry" not in asked
    assert "Proxy-Authorization" not in registry.requests[0]


async def test_proxy_refusing_connect_is_reported(peer, pool, proxied):
    proxy = await peer(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
    proxied("https", proxy.url)
    with pytest.raises(ProxyRefused) as failure:
        await ask(pool, "https://registry.example/")
    assert failure.value.status == 407


async def test_unreachable_proxy_is_reported(pool, proxied):
    proxied("https", "http://user:secret@127.0.0.1:1")
    with pytest.raises(ProxyUnreachable) as failure:
        await ask(pool, "https://registry.example/")
    assert "secret" not in str(failure.value)


async def test_unknown_proxy_scheme_is_refused(pool, proxied):
    proxied("https", "ftp://user:secret@127.0.0.1:1080")
    with pytest.raises(UnsupportedProtocol, match=r"HTTPS_PROXY .* expected the URL of a proxy") as failure:
        await ask(pool, "https://registry.example/")
    assert "secret" not in str(failure.value)


async def test_client_certificate_is_sent_to_the_registry_only(listen, pool, ca, tmp_path):
    own = ca.issue_cert("the-mirror")
    own.private_key_pem.write_to_path(tmp_path / "key.pem")
    own.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    ca.cert_pem.write_to_path(tmp_path / "ca.pem")
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    ca.issue_cert("127.0.0.1").configure_cert(server)
    ca.configure_trust(server)
    server.verify_mode = ssl.CERT_REQUIRED
    url = f"https://{await listen(Peer([OK, OK]).serve, ssl=server)}/"
    settings = HostSettings(
        ca_file=str(tmp_path / "ca.pem"),
        cert_file=str(tmp_path / "cert.pem"),
        key_file=str(tmp_path / "key.pem"),
    )
    address = Address("127.0.0.1", settings)
    assert (await ask(pool, url, tls=address.tls(own=True)))[1] == b"ok"
    with pytest.raises(TransportError):
        await ask(pool, url, tls=address.tls(own=False))
