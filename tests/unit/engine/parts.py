"""A source and uploads that do what a test says, for downloads and relays."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, cast

import anyio

from syncer.errors import Kind, RegistryError
from syncer.oci.descriptor import Descriptor
from syncer.oci.digest import Digest
from syncer.oci.reference import Repository
from syncer.places.content import BlobBody, Content, Source, Upload

CHUNK = 100
NAME = Repository("source.test", "app")
CONTENT = bytes(range(250)) * 4


def descriptor(content: bytes = CONTENT, **other: Any) -> Descriptor:
    return Descriptor(**{"media_type": "", "digest": Digest.of(content), "size": len(content), **other})


def broken(message: str = "broken") -> RegistryError:
    return RegistryError(Kind.CONNECTION, message)


@dataclass
class Part:
    """How one request for the blob is answered: bytes from `start` on (None: as asked), failing after `end`.

    It gets no answer if it `waits`.
    """

    end: int | None = None
    start: int | None = None
    content: bytes = CONTENT
    size: int | None = None
    refused: RegistryError | None = None
    waits: bool = False


@dataclass
class Script:
    """A source that answers with one part after the other, and with the whole when they are used up."""

    parts: list[Part] = field(default_factory=list)
    name: Repository = NAME
    asked: list[int] = field(default_factory=list)
    open: int = 0
    given: int = 0

    @property
    def source(self) -> Source:
        return cast("Source", self)

    def fetch_blob(
        self, blob: Descriptor, *, offset: int = 0, length: int | None = None
    ) -> AbstractAsyncContextManager[BlobBody]:
        self.asked.append(offset)
        return self._body(self.parts.pop(0) if self.parts else Part(), offset)

    @asynccontextmanager
    async def _body(self, part: Part, offset: int) -> AsyncIterator[BlobBody]:
        if part.refused is not None:
            raise part.refused
        if part.waits:
            await anyio.sleep_forever()
        start = offset if part.start is None else part.start
        size = len(part.content) if part.size is None else part.size
        self.open += 1
        try:
            yield BlobBody(start, size, self._chunks(part, start))
        finally:
            self.open -= 1

    async def _chunks(self, part: Part, start: int) -> AsyncIterator[bytes]:
        end = len(part.content) if part.end is None else part.end
        for position in range(start, end, CHUNK):
            await anyio.lowlevel.checkpoint()
            self.given += 1
            yield part.content[position : min(position + CHUNK, end)]
        if part.end is not None:
            raise broken()


class FakeUpload(Upload):
    """An upload that keeps what it is given. `fails_at` bytes it fails; `gate` holds it before each chunk."""

    def __init__(
        self,
        *,
        fails_at: int | None = None,
        error: RegistryError | None = None,
        gate: anyio.Event | None = None,
    ) -> None:
        self.taken = b""
        self.fails_at = fails_at
        self.error = error or RegistryError(Kind.FORBIDDEN, "no")
        self.gate = gate
        self.cancelled = False

    async def put(self, blob: Descriptor, content: bytes | Content) -> None:
        self.taken = b""
        if self.fails_at == 0:
            raise self.error
        async for chunk in _chunks(content):
            if self.gate is not None:
                await self.gate.wait()
            self.taken += chunk
            if self.fails_at is not None and len(self.taken) >= self.fails_at:
                raise self.error
        if len(self.taken) != blob.size:
            raise broken("the body ended early")

    async def cancel(self) -> None:
        self.cancelled = True


async def _chunks(content: bytes | Content) -> AsyncIterator[bytes]:
    if isinstance(content, bytes):
        yield content
        return
    async for chunk in content.chunks():
        yield chunk
