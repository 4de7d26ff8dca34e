"""Relays one verified download to any number of uploads. The download is as fast as the slowest upload.

Interrupted downloads and uploads are resumed. The last chunk is passed on only if the digest of the blob is correct.
Chunks that an upload reads a second time are not hashed again: the destination registry verifies them.
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
"""Consecutive resumes of a download without progress."""
_WINDOW = 4
"""Chunks that a fast upload may be ahead of a slow upload."""

Moved = Callable[[int], None]


class Download(Content):
    """The verified content of a blob in chunks. An async context manager that closes the connection on exit.

    - `moved`: called with the number of new bytes. Repeated bytes do not count.
    - `resumed`: called with the error each time the download is resumed.
    - `content`: content that is already fetched and verified. The source is not used, and only `whole` is available.
    - `error`: the failure of the source, if any.
    - `received`: bytes received from the source, with repeated bytes.
    - `prefetcher`: if set, it supplies parts of the blob.
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
        """The host of the source registry."""
        return self._source.name.host

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_exc: object) -> None:
        self._reading += 1
        await self._close()

    async def open(self) -> None:
        """Start the request for the content. Raise `RegistryError` if it fails."""
        if self._body is None and self.blob.size and self._content is None:
            # Request only the first part of a large blob: other connections may fetch the parts after it, and
            # canceling a response wastes the bytes that are in transit.
            length = PART if self._position == 0 and self.blob.size >= SPLIT_THRESHOLD else None
            body = await self._stack.enter_async_context(
                self._source.fetch_blob(self.blob, offset=self._position, length=length)
            )
            if self.blob.size < 0 and body.size >= 0:
                # Schema 1 manifests have no sizes: use the size from the registry.
                self.blob = msgspec.structs.replace(self.blob, size=body.size)
            self._end = self._position + length if length else self.blob.size
            self._body = body
            if body.size != self.blob.size and body.size >= 0:
                raise self._mismatch(f"has {body.size} bytes instead of the {self.blob.size} in its manifest")
            if self.blob.size < 0:
                raise RegistryError(
                    Kind.INVALID,
                    "neither the manifest nor the registry states the size of the blob",
                    attempt=self._attempt,
                )

    async def chunks(self, offset: int = 0) -> AsyncIterator[bytes]:
        """Yield all chunks from `offset` in bytes. Raise `RegistryError` or its subclass `DigestMismatch`."""
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
        """Return the whole content. Fetch it a second time after a digest mismatch. Raise `RegistryError` if it fails."""
        if self._content is not None:
            return self._content
        while True:
            try:
                return b"".join([chunk async for chunk in self.chunks()])
            except DigestMismatch as error:
                if not self.worth_repeating():
                    raise self.error or error from None

    def worth_repeating(self) -> bool:
        """Return whether to repeat the download after `error`: once after a digest mismatch. A second mismatch is permanent."""
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
        """Yield the next prefetched part, or else the response body up to the start of the next prefetched part."""
        if self.prefetcher and (part := self.prefetcher.at(self._position)):
            await self._close()
            async for piece in part.pieces():
                self.received += len(piece)
                self._advance(piece)
                yield piece
            # Drop the part even if it was empty.
            self.prefetcher.reached(self._position)
            return
        await self.open()
        body = self._body
        assert body is not None
        self._begun = True
        if self.prefetcher and not body.ranged:
            self.prefetcher.refused()
        skip = self._position - body.start
        async for received in body.chunks:
            if body is not self._body:
                return
            self.received += len(received)
            # The response may start before the requested offset: skip the bytes that are known.
            chunk, skip = received[skip:], max(0, skip - len(received))
            while chunk:
                end = self.prefetcher.next_start() if self.prefetcher else None
                piece = chunk if end is None else chunk[: end - self._position]
                self._advance(piece)
                yield piece
                if self.prefetcher and self.prefetcher.at(self._position):
                    return
                # A part that failed without any bytes no longer starts here: this body continues.
                chunk = chunk[len(piece) :]
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
        """Hash the new bytes of `chunk`. Raise `DigestMismatch` after the last bytes if the digest is wrong."""
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
            raise self._mismatch("has different content than its digest")

    def _mismatch(self, message: str) -> DigestMismatch:
        self._elsewhere = self._body is not None and self._body.reject()
        return DigestMismatch(f"the blob {message}", attempt=self._attempt)


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

    async with anyio.create_task_group() as reading:
        reading.start_soon(split.pump, download)
        async with anyio.create_task_group() as sending:
            for number in range(len(uploads)):
                sending.start_soon(send, number)
        reading.cancel_scope.cancel()
    return outcome


class _Split:
    """Splits one stream of chunks into branches. Each is read at its own pace within a small window."""

    def __init__(self, branches: int) -> None:
        self._queues: dict[int, deque[bytes]] = {number: deque() for number in range(branches)}
        self._changed = anyio.Event()
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
        changed, self._changed = self._changed, anyio.Event()
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
