"""Relays one download to any number of uploads. The download is as fast as the slowest upload."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Sequence

from syncer.engine.download import Download
from syncer.errors import Kind, RegistryError
from syncer.oci.descriptor import Descriptor
from syncer.places.content import Content, Upload

_WINDOW = 4
"""Chunks that a fast upload may be ahead of a slow upload."""


async def relay(download: Download, uploads: Sequence[Upload]) -> list[RegistryError | None]:
    """Send one download to every upload. Return the failure of each upload, or None.

    Raise `RegistryError` if the download fails.
    """
    outcome = await _fan_out(download, uploads)
    while download.worth_repeating():
        outcome = await _fan_out(download, uploads)
    if download.error is not None:
        raise download.error
    for number, error in enumerate(outcome):
        if error is not None and not error.permanent and len(uploads) > 1:
            # The upload fell behind the others: download the rest again for this upload alone.
            outcome[number] = await _put(uploads[number], download.blob, download)
    return outcome


async def relay_whole(download: Download, uploads: Sequence[Upload]) -> list[RegistryError | None]:
    """Like `relay`, for a blob that is small enough to be held in memory."""
    if not uploads:
        return []
    content = await download.whole()
    return [await _put(upload, download.blob, content) for upload in uploads]


async def _put(upload: Upload, blob: Descriptor, content: bytes | Content) -> RegistryError | None:
    try:
        await upload.put(blob, content)
    except RegistryError as error:
        return error
    return None


async def _fan_out(download: Download, uploads: Sequence[Upload]) -> list[RegistryError | None]:
    if len(uploads) == 1:
        # A single upload needs no queue between the two sockets.
        return [await _put(uploads[0], download.blob, download)]
    split = _Split(len(uploads))
    outcome: list[RegistryError | None] = [None] * len(uploads)

    async def send(number: int) -> None:
        outcome[number] = await _put(uploads[number], download.blob, _Branch(split, number))
        split.drop(number)

    async with asyncio.TaskGroup() as reading:
        pump = reading.create_task(split.pump(download))
        async with asyncio.TaskGroup() as sending:
            for number in range(len(uploads)):
                sending.create_task(send(number))
        pump.cancel()
    return outcome


class _Split:
    """Splits one stream of chunks into branches. Each is read at its own pace within a small window."""

    def __init__(self, branches: int) -> None:
        self._queues: dict[int, deque[bytes]] = {number: deque() for number in range(branches)}
        self._changed = asyncio.Event()
        self._ended = False
        self._error: RegistryError | None = None

    async def pump(self, download: Download) -> None:
        """Read the whole download. Runs as a separate task, so that a canceled branch does not stop the others."""
        try:
            async for chunk in download.chunks():
                while any(len(queue) >= _WINDOW for queue in self._queues.values()):
                    await self._changed.wait()
                for queue in self._queues.values():
                    queue.append(chunk)
                self._tell()
        except RegistryError as error:
            self._error = error
        self._ended = True
        self._tell()

    async def branch(self, number: int) -> AsyncIterator[bytes]:
        queue = self._queues[number]
        while queue or not self._ended:
            if not queue:
                await self._changed.wait()
                continue
            chunk = queue.popleft()
            self._tell()
            yield chunk
        if self._error is not None:
            raise self._error

    def drop(self, number: int) -> None:
        """Remove a branch, so that the others do not wait for it."""
        self._queues.pop(number, None)
        self._tell()

    def _tell(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()


class _Branch(Content):
    """One branch of a split. It can be read once, because chunks are not kept."""

    def __init__(self, split: _Split, number: int) -> None:
        self._split = split
        self._number = number
        self._read = False

    async def chunks(self, offset: int = 0) -> AsyncIterator[bytes]:
        if self._read or offset:
            self._split.drop(self._number)
            raise RegistryError(Kind.INTERRUPTED, "the upload fell behind the others")
        self._read = True
        async for chunk in self._split.branch(self._number):
            yield chunk
