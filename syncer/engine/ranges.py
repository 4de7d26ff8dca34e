"""`RangePrefetcher`: fetches parts of a large blob beyond where its download is, over connections that would be idle.

The download stays the one that reads, checks and hands on; it takes a part from here when it gets to where the part
begins. None is asked for before its first bytes have come: they show whether the registry gives parts. How many parts
are held at once is bounded for the whole process; a connection is borrowed from the transfer lane only while nobody
else has use for it.
"""

from collections import deque
from collections.abc import AsyncIterator, Callable
from types import TracebackType
from typing import Self

import anyio
from anyio.abc import TaskGroup

from syncer.errors import RegistryError
from syncer.oci.descriptor import Descriptor
from syncer.places.content import Source

SPLIT_THRESHOLD = 32 * 1024 * 1024
"""Bytes. Smaller blobs are done before a second connection would be of use."""
PART = 8 * 1024 * 1024
"""Bytes of one part: on a path of 100 ms and 100 Mbit/s its round trip is an eighth of its time."""
MAX_PARTS = 8
"""Parts in memory, in the whole process."""


class IdleSlots:
    """Transfers that may be borrowed: places in the transfer lane that are idle, and room for parts in memory.

    `busy()` tells how many of the `width` places have work. Without any, nothing can be borrowed.
    """

    def __init__(self, width: int = 0, busy: Callable[[], int] = lambda: 0) -> None:
        self._width = width
        self._busy = busy
        self._borrowed = 0
        self._parts = 0
        self._without_ranges: set[str] = set()

    def borrow(self) -> bool:
        """Take a place if one is idle; `release` returns it."""
        if self._busy() + self._borrowed >= self._width:
            return False
        self._borrowed += 1
        return True

    def release(self) -> None:
        self._borrowed -= 1

    @property
    def wanted_back(self) -> bool:
        """Whether somebody waits for a place that is lent."""
        return self._busy() + self._borrowed > self._width

    def take_room(self) -> bool:
        """Room for one more part, if there is."""
        if self._parts >= MAX_PARTS:
            return False
        self._parts += 1
        return True

    def leave_room(self) -> None:
        self._parts -= 1

    def refused(self, host: str) -> None:
        """A registry that does not give parts of blobs is not asked for them again."""
        self._without_ranges.add(host)

    def serves(self, host: str) -> bool:
        return host not in self._without_ranges


class Part:
    """Bytes `start` up to `end` of a blob, as they come. A part that broke off ends where it did."""

    def __init__(self, start: int, end: int) -> None:
        self.start = start
        self.end = end
        self._pieces: deque[bytes] = deque()
        self._ended = False
        self._changed = anyio.Event()

    def add(self, piece: bytes) -> None:
        self._pieces.append(piece)
        self._tell()

    def finish(self) -> None:
        self._ended = True
        self._tell()

    def _tell(self) -> None:
        changed, self._changed = self._changed, anyio.Event()
        changed.set()

    async def pieces(self) -> AsyncIterator[bytes]:
        while self._pieces or not self._ended:
            if self._pieces:
                yield self._pieces.popleft()
            else:
                await self._changed.wait()


class RangePrefetcher:
    """Parts of one blob that are fetched before the download gets there. An async context manager.

    `position` of the download is told by `reached`; the parts are in order and without gaps between them.
    """

    def __init__(self, source: Source, blob: Descriptor, idle_slots: IdleSlots) -> None:
        self._source = source
        self._blob = blob
        self._idle_slots = idle_slots
        self._parts: deque[Part] = deque()
        self._position = 0
        self._frontier = 0
        self._group: TaskGroup | None = None

    async def __aenter__(self) -> Self:
        self._group = anyio.create_task_group()
        await self._group.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        assert self._group is not None
        self._group.cancel_scope.cancel()
        self.forget()
        return await self._group.__aexit__(kind, error, traceback)

    def forget(self) -> None:
        """The download begins anew: a part that was read in part is of no use."""
        for _ in self._parts:
            self._idle_slots.leave_room()
        self._parts.clear()
        self._frontier = 0

    def rewound(self, position: int) -> None:
        """The download goes back to `position`: only a part that was read in part is of no use."""
        if self._parts and self._parts[0].start < self._position:
            self._parts.popleft()
            self._idle_slots.leave_room()
        self._position = position

    def reached(self, position: int) -> None:
        """The download is at `position`: parts before it are over, and there may be use for another connection."""
        self._position = position
        while self._parts and self._parts[0].end <= position:
            self._parts.popleft()
            self._idle_slots.leave_room()
        self._start_fetchers()

    def refused(self) -> None:
        """The download asked for a part and got everything: its registry is not asked for parts again."""
        self._idle_slots.refused(self._source.name.host)

    def next_start(self) -> int | None:
        """Where the first part begins: the download need not go further itself."""
        return self._parts[0].start if self._parts else None

    def at(self, position: int) -> Part | None:
        """The part that begins at `position`, if there is one."""
        return self._parts[0] if self._parts and self._parts[0].start == position else None

    def _start_fetchers(self) -> None:
        assert self._group is not None
        while self._has_more() and self._idle_slots.borrow():
            self._group.start_soon(self._fetch_parts)

    def _has_more(self) -> bool:
        if not self._parts:
            # What the download is about to read itself is not worth a round trip: at first that is one part.
            following = PART if self._position < PART else self._position + PART
            self._frontier = max(self._frontier, following)
        large = self._blob.size >= SPLIT_THRESHOLD
        return large and self._frontier < self._blob.size and self._idle_slots.serves(self._source.name.host)

    async def _fetch_parts(self) -> None:
        try:
            while self._has_more() and not self._idle_slots.wanted_back and self._idle_slots.take_room():
                part = Part(self._frontier, min(self._frontier + PART, self._blob.size))
                self._frontier = part.end
                self._parts.append(part)
                if not await self._fetch(part):
                    return
        finally:
            self._idle_slots.release()

    async def _fetch(self, part: Part) -> bool:
        """Fill a part. False if that did not work: the download then gets the rest of it by itself."""
        got = part.start
        try:
            body_of = self._source.fetch_blob(self._blob, offset=part.start, length=part.end - part.start)
            async with body_of as body:
                if body.start != part.start:
                    self.refused()
                    return False
                async for piece in body.chunks:
                    got += len(piece)
                    if got > part.end:
                        return False
                    part.add(piece)
        except RegistryError:
            return False
        finally:
            part.end = min(part.end, got)
            part.finish()
        return True
