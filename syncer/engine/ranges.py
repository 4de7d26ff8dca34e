"""Prefetches parts of a large blob over idle connections.

The download reads, verifies and passes on the content. When it reaches the start of a prefetched part, it takes the
part from the `RangePrefetcher`. Prefetching starts after the first bytes of the download, which show whether the
registry supports ranges. The number of parts in memory is limited for the whole process. Connections are borrowed
from the transfer lane only while no task needs them.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from types import TracebackType
from typing import Self

from syncer.errors import RegistryError
from syncer.oci.descriptor import Descriptor
from syncer.places.content import Source

SPLIT_THRESHOLD = 32 * 1024 * 1024
"""Bytes. A second connection does not speed up smaller blobs."""
PART = 8 * 1024 * 1024
"""Bytes of one part. At 100 ms and 100 Mbit/s, the round trip is an eighth of the transfer time."""
MAX_PARTS = 8
"""Parts in memory, for the whole process."""
FAST = 30_000_000
"""Bytes per second. A download whose own connection is as fast gets no other connections."""
SLOW_SECONDS = 0.05
"""Seconds without data that do not count. The first packets of a connection wait for each other."""


def may_be_split(blob: Descriptor) -> bool:
    """Return whether a blob is large enough to be fetched over several connections."""
    return blob.size >= SPLIT_THRESHOLD


class IdleSlots:
    """The idle workers of the transfer lane that a prefetcher may borrow, and the memory for parts.

    `busy()` returns how many of the `width` workers are busy. With a width of 0, nothing can be borrowed.
    """

    def __init__(self, width: int = 0, busy: Callable[[], int] = lambda: 0) -> None:
        self._width = width
        self._busy = busy
        self._borrowed = 0
        self._parts = 0
        self._without_ranges: set[str] = set()

    def borrow(self) -> bool:
        """Borrow a worker if one is idle; `release` returns it."""
        if self._busy() + self._borrowed >= self._width:
            return False
        self._borrowed += 1
        return True

    def release(self) -> None:
        self._borrowed -= 1

    @property
    def wanted_back(self) -> bool:
        """Whether a task waits for a borrowed worker."""
        return self._busy() + self._borrowed > self._width

    def take_room(self) -> bool:
        """Reserve memory for one more part. Return False if there is none."""
        if self._parts >= MAX_PARTS:
            return False
        self._parts += 1
        return True

    def leave_room(self) -> None:
        self._parts -= 1

    def refused(self, host: str) -> None:
        """Record that a registry does not support ranges, so that it gets no more range requests."""
        self._without_ranges.add(host)

    def serves(self, host: str) -> bool:
        return host not in self._without_ranges


class Part:
    """The bytes from `start` to before `end` of a blob. If the part is interrupted, `end` moves to where it stopped."""

    def __init__(self, start: int, end: int) -> None:
        self.start = start
        self.end = end
        self._pieces: deque[bytes] = deque()
        self._ended = False
        self._changed = asyncio.Event()
        self.dropped = False
        """Whether nobody will read the part, so that it need not be fetched."""

    def drop(self) -> None:
        self.dropped = True
        self._pieces.clear()

    def add(self, piece: bytes) -> None:
        self._pieces.append(piece)
        self._tell()

    def finish(self) -> None:
        self._ended = True
        self._tell()

    def _tell(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    async def pieces(self) -> AsyncIterator[bytes]:
        while self._pieces or not self._ended:
            if self._pieces:
                yield self._pieces.popleft()
            else:
                await self._changed.wait()


class RangePrefetcher:
    """The prefetched parts of one blob. An async context manager.

    The download reports its position with `reached`, and with `waited` how fast its own connection is. The parts are in
    order and have no gaps between them.
    """

    def __init__(self, source: Source, blob: Descriptor, idle_slots: IdleSlots) -> None:
        self._source = source
        self._blob = blob
        self._idle_slots = idle_slots
        self._parts: deque[Part] = deque()
        self._position = 0
        self._frontier = 0
        self._received = 0
        self._waited = 0.0
        self._group = asyncio.TaskGroup()
        self._fetchers: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        await self._group.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for fetcher in self._fetchers:
            fetcher.cancel()
        self.forget()
        await self._group.__aexit__(kind, error, traceback)

    def forget(self) -> None:
        """Drop all parts, because the download restarts."""
        while self._parts:
            self._drop_first()
        self._frontier = 0

    def rewound(self, position: int) -> None:
        """Go back to `position`. Drop the first part if it is partly read."""
        if self._parts and self._parts[0].start < self._position:
            self._drop_first()
        self._position = position

    def reached(self, position: int) -> None:
        """Drop the parts before `position`, and start fetchers if workers are idle."""
        self._position = position
        while self._parts and self._parts[0].end <= position:
            self._drop_first()
        self._start_fetchers()

    def _drop_first(self) -> None:
        self._parts.popleft().drop()
        self._idle_slots.leave_room()

    def waited(self, seconds: float, received: int) -> None:
        """Record that the download waited for its own connection, and then had `received` bytes.

        Seconds in which it waited for an upload do not count: other connections would not make it faster.
        """
        self._waited += seconds
        self._received += received

    def claim(self, end: int) -> None:
        """Record that the download reads the bytes before `end` itself: no part may start there."""
        self._frontier = max(self._frontier, end)

    def refused(self) -> None:
        """Record that the registry ignored a range request, so that it gets no more of them."""
        self._idle_slots.refused(self._source.name.host)

    def next_start(self) -> int | None:
        """Return the start of the first part, where the download stops reading the response; None without parts."""
        return self._parts[0].start if self._parts else None

    def at(self, position: int) -> Part | None:
        """Return the part that starts at `position`, or None."""
        return self._parts[0] if self._parts and self._parts[0].start == position else None

    def _start_fetchers(self) -> None:
        while self._idle_slots.borrow():
            part = self._next_part()
            if part is None:
                self._idle_slots.release()
                return
            fetcher = self._group.create_task(self._fetch_parts(part))
            # Not in the task itself: it may be cancelled before it starts.
            fetcher.add_done_callback(lambda _fetcher: self._idle_slots.release())
            self._fetchers.append(fetcher)

    def _next_part(self) -> Part | None:
        if not self._has_more() or not self._idle_slots.take_room():
            return None
        part = Part(self._frontier, min(self._frontier + PART, self._blob.size))
        self._frontier = part.end
        self._parts.append(part)
        return part

    def _has_more(self) -> bool:
        if not self._parts:
            # Skip one part that the download reads itself before a prefetched part could arrive.
            following = PART if self._position < PART else self._position + PART
            self._frontier = max(self._frontier, following)
        more = may_be_split(self._blob) and self._frontier < self._blob.size
        return more and self._idle_slots.serves(self._source.name.host) and not self._fast

    @property
    def _fast(self) -> bool:
        """Whether one connection is fast enough."""
        return self._received >= FAST * (self._waited - SLOW_SECONDS)

    async def _fetch_parts(self, part: Part | None) -> None:
        while part is not None and await self._fetch(part) and not self._idle_slots.wanted_back:
            part = self._next_part()

    async def _fetch(self, part: Part) -> bool:
        """Fetch a part. Return False if it is incomplete; the download then fetches the rest."""
        got = part.start
        try:
            body_of = self._source.fetch_blob(self._blob, offset=part.start, length=part.end - part.start)
            async with body_of as body:
                if body.start != part.start:
                    self.refused()
                    return False
                async for piece in body.chunks:
                    if got + len(piece) > part.end or part.dropped:
                        return False
                    got += len(piece)
                    part.add(piece)
        except RegistryError:
            return False
        finally:
            part.end = min(part.end, got)
            part.finish()
        return True
