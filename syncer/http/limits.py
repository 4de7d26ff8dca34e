"""How much of one registry may be used at once: connections, and a clock that `Retry-After` stops for all."""

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import anyio


class HostLimits:
    """Shared by everyone who speaks to one registry.

    `connections` is the most requests under way at once. `hold(seconds)` keeps new requests back that long.
    """

    def __init__(self, connections: int, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._slots = anyio.CapacityLimiter(connections)
        self._clock = clock
        self._open_at = 0.0

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[None]:
        """One request's place."""
        # A place belongs to its request: a streamed answer may be taken over by another task.
        holder = object()
        await self._slots.acquire_on_behalf_of(holder)
        try:
            wait = self._open_at - self._clock()
            while wait > 0:
                await anyio.sleep(wait)
                wait = self._open_at - self._clock()
            yield
        finally:
            self._slots.release_on_behalf_of(holder)

    def hold(self, seconds: float) -> None:
        self._open_at = max(self._open_at, self._clock() + seconds)
