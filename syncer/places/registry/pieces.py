"""Splits the content of a blob into the bodies of the requests of one upload."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator

import msgspec

from syncer.errors import RegistryError
from syncer.http.splice import BodySplice, BodyStream
from syncer.places.content import Splice

STALL_SECONDS = 60.0
"""How long a registry may accept no bytes of a request body."""


class Pieces:
    """Splits the rest of a blob's content into pieces of a given length.

    `position` is the offset in the blob in bytes. `failure` is set if reading the content failed.
    """

    def __init__(self) -> None:
        self._chunks: AsyncIterator[bytes | Splice] | None = None
        self._whole = b""
        self._left = b""
        self._splice: BodySplice | None = None
        self.position = 0
        self.failure: RegistryError | None = None

    def hold(self, content: bytes, offset: int) -> None:
        """Use content that is in memory, from `offset` in bytes."""
        self.position = offset
        self._whole = content

    def read(self, chunks: AsyncIterator[bytes | Splice], offset: int) -> None:
        """Use content that starts at `offset` in bytes."""
        self.position = offset
        self._chunks = chunks

    async def aclose(self) -> None:
        """Close the content. An upload may end before all of it was read."""
        if isinstance(self._chunks, AsyncGenerator):
            await self._chunks.aclose()

    def next(self, length: int) -> "Piece":
        if self._chunks is not None and length:
            return Piece(length, None, self)
        start, self.position = self.position, self.position + length
        return Piece(length, self._whole[start : self.position], self)

    async def stream(self, length: int, stall: asyncio.Timeout) -> BodyStream:
        """Yield the next `length` bytes. Let `stall` expire if a chunk is not consumed within `STALL_SECONDS`."""
        clock = asyncio.get_running_loop().time
        while length:
            stall.reschedule(None)
            if not self._left and self._splice is None and not await self._read_next():
                return
            stall.reschedule(clock() + STALL_SECONDS)
            if (splice := self._splice) is not None:
                splice.limit(length)
                yield splice
                stall.reschedule(None)
                length -= splice.moved
                self.position += splice.moved
                # What follows tells whether the splice was complete and correct.
                await self._read_next()
                continue
            chunk, self._left = self._left[:length], self._left[length:]
            length -= len(chunk)
            self.position += len(chunk)
            yield chunk
        stall.reschedule(None)

    async def _read_next(self) -> bool:
        """Read the next chunk or splice. Return False at the end. Raises `RegistryError`, and sets `failure`."""
        assert self._chunks is not None
        self._splice = None
        try:
            following = await anext(self._chunks)
        except RegistryError as error:
            self.failure = error
            raise
        except StopAsyncIteration:
            return False
        if isinstance(following, BodySplice):
            self._splice = following
        else:
            assert isinstance(following, bytes)
            self._left = following
        return True


class Piece(msgspec.Struct, frozen=True):
    """The body of one request. `content` is None if it must be streamed."""

    length: int
    content: bytes | None
    _pieces: Pieces

    def stream(self, stall: asyncio.Timeout) -> BodyStream:
        """Yield the body. Let `stall` expire if a chunk is not consumed within `STALL_SECONDS`."""
        return self._pieces.stream(self.length, stall)
