"""The long path. Times are only bounded from below: a busy machine makes everything slower."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio

from benchmarks.wan_proxy import Path, Proxy, Rate

PATIENCE = 20.0


async def _echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()


@asynccontextmanager
async def proxied(**path) -> AsyncIterator[tuple[Proxy, int]]:
    """An echo behind a proxy, and the proxy's port."""
    behind = await asyncio.start_server(_echo, "127.0.0.1", 0)
    proxy = Proxy(Path(behind.sockets[0].getsockname()[:2], **path))
    server = await asyncio.get_running_loop().create_server(proxy.connection, "127.0.0.1", 0)
    async with behind, server:
        with anyio.fail_after(PATIENCE):
            yield proxy, server.sockets[0].getsockname()[1]
        await proxy.abort()


async def exchange(port: int, content: bytes) -> float:
    """Send and get it back. Returns the seconds that took."""
    started = time.monotonic()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(content)
    assert await reader.readexactly(len(content)) == content
    writer.close()
    await writer.wait_closed()
    return time.monotonic() - started


async def closed(proxy: Proxy) -> None:
    """Wait until no connection counts as open."""
    while proxy.open:  # noqa: ASYNC110 - the proxy tells nobody
        await asyncio.sleep(0.005)


async def test_without_limits_everything_arrives_as_it_was_sent():
    async with proxied() as (proxy, port):
        await exchange(port, bytes(range(256)) * 4000)
        await closed(proxy)
    assert proxy.stats.bytes_to_registry == proxy.stats.bytes_to_client == 256 * 4000


async def test_a_connection_pays_a_round_trip_to_open_and_one_to_answer():
    async with proxied(rtt_s=0.1) as (_, port):
        assert await exchange(port, b"x") >= 0.19


async def test_each_connection_has_a_rate_of_its_own():
    async with proxied(rate=1_000_000) as (_, port):
        took = await asyncio.gather(*(exchange(port, bytes(200_000)) for _ in range(2)))
    assert all(seconds >= 0.19 for seconds in took)


async def test_all_connections_share_a_capped_line():
    async with proxied(shared_rate=1_000_000) as (_, port):
        took = await asyncio.gather(*(exchange(port, bytes(100_000)) for _ in range(3)))
    assert max(took) >= 0.29


async def test_the_most_connections_open_at_once_are_counted():
    async with proxied() as (proxy, port):
        for _ in range(2):
            await exchange(port, b"x")
            await closed(proxy)
        assert (proxy.stats.connections, proxy.stats.most_open) == (2, 1)
        pairs = [await asyncio.open_connection("127.0.0.1", port) for _ in range(3)]
        for reader, writer in pairs:
            writer.write(b"x")
            await reader.readexactly(1)
        for _, writer in pairs:
            writer.close()
        await closed(proxy)
    assert (proxy.stats.connections, proxy.stats.most_open) == (5, 3)


async def test_a_connection_that_both_ends_have_closed_is_gone():
    async with proxied() as (proxy, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"last words")
        writer.write_eof()
        assert await reader.read() == b"last words"
        writer.close()
        await closed(proxy)
        assert not proxy.open


def test_a_rate_carries_one_piece_after_the_other():
    rate = Rate(1000)
    assert rate.carry(5.0, 500) == 5.5
    assert rate.carry(5.1, 500) == 6.0
    assert rate.carry(9.0, 500) == 9.5
    assert Rate(0).carry(5.0, 10**9) == 5.0
