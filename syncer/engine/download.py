"""`Download`: the verified content of a blob, for uploads.

An interrupted download is resumed. The last chunk is passed on only if the digest of the blob is correct. Chunks that
an upload reads a second time are not hashed again: the destination registry verifies them.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, aclosing
from math import inf
from typing import Self, cast

import msgspec

from syncer.engine.ranges import PART, SPLIT_THRESHOLD, RangePrefetcher
from syncer.errors import Attempt, DigestMismatch, Kind, RegistryError
from syncer.oci.descriptor import Descriptor
from syncer.places.content import BlobBody, Content, Source, Splice

RESUMES = 8
"""Consecutive resumes of a download without progress."""
HELD_SECONDS = 300.0
"""Seconds that an upload waits for the download to go on. It holds a slot that the downloads before it may wait for."""

Moved = Callable[[int], None]
_WRONG = "has different content than its digest"
_Items = Callable[[BlobBody], AsyncIterator[bytes | Splice]]


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
        self._response: AbstractAsyncContextManager[BlobBody] | None = None
        self._body: BlobBody | None = None
        self._reject: Callable[[], bool] = lambda: False
        self._begun = False
        self._patience = HELD_SECONDS
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
        self._untold = 0  # new bytes that `moved` was not called for
        self._rejected = False  # a thread found that the digest is wrong

    @property
    def host(self) -> str:
        """The host of the source registry."""
        return self._source.name.host

    @property
    def is_open(self) -> bool:
        """Whether a response is open, so that the download has to be closed."""
        return self._response is not None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_exc: object) -> None:
        self._reading += 1
        await self._close()

    async def open(self) -> None:
        """Start the request for the content. Raise `RegistryError` if it fails."""
        if self._body is None and self.blob.size and self._content is None:
            length = self._wanted()
            response = self._source.fetch_blob(self.blob, offset=self._position, length=length)
            body = await response.__aenter__()
            self._response = response
            if self.blob.size < 0 and body.size >= 0:
                # Schema 1 manifests have no sizes: use the size from the registry.
                self.blob = msgspec.structs.replace(self.blob, size=body.size)
            self._end = self._position + length if length else self.blob.size
            self._body, self._reject = body, body.reject
            if body.size != self.blob.size and body.size >= 0:
                raise self._mismatch(f"has {body.size} bytes instead of the {self.blob.size} in its manifest")
            if self.blob.size < 0:
                raise RegistryError(
                    Kind.INVALID,
                    "neither the manifest nor the registry states the size of the blob",
                    attempt=self._attempt,
                )

    def _wanted(self) -> int | None:
        """Return how many bytes to request, or None for all.

        Other connections fetch the rest of a large blob, or may do so after its first part. Canceling a response wastes
        the bytes that are in transit, and the connection.
        """
        end = self.prefetcher.next_start() if self.prefetcher else None
        if end is not None and end > self._position:
            return end - self._position
        return PART if self._position == 0 and self.blob.size >= SPLIT_THRESHOLD else None

    def chunks(self, offset: int = 0) -> AsyncIterator[bytes]:
        """Yield all chunks from `offset` in bytes. Raise `RegistryError` or its subclass `DigestMismatch`."""
        return cast("AsyncIterator[bytes]", self._read(offset, lambda body: body.chunks))

    def chunks_and_splices(self, offset: int = 0) -> AsyncIterator[bytes | Splice]:
        """Like `chunks`, with a splice wherever a thread can move the bytes."""
        return self._read(offset, self._with_splices)

    async def _read(self, offset: int, items: _Items) -> AsyncGenerator[bytes | Splice]:
        self._reading += 1
        reading, no_progress = self._reading, 0
        self.error = None
        try:
            self._settle_splice()
            await self._seek(offset)
            if not self.blob.size:
                self._check_digest()
            while reading == self._reading and (self._position < self.blob.size or self.blob.size < 0):
                before = self._position
                try:
                    async with aclosing(self._rest(items)) as rest:
                        async for item in rest:
                            yield item
                            if reading != self._reading:
                                return
                except RegistryError as error:
                    no_progress = no_progress + 1 if self._position == before else 0
                    if reading != self._reading or not error.retryable or no_progress > RESUMES:
                        raise
                    self._resumed(error)
                    await self._close()
        except RegistryError as error:
            if reading == self._reading:
                self.error = error
                await self._close()
            raise

    async def whole(self) -> bytes:
        """Return the whole content. Fetch it a second time after a digest mismatch. Raise `RegistryError` if it fails."""
        if self._content is not None:
            return self._content
        self._patience = inf  # no upload waits
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
        if offset == 0 and self._hashed:
            self._hasher = self.blob.digest.hasher()
            self._hashed = 0

    async def _rest(self, items: _Items) -> AsyncGenerator[bytes | Splice]:
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
        if self._body is None:
            await self._go_on()
        body = self._body
        assert body is not None
        self._begun = True
        if self.prefetcher and not body.ranged:
            self.prefetcher.refused()
        skip = self._position - body.start
        stream = body.chunks if skip else items(body)
        asked = time.monotonic()
        try:
            async for received in stream:
                if body is not self._body:
                    return
                if not isinstance(received, bytes):
                    yield received
                    if self.prefetcher:
                        self.prefetcher.waited(received.waited, received.moved)
                    self._settle_splice()
                    if self.prefetcher and self.prefetcher.at(self._position):
                        return
                    asked = time.monotonic()
                    continue
                self.received += len(received)
                if self.prefetcher:
                    self.prefetcher.waited(time.monotonic() - asked, len(received))
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
                asked = time.monotonic()
        finally:
            # The body itself stays open: it may go on after a part that failed.
            if stream is not body.chunks and isinstance(stream, AsyncGenerator):
                await stream.aclose()
        if self._position < self._end:
            raise RegistryError(
                Kind.CONNECTION,
                f"the blob ended after {self._position} of {self.blob.size} bytes",
                attempt=self._attempt,
            )
        await self._close()

    async def _go_on(self) -> None:
        """Open the next response. Give up if it takes too long: the limits of two registries may wait for each other."""
        try:
            async with asyncio.timeout(self._patience):
                await self.open()
        except TimeoutError as error:
            raise RegistryError(
                Kind.INTERRUPTED,
                f"the download could not go on within {self._patience:.0f} s, and an upload waited for it",
                attempt=self._attempt,
            ) from error

    async def _with_splices(self, body: BlobBody) -> AsyncIterator[bytes | Splice]:
        """Yield a splice wherever the body has one. Read a chunk if the last splice found no data."""
        moved = True
        while True:
            end = self.prefetcher.next_start() if self.prefetcher else None
            length = min(PART, (self.blob.size if end is None else end) - self._position)
            splice = body.splice(length, self._take) if moved else None
            if splice is not None:
                if self.prefetcher:
                    self.prefetcher.claim(self._position + length)
                yield splice
                moved = splice.moved > 0
                continue
            chunk = await anext(body.chunks, b"")
            if not chunk:
                return
            yield chunk
            moved = True

    def _take(self, piece: memoryview) -> bool:
        """Count and hash a piece of a splice. Called in a thread, while nothing else uses the download."""
        self.received += len(piece)
        self._position += len(piece)
        self._rejected = not self._hash(piece)
        return not self._rejected

    def _settle_splice(self) -> None:
        """Report what a thread has moved. Raise `DigestMismatch` if the digest was wrong."""
        self._tell_moved()
        if self._rejected:
            self._rejected = False
            raise self._mismatch(_WRONG)
        if self.prefetcher:
            self.prefetcher.reached(self._position)

    def _advance(self, chunk: bytes) -> None:
        self._position += len(chunk)
        if self._position > self.blob.size:
            raise self._mismatch(f"has more than its {self.blob.size} bytes")
        matches = self._hash(chunk)
        self._tell_moved()
        if not matches:
            raise self._mismatch(_WRONG)
        if self.prefetcher:
            self.prefetcher.reached(self._position)

    def _hash(self, chunk: bytes | memoryview) -> bool:
        """Hash the new bytes of `chunk`, which ends at the position. Return False after the last if the digest is wrong."""
        new = self._position - self._hashed
        if new <= 0:
            return True
        self._hasher.update(chunk[-new:])
        self._hashed = self._position
        self._untold += new
        return self._hashed != self.blob.size or self.blob.digest.matches(self._hasher)

    def _tell_moved(self) -> None:
        moved, self._untold = self._untold, 0
        if moved:
            self._moved(moved)

    async def _close(self) -> None:
        self._body, self._begun = None, False
        response, self._response = self._response, None
        if response is not None:
            await response.__aexit__(None, None, None)

    @property
    def _attempt(self) -> Attempt:
        return Attempt(self.host, "GET", "blob", f"blob {self.blob.digest} of {self._source.name}")

    def _check_digest(self) -> None:
        if not self.blob.digest.matches(self._hasher):
            raise self._mismatch(_WRONG)

    def _mismatch(self, message: str) -> DigestMismatch:
        self._elsewhere = self._reject()
        return DigestMismatch(f"the blob {message}", attempt=self._attempt)
