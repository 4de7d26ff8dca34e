"""Threads move bodies from socket to socket: all bytes, in order, and only while both sides want it."""

import asyncio
import socket
import ssl
import threading
from collections.abc import Iterator
from hashlib import sha256

import anyio
import pytest
import trustme

from syncer.http import splice
from syncer.http.sockets import start_tls
from syncer.http.splice import Splice, SpliceThreads

CONTENT = bytes(range(256)) * 12_000
"""3 MB: several pieces, and more than the buffers of a socket."""


@pytest.fixture
def threads() -> Iterator[SpliceThreads]:
    started = SpliceThreads()
    yield started
    started.close()


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket, socket.socket, socket.socket]]:
    """A server, the source that it sends to, the destination, and who receives from it."""
    sockets = (*socket.socketpair(), *socket.socketpair())
    sockets[1].setblocking(False)
    sockets[2].setblocking(False)
    yield sockets
    for each in sockets:
        each.close()


def taken(_piece: memoryview) -> bool:
    return True


async def send(to: socket.socket, content: bytes) -> None:
    await anyio.to_thread.run_sync(to.sendall, content, abandon_on_cancel=True)


async def receive(from_: socket.socket, length: int) -> bytes:
    def read() -> bytes:
        got = b""
        while len(got) < length and (piece := from_.recv(65536)):
            got += piece
        return got

    return await anyio.to_thread.run_sync(read, abandon_on_cancel=True)


async def test_all_bytes_are_checked_and_arrive_in_order(threads, pair):
    server, source, destination, client = pair
    hashed = sha256()

    def check(piece: memoryview) -> bool:
        hashed.update(piece)
        return True

    arrived = b""

    async def collect() -> None:
        nonlocal arrived
        arrived = await receive(client, len(CONTENT))

    async with anyio.create_task_group() as group:
        group.start_soon(send, server, CONTENT + b"more")
        group.start_soon(collect)
        left = len(CONTENT)
        while left:
            moving = Splice(source, destination, left, check)
            await threads.move(moving)
            assert moving.read == moving.passed
            left -= moving.read
            await asyncio.get_running_loop().sock_sendall(destination, moving.unsent)
    assert arrived == CONTENT
    assert hashed.digest() == sha256(CONTENT).digest()
    # What follows is not touched.
    assert source.recv(10) == b"more"


async def test_rejected_piece_is_not_sent(threads, pair):
    server, source, destination, client = pair
    server.sendall(b"wrong")
    moving = Splice(source, destination, 5, lambda _piece: False)
    await threads.move(moving)
    assert (moving.read, moving.passed, moving.unsent) == (5, 0, b"")
    client.setblocking(False)
    with pytest.raises(BlockingIOError):
        client.recv(10)


async def test_closed_source_ends_the_splice_after_its_last_bytes(threads, pair):
    server, source, destination, client = pair
    server.sendall(b"part")
    server.close()
    moving = Splice(source, destination, 1000, taken)
    await threads.move(moving)
    assert (moving.read, moving.ended, moving.source_error) == (4, True, None)
    assert client.recv(10) == b"part"


async def test_closed_destination_returns_the_sockets(threads, pair):
    server, source, destination, client = pair
    client.close()
    async with anyio.create_task_group() as group:
        group.start_soon(send, server, CONTENT[:100_000])
        moving = Splice(source, destination, 100_000, taken)
        await threads.move(moving)
    assert moving.destination_error or moving.read < 100_000


async def test_early_response_returns_the_sockets(threads, pair, monkeypatch):
    monkeypatch.setattr(splice, "SPLICE_SECONDS", 60.0)
    _server, source, destination, client = pair
    moving = Splice(source, destination, 1000, taken)
    async with anyio.create_task_group() as group:
        group.start_soon(threads.move, moving)
        await anyio.wait_all_tasks_blocked()
        client.sendall(b"HTTP/1.1 413 Too Large\r\n")
    assert moving.read == 0
    assert destination.recv(8) == b"HTTP/1.1"


async def test_silent_source_returns_the_sockets_in_time(threads, pair, monkeypatch):
    monkeypatch.setattr(splice, "SPLICE_SECONDS", 0.01)
    _server, source, destination, _client = pair
    moving = Splice(source, destination, 1000, taken)
    with anyio.fail_after(30):
        await threads.move(moving)
    assert (moving.read, moving.ended) == (0, False)
    assert moving.waited > 0


async def test_cancelled_splice_returns_the_sockets(threads, pair, monkeypatch):
    monkeypatch.setattr(splice, "SPLICE_SECONDS", 60.0)
    server, source, destination, client = pair
    server.sendall(b"held")
    moving = Splice(source, destination, 1000, taken)
    async with anyio.create_task_group() as group:
        group.start_soon(threads.move, moving)
        await anyio.wait_all_tasks_blocked()
        group.cancel_scope.cancel()
    # The thread has let go of the sockets: what it read is accounted for, and what follows is for others.
    assert moving.unsent == b"held"[: moving.read]
    server.sendall(b"later")
    assert source.recv(100) == b"held"[moving.read :] + b"later"
    assert client


async def test_splice_that_is_cancelled_several_times_waits_for_its_thread(threads, pair):
    server, source, destination, _client = pair
    loop, checking, let_go = asyncio.get_running_loop(), asyncio.Event(), threading.Event()

    def check(_piece: memoryview) -> bool:
        loop.call_soon_threadsafe(checking.set)
        return let_go.wait(20)

    server.sendall(b"held")
    move = asyncio.ensure_future(threads.move(Splice(source, destination, 4, check)))
    await checking.wait()
    for _ in range(3):
        move.cancel()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert not move.done()
    let_go.set()
    await asyncio.wait([move])
    assert move.cancelled()
    await threads.move(Splice(source, destination, 0, taken))  # the thread goes on


async def test_error_in_a_check_is_raised_and_the_thread_goes_on(threads, pair):
    server, source, destination, client = pair

    def check(_piece: memoryview) -> bool:
        raise ValueError("a bug")

    server.sendall(b"ab")
    with pytest.raises(ValueError, match="a bug"):
        await threads.move(Splice(source, destination, 1, check))
    await threads.move(Splice(source, destination, 1, taken))
    assert client.recv(10) == b"b"


async def test_threads_are_bounded_and_shared(pair):
    _server, source, destination, _client = pair
    threads = SpliceThreads(2)
    assert threads.started == 0
    others = [socket.socketpair() for _ in range(5)]
    for left, right in others:
        left.setblocking(False)
        right.sendall(b"x")
    async with anyio.create_task_group() as group:
        for left, _right in others:
            group.start_soon(threads.move, Splice(left, left, 1, taken))
        group.start_soon(threads.move, Splice(source, destination, 1000, taken))
        await anyio.wait_all_tasks_blocked()
        assert threads.started == 2
        group.cancel_scope.cancel()
    threads.close()
    assert not [each for each in threading.enumerate() if each.name == "splice"]
    for each in others:
        each[0].close()
        each[1].close()


async def test_bytes_that_tls_has_decrypted_are_moved(threads, pair):
    server, source, destination, client = pair
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("reg.example").configure_cert(context)
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    sides: list[socket.socket] = []

    def serve(opened: socket.socket) -> None:
        sides.append(context.wrap_socket(opened, server_side=True))

    async with anyio.create_task_group() as group:
        group.start_soon(anyio.to_thread.run_sync, serve, server)
        secured = await start_tls(source, trusting, "reg.example")
    sides[0].sendall(b"a" * 10_000)
    # One record: the second half is decrypted already when the thread begins.
    await anyio.wait_readable(secured)
    while True:
        try:
            assert secured.recv(5_000) == b"a" * 5_000
            break
        except ssl.SSLWantReadError:
            await anyio.wait_readable(secured)
    moving = Splice(secured, destination, 5_000, taken)
    with anyio.fail_after(30):
        await threads.move(moving)
    assert moving.read == 5_000
    assert await receive(client, 5_000) == b"a" * 5_000
    for each in (secured, *sides):
        each.close()
