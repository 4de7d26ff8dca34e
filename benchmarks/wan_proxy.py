"""A TCP proxy on loopback that behaves like a long, thin network path.

It stands between a client and a registry: every connection pays a round trip to open, every byte arrives half a
round trip late, and each connection (as one TCP flow on a lossy long-distance path does) has a rate of its own.

    python -m benchmarks.wan_proxy --to 127.0.0.1:5001 --rtt-ms 100 --mbit 100

Its first line is where it listens, its last, on SIGINT or SIGTERM, is what passed through it, as JSON.
"""

import argparse
import asyncio
import json
import signal
from collections import deque
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Literal, cast

KIB, MIB = 1024, 1024 * 1024
LEAST_WINDOW = 256 * KIB
UNLIMITED_WINDOW = 8 * MIB
EARLY = 0.0005
"""Seconds: what is due so soon is delivered now, instead of by one more timer."""

Address = tuple[str, int]


class Rate:
    """A line that carries so many bytes a second, one after the other; 0 for any number at once."""

    def __init__(self, bytes_per_s: float) -> None:
        self.bytes_per_s = bytes_per_s
        self._free_at = 0.0

    def carry(self, now: float, nbytes: int) -> float:
        """When the last of these bytes is through, if they are there at `now` (seconds)."""
        if self.bytes_per_s:
            self._free_at = max(now, self._free_at) + nbytes / self.bytes_per_s
        return max(now, self._free_at)


@dataclass(frozen=True, slots=True)
class Path:
    """Where connections lead and what they pay: `rtt_s` in seconds, rates in bytes a second, 0 for no limit.

    `shared_rate` is what all connections have together in one direction, `rate` what each has at most.
    """

    to: Address
    rtt_s: float = 0.0
    rate: float = 0.0
    shared_rate: float = 0.0


@dataclass(slots=True)
class Stats:
    """What passed: connections in all, the most open at once, and bytes in each direction."""

    connections: int = 0
    most_open: int = 0
    bytes_to_registry: int = 0
    bytes_to_client: int = 0


@dataclass
class Proxy:
    """What all connections share. Give `connection` to `loop.create_server`."""

    path: Path
    stats: Stats = field(default_factory=Stats)
    open: int = 0

    def __post_init__(self) -> None:
        self.lines = {"client": Rate(self.path.shared_rate), "server": Rate(self.path.shared_rate)}
        self.connecting: set[asyncio.Task[None]] = set()
        self.sides: set[Side] = set()

    def connection(self) -> "Side":
        """A new connection of a client, to be."""
        return Session(self).client

    def opened(self) -> None:
        self.open += 1
        self.stats.connections += 1
        self.stats.most_open = max(self.stats.most_open, self.open)

    def closed(self) -> None:
        self.open -= 1

    async def abort(self) -> None:
        """Drop all connections."""
        for task in self.connecting:
            task.cancel()
        while self.sides:
            for side in self.sides:
                if side.transport:
                    side.transport.abort()
            await asyncio.sleep(0)


class Pipe:
    """One direction of one connection: holds each chunk back until it is due."""

    def __init__(self, source: "Side", sink: "Side", path: Path, shared: Rate) -> None:
        self.source, self.sink = source, sink
        self.delay_s = path.rtt_s / 2
        self.own, self.shared = Rate(path.rate), shared
        self.queue: deque[tuple[float, bytes | None]] = deque()
        self.queued = 0
        self.ended = False
        self.timer: asyncio.TimerHandle | None = None
        rate = min((each for each in (path.rate, path.shared_rate) if each), default=0.0)
        # What is in flight in one round trip, and never less than a few reads.
        self.window = max(LEAST_WINDOW, int(rate * path.rtt_s)) if rate else UNLIMITED_WINDOW

    def push(self, data: bytes | None) -> None:
        """Take what was read; None is the end of it."""
        loop = asyncio.get_running_loop()
        size = len(data) if data else 0
        now = loop.time()
        through = max(self.own.carry(now, size), self.shared.carry(now, size))
        self.queue.append((through + self.delay_s, data))
        self.queued += size
        if self.queued >= self.window:
            self.source.pause()
        self._arm(loop)

    def _arm(self, loop: asyncio.AbstractEventLoop) -> None:
        if self.timer is None and self.queue:
            self.timer = loop.call_at(self.queue[0][0], self.deliver)

    def deliver(self) -> None:
        """Hand on what is due, unless the sink is full: it asks again."""
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
        loop = asyncio.get_running_loop()
        now = loop.time() + EARLY
        while self.queue and self.queue[0][0] <= now and not self.sink.blocked:
            _, data = self.queue.popleft()
            if data is None:
                self.ended = True
                self.sink.end()
            else:
                self.queued -= len(data)
                self.sink.write(data)
        if self.queued < self.window:
            self.source.resume()
        if not self.sink.blocked:
            self._arm(loop)


class Side(asyncio.Protocol):
    """One socket of a proxied connection. `into` is the pipe that brings what it has to write."""

    into: Pipe

    def __init__(self, session: "Session", name: Literal["client", "server"]) -> None:
        self.session, self.name = session, name
        self.transport: asyncio.Transport | None = None
        self.blocked = False
        self.paused = False

    @property
    def alive(self) -> asyncio.Transport | None:
        return self.transport if self.transport and not self.transport.is_closing() else None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.session.proxy.sides.add(self)
        self.session.made(self)

    def data_received(self, data: bytes) -> None:
        self.session.received(self, data)

    def eof_received(self) -> bool:
        self.session.received(self, None)
        return True

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - how it ended does not matter
        self.session.proxy.sides.discard(self)
        self.session.lost(self)

    def pause_writing(self) -> None:
        self.blocked = True

    def resume_writing(self) -> None:
        self.blocked = False
        self.into.deliver()

    def pause(self) -> None:
        if not self.paused and (transport := self.alive):
            self.paused = True
            transport.pause_reading()

    def resume(self) -> None:
        if self.paused and (transport := self.alive):
            self.paused = False
            transport.resume_reading()

    def write(self, data: bytes) -> None:
        if transport := self.alive:
            transport.write(data)

    def end(self) -> None:
        if (transport := self.alive) and transport.can_write_eof():
            transport.write_eof()
        self.session.ended()


class Session:
    """One client's connection and the connection to the registry behind it."""

    def __init__(self, proxy: Proxy) -> None:
        self.proxy, self.path = proxy, proxy.path
        self.client, self.server = Side(self, "client"), Side(self, "server")
        self.upwards = Pipe(self.client, self.server, self.path, proxy.lines["client"])
        self.downwards = Pipe(self.server, self.client, self.path, proxy.lines["server"])
        self.server.into, self.client.into = self.upwards, self.downwards
        self.early: list[bytes | None] = []
        self.connected = False
        self.counted = False

    def made(self, side: Side) -> None:
        if side is self.client:
            self.counted = True
            self.proxy.opened()
            task = asyncio.get_running_loop().create_task(self._connect())
            self.proxy.connecting.add(task)
            task.add_done_callback(self.proxy.connecting.discard)

    async def _connect(self) -> None:
        await asyncio.sleep(self.path.rtt_s)  # the TCP handshake
        try:
            await asyncio.get_running_loop().create_connection(lambda: self.server, *self.path.to)
        except OSError:
            if self.client.transport:
                self.client.transport.abort()
            return
        self.connected = True
        for data in self.early:
            self.upwards.push(data)
        self.early.clear()

    def received(self, side: Side, data: bytes | None) -> None:
        size = len(data) if data else 0
        if side is self.client:
            self.proxy.stats.bytes_to_registry += size
            if data is None:
                self._left()
            if self.connected:
                self.upwards.push(data)
            else:
                self.early.append(data)
            return
        self.proxy.stats.bytes_to_client += size
        self.downwards.push(data)

    def _left(self) -> None:
        """The client has closed its end: it does not count as open any more."""
        if self.counted:
            self.counted = False
            self.proxy.closed()

    def ended(self) -> None:
        """Close what has come to its end in both directions; asyncio would keep it half open."""
        if self.upwards.ended and self.downwards.ended:
            for side in (self.client, self.server):
                if transport := side.alive:
                    transport.close()

    def lost(self, side: Side) -> None:
        if side is self.client:
            self._left()
            if self.server.alive:
                self.server.alive.abort()
        elif transport := self.client.alive:
            if self.downwards.queue:
                last_due = self.downwards.queue[-1][0]
                asyncio.get_running_loop().call_at(last_due + 0.01, transport.close)
            else:
                transport.close()


def address(text: str) -> Address:
    """`127.0.0.1:5001`, or `:5001` for the same."""
    host, _, port = text.rpartition(":")
    return host or "127.0.0.1", int(port)


async def serve(proxy: Proxy, listen: Address) -> None:
    """Run it until SIGINT or SIGTERM."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    server = await loop.create_server(proxy.connection, *listen, backlog=1000)
    host, port = server.sockets[0].getsockname()[:2]
    print(f"{host}:{port}", flush=True)
    await stop.wait()
    server.close()
    await proxy.abort()
    print(json.dumps(asdict(proxy.stats)), flush=True)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--listen", type=address, default=("127.0.0.1", 0), metavar="HOST:PORT")
    parser.add_argument("--to", type=address, required=True, metavar="HOST:PORT", help="the registry")
    parser.add_argument("--rtt-ms", type=float, default=100, help="round trip in milliseconds (100)")
    parser.add_argument("--mbit", type=float, default=0, help="of one connection in one direction, in Mbit/s")
    parser.add_argument(
        "--shared-mbit", type=float, default=0, help="of all connections in one direction, in Mbit/s"
    )
    options = parser.parse_args(arguments)
    path = Path(
        options.to,
        rtt_s=options.rtt_ms / 1000,
        rate=options.mbit * 1e6 / 8,
        shared_rate=options.shared_mbit * 1e6 / 8,
    )
    asyncio.run(serve(Proxy(path), options.listen))


if __name__ == "__main__":
    main()
