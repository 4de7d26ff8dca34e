"""The registry's HTTP as a client sees it, byte for byte: bodies, connections, the end."""

import asyncio
import socket
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable

import anyio
import pytest

from syncer.demo import Answer, DropConnection, MemoryRegistry
from syncer.oci.digest import Digest

PING = b"GET /v2/ HTTP/1.1\r\nHost: here\r\n\r\n"
UPLOAD = "/v2/team/app/blobs/uploads/"
LARGE = 48 << 20
MAX_ON_THE_WAY = 16 << 20
"""What the sockets of both sides and a pause that comes late may hold."""


class Client:
    """One connection, and all that the registry says on it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def send(self, line: str, *headers: str, body: bytes = b"") -> None:
        head = "\r\n".join([f"{line} HTTP/1.1", "Host: here", *headers, "", ""])
        self.writer.write(head.encode("latin-1") + body)

    async def head(self) -> tuple[int, dict[str, str]]:
        first, *lines = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        fields = dict(line.lower().split(": ", 1) for line in lines if line)
        return int(first.split()[1]), fields

    async def answer(self) -> tuple[int, bytes]:
        status, headers = await self.head()
        return status, await self.reader.readexactly(int(headers.get("content-length", "0")))


@pytest.fixture
async def connect(memory) -> AsyncIterator[Callable[..., Awaitable[Client]]]:
    """Opens a connection to a registry: to `memory`, if no other is named."""
    writers = []

    async def opened(registry: MemoryRegistry = memory) -> Client:
        host, port = registry.host.split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writers.append(writer)
        return Client(reader, writer)

    yield opened
    for writer in writers:
        writer.transport.abort()
    await asyncio.sleep(0)


@pytest.fixture
async def client(connect: Callable[..., Awaitable[Client]]) -> Client:
    return await connect()


@pytest.fixture(autouse=True)
async def in_time() -> AsyncIterator[None]:
    with anyio.fail_after(20):
        yield


@pytest.fixture(autouse=True)
def silent(caplog):
    """None of this is worth a line in a log."""
    yield
    assert [record.getMessage() for record in caplog.get_records("call")] == []


def always(registry: MemoryRegistry, answer: Answer) -> None:
    @registry.before
    async def give(request):
        return answer


async def until(happened: Callable[[], object]) -> None:
    while not happened():  # noqa: ASYNC110 - a registry tells nobody
        await anyio.sleep(0.001)


# --- requests -----------------------------------------------------------------------------------------------------


async def test_headers_are_found_whatever_their_case(client, memory):
    seen: list[tuple[str | None, bool]] = []

    @memory.before
    async def look(request):
        names = ("X-Some", "x-some", "X-SOME", "X-Other")
        seen.extend((request.headers.get(name), name in request.headers) for name in names)

    client.send("GET /v2/", "x-SOME: one", "X-Some: two", "ACCEPT: any")
    await client.answer()
    assert seen == [("one", True)] * 3 + [(None, False)]
    assert memory.requests[0].headers == {"Accept": "any", "Host": "here"}


async def test_a_path_is_decoded_and_the_record_has_the_query_as_sent(client, memory):
    seen: list[tuple[str, dict[str, str]]] = []

    @memory.before
    async def look(request):
        seen.append((request.path, dict(request.query)))

    client.send("GET /v2/a%20b/%C3%A4%2Fc?digest=sha256%3Aab&n=&digest=other&last=a+b")
    await client.answer()
    assert seen == [("/v2/a b/ä/c", {"digest": "sha256:ab", "n": "", "last": "a b"})]
    assert memory.requests[0].query == "digest=sha256%3Aab&n=&digest=other&last=a+b"


async def test_a_body_may_come_in_chunks(client):
    digest = Digest.of(b"0123456789")
    client.send(f"POST {UPLOAD}?digest={digest}", "Transfer-Encoding: chunked")
    for piece in (b"4\r\n0123\r\n", b"6\r\n456789\r\n", b"0\r\n\r\n"):
        client.writer.write(piece)
        await asyncio.sleep(0.01)
    assert (await client.answer())[0] == 201


async def test_a_body_is_taken_only_as_fast_as_it_is_read(client, memory):
    go_on = anyio.Event()

    @memory.before
    async def wait(request):
        await go_on.wait()

    written = 0
    piece = bytes(256 * 1024)
    digest = Digest.of(bytes(LARGE))
    client.send(f"POST {UPLOAD}?digest={digest}", f"Content-Length: {LARGE}")

    async def upload():
        nonlocal written
        while written < LARGE:
            client.writer.write(piece)
            written += len(piece)
            await client.writer.drain()

    async with anyio.create_task_group() as group:
        group.start_soon(upload)
        before = -1
        while before < written:
            before = written
            await anyio.sleep(0.1)
        assert written < MAX_ON_THE_WAY
        go_on.set()
    assert (await client.answer())[0] == 201
    assert memory.requests[0].received == LARGE


async def test_expect_continue_is_answered_with_100(client):
    digest = Digest.of(b"0123456789")
    client.send(f"POST {UPLOAD}?digest={digest}", "Content-Length: 10", "Expect: 100-continue")
    assert await client.head() == (100, {})
    client.writer.write(b"0123456789")
    assert (await client.answer())[0] == 201


async def test_expect_continue_may_be_refused_without_the_body(client):
    client.send("PUT /v2/UPPER/manifests/1", "Content-Length: 10", "Expect: 100-continue")
    assert (await client.answer())[0] == 400


async def test_an_answer_need_not_wait_for_the_body(client):
    client.send(f"PATCH {UPLOAD}unknown", f"Content-Length: {LARGE}", body=b"begun")
    assert (await client.answer())[0] == 404
    client.writer.write(bytes(LARGE - len(b"begun")) + PING)
    assert await client.answer() == (200, b"{}")


async def test_disconnect_raises_an_error_in_the_body_reader(client, memory):
    client.send(f"POST {UPLOAD}?digest={Digest.of(b'')}", "Content-Length: 10", body=b"half")
    await until(lambda: memory.open_uploads)
    client.writer.close()
    await until(lambda: memory.requests)
    assert memory.requests[0].status == 0


# --- answers ------------------------------------------------------------------------------------------------------


async def test_a_head_has_the_length_of_the_get(client, memory):
    digest = memory.store.put_blob("team/app", bytes(3_000_000))
    client.send(f"HEAD /v2/team/app/blobs/{digest}")
    status, headers = await client.head()
    assert (status, headers["content-length"]) == (200, "3000000")
    client.writer.write(PING)
    assert await client.answer() == (200, b"{}")


@pytest.mark.parametrize("status", [204, 304])
@pytest.mark.parametrize("headers", [{}, {"Content-Length": "7"}])
async def test_some_answers_have_no_body(client, memory, status, headers):
    always(memory, Answer(status, headers, b"ignored"))
    for _ in range(2):
        client.writer.write(PING)
        assert await client.head() == (status, {})


async def test_a_short_answer_ends_with_its_connection(client, memory):
    always(memory, Answer(200, {"Content-Length": "10"}, b"0123"))
    client.writer.write(PING)
    assert (await client.head())[1]["content-length"] == "10"
    assert await client.reader.read() == b"0123"


async def test_an_answer_is_no_longer_than_it_says(client, memory):
    always(memory, Answer(200, {"Content-Length": "4"}, b"0123456789"))
    for _ in range(2):
        client.writer.write(PING)
        assert await client.answer() == (200, b"0123")


async def test_large_answer_is_not_copied_for_a_slow_client(client, memory):
    content = bytes(range(256)) * (LARGE // 256)
    digest = memory.store.put_blob("team/app", content)
    tracemalloc.start()
    try:
        client.send(f"GET /v2/team/app/blobs/{digest}")
        await anyio.sleep(0.3)
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()
    assert await client.answer() == (200, content)


async def test_dropped_connection_sends_no_bytes(client, memory):
    @memory.before
    async def drop(request):
        raise DropConnection

    client.send(f"POST {UPLOAD}", "Content-Length: 10", body=b"half")
    assert await client.reader.read() == b""


# --- connections --------------------------------------------------------------------------------------------------


async def test_requests_may_follow_each_other_without_waiting(client, memory):
    digest = memory.store.put_blob("team/app", b"0123456789")
    client.writer.write(PING * 2)
    client.send(f"GET /v2/team/app/blobs/{digest}")
    assert [await client.answer() for _ in range(3)] == [(200, b"{}")] * 2 + [(200, b"0123456789")]


async def test_hundreds_of_connections_are_served_at_once(connect, memory):
    count, arrived, all_there = 400, 0, anyio.Event()

    @memory.before
    async def wait_for_all(request):
        nonlocal arrived
        arrived += 1
        if arrived == count:
            all_there.set()
        await all_there.wait()

    async def ask():
        client = await connect()
        client.writer.write(PING)
        return await client.answer()

    assert await asyncio.gather(*(ask() for _ in range(count))) == [(200, b"{}")] * count


async def test_small_pieces_are_sent_at_once(connect, monkeypatch):
    accepted = []
    accept = socket.socket.accept

    def remember(listening):
        connection, address = accept(listening)
        accepted.append(connection)
        return connection, address

    monkeypatch.setattr(socket.socket, "accept", remember)
    await connect()
    await until(lambda: accepted)
    assert accepted[0].getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


async def test_close_does_not_wait_for_open_connections(connect):
    asked = 0
    async with MemoryRegistry() as registry:

        @registry.before
        async def hang(request):
            nonlocal asked
            asked += 1
            if "hang" in request.path:
                await anyio.sleep_forever()

        digest = registry.store.put_blob("team/app", bytes(LARGE))
        clients = [await connect(registry) for _ in range(5)]
        clients[0].send("GET /v2/hang")
        clients[1].send(f"GET /v2/team/app/blobs/{digest}")
        clients[2].send(f"POST {UPLOAD}?digest={digest}", "Content-Length: 10", body=b"half")
        clients[3].writer.write(PING)
        assert await clients[3].answer() == (200, b"{}")
        await until(lambda: asked == 4)
        await anyio.sleep(0.05)
    assert await clients[0].reader.read() == b""
    assert not [name for task in asyncio.all_tasks() if "run_asgi" in (name := repr(task))]
