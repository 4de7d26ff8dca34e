"""One download, checked, into any number of uploads. The slowest upload holds the download back.

A download that breaks off goes on from where it was. The last chunk is let through only when the digest of the
whole is right: no upload of wrong bytes can ever complete.
"""

from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack
from typing import Self

import anyio
import msgspec

from syncer.http.errors import DigestMismatch, Kind, RegistryError
from syncer.http.retry import is_passing
from syncer.oci.descriptor import Descriptor
from syncer.registry.repository import BlobBody, Source, Upload

RESUMES = 8
"""How often in a row a download is carried on without having got any further."""
_WINDOW = 4
"""Chunks that a fast upload may be ahead of a slow one."""

Moved = Callable[[int], None]


class Download:
    """The checked content of a blob, chunk by chunk. A context manager: leaving it closes the connection.

    `moved` hears of bytes as they come. `error` keeps what went wrong, since a client that sends these chunks
    may wrap it in an error of its own. `received` counts the bytes so far.
    """

    def __init__(self, source: Source, blob: Descriptor, moved: Moved) -> None:
        self._source = source
        self._moved = moved
        self._hasher = blob.digest.hasher()
        self._stack = AsyncExitStack()
        self._body: BlobBody | None = None
        self.blob = blob
        self.received = 0
        self.error: RegistryError | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self._close()

    async def open(self) -> None:
        """Ask for the content, so that it is on its way. Raises `RegistryError`."""
        if self._body is None and self.blob.size:
            body = await self._stack.enter_async_context(
                self._source.fetch_blob(self.blob, offset=self.received)
            )
            if self.blob.size < 0 and body.size >= 0:
                # Schema 1 does not tell sizes: the registry does.
                self.blob = msgspec.structs.replace(self.blob, size=body.size)
            if body.size != self.blob.size and body.size >= 0:
                raise self._mismatch(f"has {body.size} bytes there instead of {self.blob.size}")
            if self.blob.size < 0:
                raise self._mismatch("comes without a size")
            self._body = body

    async def chunks(self) -> AsyncIterator[bytes]:
        """All chunks, once. Raises `RegistryError`, `DigestMismatch` among them."""
        fruitless = 0
        try:
            if not self.blob.size:
                self._check_digest()
            while self.received < self.blob.size or self.blob.size < 0:
                before = self.received
                try:
                    async for chunk in self._rest():
                        yield chunk
                except RegistryError as error:
                    fruitless = fruitless + 1 if self.received == before else 0
                    if not is_passing(error) or fruitless > RESUMES:
                        raise
                    await self._close()
        except RegistryError as error:
            self.error = error
            raise

    async def _rest(self) -> AsyncIterator[bytes]:
        await self.open()
        assert self._body is not None
        skip = self.received - self._body.start
        async for piece in self._body.chunks:
            chunk = piece
            if skip:
                # The registry began earlier than asked for: what is known already is passed over.
                chunk, skip = piece[skip:], max(0, skip - len(piece))
                if not chunk:
                    continue
            self._hasher.update(chunk)
            self.received += len(chunk)
            self._moved(len(chunk))
            if self.received > self.blob.size:
                raise self._mismatch(f"has more than its {self.blob.size} bytes")
            if self.received == self.blob.size:
                self._check_digest()
            yield chunk
        if self.received < self.blob.size:
            raise RegistryError(
                Kind.CONNECTION,
                f"the blob ended after {self.received} of {self.blob.size} bytes",
                registry=self._source.name.host,
                attempt=f"GET {self._what}",
            )

    async def _close(self) -> None:
        self._body = None
        await self._stack.aclose()

    @property
    def _what(self) -> str:
        return f"blob {self.blob.digest} of {self._source.name}"

    def _check_digest(self) -> None:
        if not self.blob.digest.matches(self._hasher):
            raise self._mismatch("has other content than its digest says")

    def _mismatch(self, message: str) -> DigestMismatch:
        return DigestMismatch(
            f"the blob {message}", registry=self._source.name.host, attempt=f"GET {self._what}"
        )


async def relay(download: Download, uploads: Sequence[Upload]) -> list[RegistryError | None]:
    """Send one download to every upload: for each its failure, or None.

    Raises `RegistryError` where the download itself fails.
    """
    split = _Split(download.chunks(), len(uploads))
    outcome: list[RegistryError | None] = [None] * len(uploads)

    async def send(number: int) -> None:
        try:
            await uploads[number].put(download.blob, split.branch(number))
        except RegistryError as error:
            outcome[number] = error
        finally:
            split.drop(number)

    async with anyio.create_task_group() as group:
        for number in range(len(uploads)):
            group.start_soon(send, number)
    if download.error is not None:
        raise download.error
    return outcome


async def relay_whole(download: Download, uploads: Sequence[Upload]) -> list[RegistryError | None]:
    """As `relay`, for a blob that is small enough to be held in memory: its uploads can be tried again."""
    content = b"".join([chunk async for chunk in download.chunks()])
    outcome: list[RegistryError | None] = []
    for upload in uploads:
        try:
            await upload.put(download.blob, content)
            outcome.append(None)
        except RegistryError as error:
            outcome.append(error)
    return outcome


class _Split:
    """One stream of chunks as several, each at its own pace within a small window."""

    def __init__(self, chunks: AsyncIterator[bytes], branches: int) -> None:
        self._chunks = chunks
        self._queues: dict[int, deque[bytes]] = {number: deque() for number in range(branches)}
        self._reading = anyio.Lock()
        self._room = anyio.Event()
        self._ended = False

    async def branch(self, number: int) -> AsyncIterator[bytes]:
        if len(self._queues) == 1:
            # Nobody to share with: no queue between the two sockets.
            async for chunk in self._chunks:
                yield chunk
            return
        queue = self._queues[number]
        while True:
            if not queue and not self._ended:
                async with self._reading:
                    # Another branch may have read while this one waited for its turn.
                    if not queue and not self._ended:
                        await self._read()
            if not queue:
                return
            chunk = queue.popleft()
            self._room.set()
            yield chunk

    async def _read(self) -> None:
        while any(len(queue) >= _WINDOW for queue in self._queues.values()):
            self._room = anyio.Event()
            await self._room.wait()
        try:
            chunk = await anext(self._chunks, None)
        except BaseException:
            self._ended = True
            raise
        if chunk is None:
            self._ended = True
            return
        for queue in self._queues.values():
            queue.append(chunk)

    def drop(self, number: int) -> None:
        """Take no more for a branch: the others need not wait for it."""
        self._queues.pop(number, None)
        self._room.set()
