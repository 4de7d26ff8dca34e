"""An archive from a pipe. Each blob can be read once, when it comes.

Manifests, configs and blobs of an unknown repository are kept in a temporary file: the index, which says what they are for,
is the last member of an archive.
"""

import asyncio
import os
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import msgspec
from anyio import to_thread

from syncer.errors import DigestMismatch, Kind, RegistryError
from syncer.oci.descriptor import Descriptor
from syncer.oci.digest import Digest
from syncer.oci.manifest import MAX_MANIFEST_SIZE
from syncer.oci.reference import InvalidReference, Repository
from syncer.places.content import BlobBody, StreamedBlob, StreamsBlobs
from syncer.places.layout.archive import MAX_CONTENTS, blob_digest
from syncer.places.layout.archive_writer import CONTENTS_FILE
from syncer.places.layout.index import MAX_INDEX, Index
from syncer.places.layout.layout import Layout
from syncer.places.layout.source import LayoutSource
from syncer.places.layout.stored import PIECE, BlobStore, StoredBlob
from syncer.places.layout.tar_headers import InvalidArchive, Member, TruncatedArchive, read_members

_KEPT_IN_MEMORY = 8 * PIECE
"""Bytes. A blob of at most this size can be read again after a failure."""
_FILES = {"index.json": MAX_INDEX, CONTENTS_FILE: MAX_CONTENTS}


class _Coming:
    """The blob that comes now."""

    def __init__(self, digest: Digest, repository: Repository, size: int) -> None:
        self.digest = digest
        self.repository = repository
        self.size = size
        self.position = 0
        self.hasher = digest.hasher()
        self.content: bytes | None = None


class StreamStore(BlobStore):
    """The layout that comes from the open file `descriptor`. Every method blocks, and raises `OSError`."""

    def __init__(self, descriptor: int, label: str) -> None:
        self.label = label
        self.problem = ""
        self.verified: set[Digest] = set()
        self._descriptor = descriptor
        self._position = 0
        self._spool = tempfile.TemporaryFile()  # noqa: SIM115 - `close` closes it
        self._spooled: dict[Digest, StoredBlobAt] = {}
        self._files: dict[str, bytes] = {}
        self._members = self._read_members()
        self._coming: _Coming | None = None

    def next(self) -> _Coming | None:
        """Read up to the next blob that belongs to a repository. Return None at the end of the archive."""
        if self._coming is not None:
            while self.read_coming(self._coming):
                pass
        self._coming = next(self._members, None)
        return self._coming

    def read_coming(self, coming: _Coming) -> bytes:
        """Return the next bytes of a blob that comes now."""
        if coming.content is not None:
            return b""
        piece = self._read(min(PIECE, coming.size - coming.position))
        coming.position += len(piece)
        coming.hasher.update(piece)
        if piece and coming.position == coming.size and coming.digest.matches(coming.hasher):
            self.verified.add(coming.digest)
        return piece

    def _read_members(self) -> Iterator[_Coming]:
        try:
            for member in read_members(self._read_at):
                self._skip_to(member.start)
                digest = blob_digest(member.name)
                if digest is not None:
                    yield from self._blob(member, digest)
                elif member.name in _FILES and member.size <= _FILES[member.name]:
                    self._files[member.name] = self._read_exactly(member)
        except InvalidArchive as error:
            self.problem = str(error)

    def _blob(self, member: Member, digest: Digest) -> Iterator[_Coming]:
        try:
            repository = Repository.parse(member.repository) if member.repository else None
        except InvalidReference:
            repository = None
        content = self._read_exactly(member) if member.size <= _KEPT_IN_MEMORY else None
        is_json = content is not None and member.size <= MAX_MANIFEST_SIZE and content[:1] == b"{"
        if repository is None or is_json:
            self._keep(member, digest, content)
            return
        coming = _Coming(digest, repository, member.size)
        coming.content = content
        if content is not None and Digest.of(content, digest.algorithm) == digest:
            self.verified.add(digest)
        yield coming

    def _keep(self, member: Member, digest: Digest, content: bytes | None) -> None:
        start = self._spool.seek(0, os.SEEK_END)
        left = member.size
        while left:
            piece = content if content is not None else self._read(min(PIECE, left))
            if not piece:
                raise TruncatedArchive(member.start)
            self._spool.write(piece)
            left -= len(piece)
        self._spool.flush()
        self._spooled[digest] = StoredBlobAt(start, member.size)

    def _read_exactly(self, member: Member) -> bytes:
        pieces, left = [], member.size
        while left and (piece := self._read(min(PIECE, left))):
            pieces.append(piece)
            left -= len(piece)
        if left:
            raise TruncatedArchive(member.start)
        return b"".join(pieces)

    def _read_at(self, offset: int, length: int) -> bytes:
        self._skip_to(offset)
        pieces = b""
        while len(pieces) < length and (piece := self._read(length - len(pieces))):
            pieces += piece
        return pieces

    def _skip_to(self, offset: int) -> None:
        while self._position < offset and self._read(min(PIECE, offset - self._position)):
            pass

    def _read(self, length: int) -> bytes:
        piece = os.read(self._descriptor, length) if length else b""
        self._position += len(piece)
        return piece

    def open(self, digest: Digest) -> StoredBlob:
        found = self._spooled.get(digest)
        if found is None:
            raise FileNotFoundError(f"the archive has no blob {digest}")
        return StoredBlob(os.dup(self._spool.fileno()), found.size, found.start)

    def size(self, digest: Digest) -> int | None:
        found = self._spooled.get(digest)
        return found.size if found else None

    def read_index(self) -> bytes | None:
        return self._files.get("index.json")

    def close(self) -> None:
        self._spool.close()
        os.close(self._descriptor)


class StoredBlobAt(msgspec.Struct, frozen=True):
    """Where a blob is in the temporary file."""

    start: int
    size: int


class StreamLayout(Layout, StreamsBlobs):
    """The layout of a stream. Its index is known when all blobs have come."""

    def __init__(self, name: Repository, store: StreamStore) -> None:
        super().__init__(name, store)
        self.stream = store
        self.coming: _Coming | None = None
        self._ended = asyncio.Event()

    async def next_blob(self) -> StreamedBlob | None:
        with self.translated(self.attempt("", "blob", f"blobs of {self.name}")):
            try:
                # A cancelled run does not wait for this thread: nothing more may come from standard input.
                self.coming = await to_thread.run_sync(self.stream.next)
            except BaseException:
                self._ended.set()
                raise
        if self.coming is None:
            self.report_problem(self.stream.problem)
            self._ended.set()
            return None
        name = Repository(self.name.host, str(self.coming.repository))
        return StreamedBlob(name, Descriptor("", self.coming.digest, self.coming.size))

    async def index(self) -> Index:
        await self._ended.wait()
        return await super().index()


class StreamSource(LayoutSource):
    """One repository of a stream."""

    def __init__(self, layout: StreamLayout, name: Repository) -> None:
        super().__init__(layout, name)
        self._stream = layout

    @asynccontextmanager
    async def fetch_blob(
        self, blob: Descriptor, *, offset: int = 0, length: int | None = None
    ) -> AsyncIterator[BlobBody]:
        coming = self._stream.coming
        if coming is None or coming.digest != blob.digest:
            async with super().fetch_blob(blob, offset=offset, length=length) as body:
                yield body
            return
        if coming.content is None and coming.position != offset:
            raise RegistryError(
                Kind.INTERRUPTED,
                "standard input cannot be read again",
                attempt=self._attempt("blob", f"blob {blob.digest} of {self.name}"),
                permanent=True,
                advice="load the archive again, or from a file",
            )
        yield BlobBody(offset, coming.size, self._pieces(coming, offset), ranged=length is None)

    async def _pieces(self, coming: _Coming, offset: int) -> AsyncIterator[bytes]:
        if coming.content is not None:
            yield coming.content[offset:]
            return
        attempt = self._attempt("blob", f"blob {coming.digest} of {self.name}")
        while True:
            with self._stream.translated(attempt):
                piece = await to_thread.run_sync(self._stream.stream.read_coming, coming)
            if not piece:
                if coming.position < coming.size:
                    raise DigestMismatch("the archive is truncated", attempt=attempt, permanent=True)
                return
            yield piece

    async def has_blob(self, digest: Digest, *, size: int = -1) -> bool:
        return digest in self._stream.stream.verified or await super().has_blob(digest, size=size)
