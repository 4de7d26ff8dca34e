"""One download, checked, into any number of uploads. The slowest upload holds the download back.

A download that breaks off goes on from where it was, and so does an upload. The last chunk is let through only when
the digest of the whole is right; what an upload needs a second time is checked by its registry alone.
"""

from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack
from typing import Self

import anyio
import msgspec

from syncer.engine.ranges import PART, SPLIT_THRESHOLD, RangePrefetcher
from syncer.errors import Attempt, DigestMismatch, Kind, RegistryError
from syncer.oci.descriptor import Descriptor
from syncer.places.content import BlobBody, Content, Source, Upload

RESUMES = 8
"""How often in a row a download is carried on without having got any further."""
_WINDOW = 4
"""Chunks that a fast upload may be ahead of a slow one."""

Moved = Callable[[int], None]


class Download(Content):
    """The checked content of a blob, chunk by chunk. A context manager: leaving it closes the connection.

    `moved` hears of bytes when they come for the first time, `resumed` of each break that it goes on from. `error` is
    what went wrong with the source, if anything did. `received` counts the bytes from the source, repeated ones too.
    Where somebody has set `prefetcher`, parts of the blob come from there. `content` is what was fetched and checked
    before: then the source is not asked, and all that can be had is the `whole`.
    """

    def __init__(
        self,
        source: Source,
        blob: Descriptor,
        moved: Moved,
        resumed: Callable[[RegistryError], None] = lambda _error: None,
        content: bytes | None = None,
    ) -> None:
        self._source = source
        self._moved = moved
        self._resumed = resumed
        self._content = content
        self._stack = AsyncExitStack()
        self._body: BlobBody | None = None
        self._begun = False
        self._reading = 0
        self._position = 0
        self._end = 0
        self._hasher = blob.digest.hasher()
        self._hashed = 0
        self.blob = blob
        self.received = 0
        self.prefetcher: RangePrefetcher | None = None
        self.error: RegistryError | None = None
        self._elsewhere = False
        self._repeated = False

    @property
    def host(self) -> str:
        """Of the registry that it comes from."""
        return self._source.name.host

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_exc: object) -> None:
        self._reading += 1
        await self._close()

    async def open(self) -> None:
        """Ask for the content, so that it is on its way. Raises `RegistryError`."""
        if self._body is None and self.blob.size and self._content is None:
            # Of a large blob only the first part at first: others may fetch what comes then, and an answer that is
            # cut off has bytes on their way for nothing.
            length = PART if self._position == 0 and self.blob.size >= SPLIT_THRESHOLD else None
            body = await self._stack.enter_async_context(
                self._source.fetch_blob(self.blob, offset=self._position, length=length)
            )
            if self.blob.size < 0 and body.size >= 0:
                # Schema 1 does not tell sizes: the registry does.
                self.blob = msgspec.structs.replace(self.blob, size=body.size)
            self._end = self._position + length if length else self.blob.size
            self._body = body
            if body.size != self.blob.size and body.size >= 0:
                raise self._mismatch(
                    f"has {body.size} bytes there instead of the {self.blob.size} that its manifest states"
                )
            if self.blob.size < 0:
                raise RegistryError(
                    Kind.INVALID,
                    "neither the manifest nor the registry tells how large the blob is",
                    attempt=self._attempt,
                )

    async def chunks(self, offset: int = 0) -> AsyncIterator[bytes]:
        """All chunks from an offset on. Raises `RegistryError`, `DigestMismatch` among them."""
        self._reading += 1
        mine, fruitless = self._reading, 0
        self.error = None
        await self._seek(offset)
        try:
            if not self.blob.size:
                self._check_digest()
            while mine == self._reading and (self._position < self.blob.size or self.blob.size < 0):
                before = self._position
                try:
                    async for chunk in self._rest():
                        yield chunk
                        if mine != self._reading:
                            return
                except RegistryError as error:
                    fruitless = fruitless + 1 if self._position == before else 0
                    if mine != self._reading or not error.retryable or fruitless > RESUMES:
                        raise
                    self._resumed(error)
                    await self._close()
        except RegistryError as error:
            if mine == self._reading:
                self.error = error
                await self._close()
            raise

    async def whole(self) -> bytes:
        """All of it at once; wrong content is asked for a second time. Raises `RegistryError`."""
        if self._content is not None:
            return self._content
        while True:
            try:
                return b"".join([chunk async for chunk in self.chunks()])
            except DigestMismatch as error:
                if not self.worth_repeating():
                    raise self.error or error from None

    def worth_repeating(self) -> bool:
        """Whether to ask again after `error`: wrong content once may be the line, twice is the source and final."""
        error = self.error
        if not isinstance(error, DigestMismatch) or error.permanent:
            return False
        if self._elsewhere:
            return True
        if self._repeated:
            self.error = error.with_changes(permanent=True)
            return False
        self._repeated = True
        return True

    async def _seek(self, offset: int) -> None:
        if offset != self._position or self._begun:
            await self._close()
        if self.prefetcher and self._position and offset:
            self.prefetcher.rewound(offset)
        elif self.prefetcher and self._position:
            self.prefetcher.forget()
        self._position = offset
        if offset == 0:
            self._hasher = self.blob.digest.hasher()
            self._hashed = 0

    async def _rest(self) -> AsyncIterator[bytes]:
        """What comes next: the part that was fetched ahead, or else the blob's own body up to where one begins."""
        if self.prefetcher and (part := self.prefetcher.at(self._position)):
            await self._close()
            async for piece in part.pieces():
                self.received += len(piece)
                self._advance(piece)
                yield piece
            # It may have brought nothing at all: then it is over all the same.
            self.prefetcher.reached(self._position)
            return
        await self.open()
        body = self._body
        assert body is not None
        self._begun = True
        if self.prefetcher and not body.ranged:
            self.prefetcher.refused()
        skip = self._position - body.start
        async for piece in body.chunks:
            if body is not self._body:
                return
            chunk = piece
            self.received += len(piece)
            if skip:
                # The registry began earlier than asked for: what is known already is passed over.
                chunk, skip = piece[skip:], max(0, skip - len(piece))
                if not chunk:
                    continue
            if self.prefetcher and (end := self.prefetcher.next_start()) is not None:
                chunk = chunk[: end - self._position]
            self._advance(chunk)
            yield chunk
            if self.prefetcher and self.prefetcher.at(self._position):
                return
        if self._position < self._end:
            raise RegistryError(
                Kind.CONNECTION,
                f"the blob ended after {self._position} of {self.blob.size} bytes",
                attempt=self._attempt,
            )
        await self._close()

    def _advance(self, chunk: bytes) -> None:
        self._position += len(chunk)
        if self._position > self.blob.size:
            raise self._mismatch(f"has more than its {self.blob.size} bytes")
        self._take(chunk)
        if self.prefetcher:
            self.prefetcher.reached(self._position)

    def _take(self, chunk: bytes) -> None:
        """Hash what is new of it; the last bytes are let through only if the whole is right."""
        new = self._position - self._hashed
        if new <= 0:
            return
        self._hasher.update(chunk[-new:])
        self._hashed = self._position
        self._moved(new)
        if self._hashed == self.blob.size:
            self._check_digest()

    async def _close(self) -> None:
        self._body, self._begun = None, False
        await self._stack.aclose()

    @property
    def _attempt(self) -> Attempt:
        return Attempt(self.host, "GET", "blob", f"blob {self.blob.digest} of {self._source.name}")

    def _check_digest(self) -> None:
        if not self.blob.digest.matches(self._hasher):
            raise self._mismatch("has other content than its digest says")

    def _mismatch(self, message: str) -> DigestMismatch:
        self._elsewhere = self._body is not None and self._body.reject()
        return DigestMismatch(f"the blob {message}", attempt=self._attempt)


async def relay(download: Download, uploads: Sequence[Upload]) -> list[RegistryError | None]:
    """Send one download to every upload: for each its failure, or None.

    Raises `RegistryError` where the download itself fails.
    """
    outcome = await _fan_out(download, uploads)
    while download.worth_repeating():
        outcome = await _fan_out(download, uploads)
    if download.error is not None:
        raise download.error
    for number, error in enumerate(outcome):
        if error is not None and not error.permanent and len(uploads) > 1:
            # It fell behind the others: what it lacks is fetched for it alone.
            outcome[number] = await _put(uploads[number], download.blob, download)
    return outcome


async def relay_whole(download: Download, uploads: Sequence[Upload]) -> list[RegistryError | None]:
    """As `relay`, for a blob that is small enough to be held in memory."""
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
        # Nobody to share with: no queue between the two sockets.
        return [await _put(uploads[0], download.blob, download)]
    split = _Split(len(uploads))
    outcome: list[RegistryError | None] = [None] * len(uploads)

    async def send(number: int) -> None:
        outcome[number] = await _put(uploads[number], download.blob, _Branch(split, number))
        split.drop(number)

    async with anyio.create_task_group() as reading:
        reading.start_soon(split.pump, download)
        async with anyio.create_task_group() as sending:
            for number in range(len(uploads)):
                sending.start_soon(send, number)
        reading.cancel_scope.cancel()
    return outcome


class _Split:
    """One stream of chunks as several, each at its own pace within a small window."""

    def __init__(self, branches: int) -> None:
        self._queues: dict[int, deque[bytes]] = {number: deque() for number in range(branches)}
        self._changed = anyio.Event()
        self._ended = False
        self._error: RegistryError | None = None

    async def pump(self, download: Download) -> None:
        """Read the download to its end. In a task of its own: a branch that is cut off must not stop it."""
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
        """Take no more for a branch: the others need not wait for it."""
        self._queues.pop(number, None)
        self._tell()

    def _tell(self) -> None:
        changed, self._changed = self._changed, anyio.Event()
        changed.set()


class _Branch(Content):
    """One upload's share of a split. It can be read once: what is over is over for all."""

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
