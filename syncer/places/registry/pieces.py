"""Splits the content of a blob into the bodies of the requests of one upload."""

from collections.abc import AsyncIterator

import anyio
import msgspec

from syncer.errors import RegistryError
from syncer.http.connection import BodyStream
from syncer.http.splice import BodySplice
from syncer.places.content import Splice

STALL_SECONDS = 60.0
"""How long a registry may accept no bytes of a request body."""


class Pieces:
    """Splits the rest of a blob's content into pieces of a given length.

    `position` is the offset in the blob in bytes. `failure` is set if reading the content failed.
    """

    def __init__(self) -> None:
        self._chunks: AsyncIterator[bytes | Splice] | None = None
        self._whole = memoryview(b"")
        self._left = b""
        self.position = 0
        self.failure: RegistryError | None = None

    def hold(self, content: bytes, offset: int) -> None:
        """Use content that is in memory, from `offset` in bytes."""
        self.position = offset
        self._whole = memoryview(content)[offset:]

    def read(self, chunks: AsyncIterator[bytes | Splice], offset: int) -> None:
        """Use content that starts at `offset` in bytes."""
        self.position = offset
        self._chunks = chunks

    def next(self, length: int) -> "Piece":
        if self._chunks is None:
            piece, self._whole = self._whole[:length], self._whole[length:]
            self.position += length
            return Piece(length, bytes(piece))
        return Piece(length, self)

    async def stream(self, length: int, scope: anyio.CancelScope) -> BodyStream:
        """Yield the next `length` bytes. Cancel `scope` if a chunk is not consumed within `STALL_SECONDS`."""
        assert self._chunks is not None
        while length:
            scope.deadline = float("inf")
            if not self._left:
                try:
                    following = await anext(self._chunks)
                except RegistryError as error:
                    self.failure = error
                    raise
                except StopAsyncIteration:
                    return
                if isinstance(following, BodySplice):
                    following.limit(length)
                    scope.deadline = anyio.current_time() + STALL_SECONDS
                    yield following
                    length -= following.moved
                    self.position += following.moved
                    continue
                assert isinstance(following, bytes)
                self._left = following
            chunk, self._left = self._left[:length], self._left[length:]
            length -= len(chunk)
            self.position += len(chunk)
            scope.deadline = anyio.current_time() + STALL_SECONDS
            yield chunk
        scope.deadline = float("inf")


class Piece(msgspec.Struct, frozen=True):
    length: int
    _source: bytes | Pieces

    def content(self, scope: anyio.CancelScope) -> bytes | BodyStream:
        if isinstance(self._source, bytes):
            return self._source
        return self._source.stream(self.length, scope) if self.length else b""
