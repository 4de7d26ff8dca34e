"""Deadlines and bounds of connections, over real sockets."""

import logging
import socket
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager

import anyio
import pytest

from syncer.daemon.connections import ConnectionLimits, Connections
from syncer.daemon.server import listen, server_for

PATIENCE = 30.0
REQUEST = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"


class Endless:
    """An application that sends for as long as the client is there, in pieces of a size."""

    def __init__(self, piece=64 * 1024, pause=0.0):
        self.piece = piece
        self.pause = pause
        self.sent = 0
        self.disconnected = anyio.Event()

    async def __call__(self, scope, receive, send):
        async with anyio.create_task_group() as group:
            group.start_soon(self._send, send)
            while (await receive())["type"] != "http.disconnect":
                pass
            self.disconnected.set()
            group.cancel_scope.cancel()

    async def _send(self, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        while True:
            await send({"type": "http.response.body", "body": bytes(self.piece), "more_body": True})
            self.sent += self.piece
            await anyio.sleep(self.pause)


async def whole(scope, receive, send):
    """An application whose answer is one large piece."""
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"30000000")]})
    await send({"type": "http.response.body", "body": bytes(30_000_000)})


@asynccontextmanager
async def serving(app, **limits) -> AsyncIterator[tuple[str, int]]:
    bound = listen("127.0.0.1", 0)
    server = server_for(app, ConnectionLimits(**limits))
    async with anyio.create_task_group() as group:
        group.start_soon(lambda: server.serve(sockets=[bound]))
        with anyio.fail_after(PATIENCE):
            yield bound.getsockname()[:2]
        server.should_exit = True
    bound.close()


@pytest.fixture
def client():
    """`client(address, text)` connects and sends; it reads nothing by itself."""
    with ExitStack() as stack:

        def connect(address, text=b""):
            made = stack.enter_context(socket.socket())
            made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            made.settimeout(PATIENCE)
            made.connect(address)
            made.sendall(text)
            return made

        yield connect


def read_all(made):
    """How much comes until the other side ends the connection."""
    count = 0
    try:
        while part := made.recv(65536):
            count += len(part)
    except ConnectionError:
        pass
    return count


async def test_a_client_that_reads_nothing_is_dropped(client):
    app = Endless()
    async with serving(app, write_seconds=0.2) as address:
        await anyio.to_thread.run_sync(client, address, REQUEST)
        await app.disconnected.wait()


async def test_a_client_that_reads_nothing_of_a_finished_answer_is_dropped(client, caplog):
    async with serving(whole, write_seconds=0.2) as address:
        made = await anyio.to_thread.run_sync(client, address, REQUEST)
        while "connections dropped" not in caplog.text:  # noqa: ASYNC110 - there is no event for it
            await anyio.sleep(0.01)
        assert await anyio.to_thread.run_sync(read_all, made) < 30_000_000


async def test_a_client_that_reads_slowly_but_steadily_gets_all(client):
    async with serving(whole, write_seconds=1.0, head_seconds=0.3) as address:
        made = await anyio.to_thread.run_sync(client, address, REQUEST)

        def read_steadily():
            count = 0
            while count < 30_000_000:
                part = made.recv(100_000)
                if not part:
                    break
                count += len(part)
            return count

        assert await anyio.to_thread.run_sync(read_steadily) >= 30_000_000


@pytest.mark.parametrize("text", [b"", b"GET", REQUEST[:-2]])
async def test_a_head_has_a_deadline(client, text):
    async with serving(whole, head_seconds=0.2) as address:
        made = await anyio.to_thread.run_sync(client, address, text)
        assert await anyio.to_thread.run_sync(read_all, made) == 0


async def test_unread_body_has_deadline(client):
    app = Endless(piece=1, pause=0.05)
    async with serving(app, body_seconds=0.2) as address:
        text = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\nhalf"
        await anyio.to_thread.run_sync(client, address, text)
        await app.disconnected.wait()


async def test_a_request_that_is_being_answered_has_no_deadline(client):
    app = Endless(piece=1, pause=0.05)
    limits = {"head_seconds": 0.2, "body_seconds": 0.2, "write_seconds": 0.2}
    async with serving(app, **limits) as address:
        made = await anyio.to_thread.run_sync(client, address, REQUEST)

        def read_some():
            count = 0
            while count < 200:
                count += len(made.recv(1000))
            return count

        assert await anyio.to_thread.run_sync(read_some) >= 200
        assert not app.disconnected.is_set()


async def test_oldest_idle_connection_makes_room(client):
    app = Endless(piece=1, pause=0.01)
    async with serving(app, per_peer=3) as address:

        def fill():
            working = client(address, REQUEST)
            working.recv(1)
            idle = [client(address) for _ in range(3)]
            assert read_all(idle[0]) == 0
            assert working.recv(1)

        await anyio.to_thread.run_sync(fill)


class Fake:
    """A connection for the count of those that were dropped."""

    peer = "192.0.2.1"
    usefulness = 0

    def __init__(self):
        self.transport = self
        self.aborted = False

    def abort(self):
        self.aborted = True

    def overdue(self, now, limits):
        return False


def test_dropped_connections_are_logged_once_a_minute(caplog):
    now = 100.0
    connections = Connections(ConnectionLimits(per_peer=2), now=lambda: now)
    with caplog.at_level(logging.WARNING):
        for _ in range(10):
            for _ in range(5):
                connections.add(Fake())  # type: ignore[arg-type]
            connections.sweep()
            now += 10
    told = [record.getMessage().rpartition(" ")[2] for record in caplog.records]
    assert told == ["3", "30"]


def test_peer_with_most_connections_makes_room():
    connections = Connections(ConnectionLimits(connections=5, per_peer=4))
    greedy, modest = [Fake() for _ in range(4)], [Fake(), Fake()]
    for made in modest:
        made.peer = "192.0.2.2"
    for made in [*greedy, *modest]:
        connections.add(made)  # type: ignore[arg-type]
    assert [made.aborted for made in greedy] == [True, False, False, False]
    assert not any(made.aborted for made in modest)
