"""A repository of a layout as a destination.

All repositories of a layout share their blobs. As at a registry, an image of one repository does not get a blob because
another repository has it: its source must have the blob too.
"""

import asyncio
from collections.abc import Mapping, Sequence

from syncer.errors import Attempt, DigestMismatch, Kind, ManifestRefused, RegistryError
from syncer.oci import media_types
from syncer.oci.descriptor import Descriptor
from syncer.oci.digest import Digest
from syncer.oci.manifest import Manifest
from syncer.oci.reference import Reference, Repository
from syncer.oci.referrers import lacks
from syncer.places.content import Content, Destination, RecordsReferrers, Upload
from syncer.places.layout.additions import AddedReferrers, IndexAdditions
from syncer.places.layout.contents import Earlier
from syncer.places.layout.index import index_entry
from syncer.places.layout.layout import Layout
from syncer.places.layout.source import LayoutSource
from syncer.places.layout.stored import PIECE, BlobWriter, WritableStore
from syncer.places.layout.threads import in_thread

_FLUSH = 2 * PIECE
"""Bytes that are collected before they are written."""
MAX_DEPTH = 5
"""Indexes within indexes."""


class WritableLayout(Layout):
    """A layout that is written to. `earlier` is what earlier archives hold, and what is left out here."""

    def __init__(self, name: Repository, store: WritableStore, earlier: Earlier) -> None:
        super().__init__(name, store)
        self.written = store
        self.earlier = earlier
        self._writing = asyncio.Lock()
        self._pending = self._no_additions()

    def _no_additions(self) -> IndexAdditions:
        return IndexAdditions(self.written, self.earlier, self.parsed)

    async def add_reference(self, name: str, manifest: Manifest, attempt: Attempt) -> None:
        """Add a reference to the index. References that are added at the same time are written at once."""
        self._pending.references[name] = index_entry(manifest, name)
        await self._write_pending(attempt)

    async def remove_reference(self, name: str, attempt: Attempt) -> None:
        """Remove a reference from the index. The content stays."""
        self._pending.references[name] = None
        await self._write_pending(attempt)

    async def add_referrers(self, added: AddedReferrers, attempt: Attempt) -> None:
        """Add referrers to the list of their subject. Raises `RegistryError`."""
        self._pending.lists.append(added)
        await self._write_pending(attempt)
        if added.refusal:
            raise RegistryError(Kind.INVALID, added.refusal, attempt=attempt)

    async def _write_pending(self, attempt: Attempt) -> None:
        async with self._writing:
            added, self._pending = self._pending, self._no_additions()
            if not added:
                return
            try:
                with self.translated(attempt):
                    raw = await in_thread(self.written.write_index, added.entries)
            except BaseException:
                self._pending.prepend(added)
                raise
            self.replace_index(raw)

    def stored_size(self, digest: Digest) -> int | None:
        """Return the size of a blob here or in an earlier archive. Blocks."""
        size = self.written.size(digest)
        return self.earlier.size(digest) if size is None else size


class LayoutDestination(LayoutSource, Destination, RecordsReferrers):
    """One repository of a layout, for writing."""

    def __init__(self, layout: WritableLayout, name: Repository) -> None:
        super().__init__(layout, name)
        self._written = layout
        self._own: dict[Digest, int] = {}
        self._own_is_read = False
        self._reading_own = asyncio.Lock()

    # --- what is there --------------------------------------------------------------------------------------------

    async def _targets(self) -> Mapping[str, Descriptor | str]:
        """The same, without an error if nothing was written yet."""
        try:
            return await super()._targets()
        except RegistryError as error:
            if error.kind is not Kind.NOT_FOUND:
                raise
        return {}

    async def is_new(self) -> bool:
        return False

    async def resolve(self, target: str) -> Descriptor | None:
        """Return the descriptor of a tag or digest; None if it is missing or damaged, so that it is written again."""
        if ":" in target:
            digest = Digest(target)
            known = (await self._parts()).get(digest, self._written.earlier.size(digest))
            size = await in_thread(self._written.stored_size, digest)
            return Descriptor("", digest, size) if size is not None and size == known else None
        entry = (await self._targets()).get(target)
        if isinstance(entry, Descriptor):
            if await in_thread(self._written.stored_size, entry.digest) in (None, -1):
                return None
            return entry
        held = self._written.earlier.references.get(self._reference(target))
        return Descriptor(held.media_type, Digest(held.digest), -1) if held else None

    async def has_blob(self, digest: Digest, *, size: int = -1) -> bool:
        """Return whether an image of this repository has the blob."""
        known = (await self._parts()).get(digest)
        if known is None:
            return False
        stored = await in_thread(self._written.written.size, digest)
        return stored is not None and all(each in (stored, -1) for each in (known, size))

    async def shared_by(self, digest: Digest) -> Repository | None:
        if digest in await self._parts():
            return None
        size = await in_thread(self._written.stored_size, digest)
        return None if size is None else self._written.name

    async def _parts(self) -> Mapping[Digest, int]:
        """Return the content of this repository's images, with its sizes in bytes."""
        async with self._reading_own:
            if not self._own_is_read:
                targets = await self._targets()
                for entry in targets.values():
                    if isinstance(entry, Descriptor):
                        await self._read_parts(entry, 0)
                self._own_is_read = True
        return self._own

    async def _read_parts(self, entry: Descriptor, depth: int) -> None:
        if entry.digest in self._own or depth > MAX_DEPTH:
            return
        try:
            attempt = self._attempt("manifest", f"manifest {entry.digest}")
            manifest = await self._layout.read_manifest(entry.digest, entry.media_type, attempt)
        except RegistryError:
            return  # damaged: it is not there, and is written again
        for child in manifest.children:
            await self._read_parts(child, depth + 1)
        self._own |= {blob.digest: blob.size for blob in manifest.blobs}
        self._own[manifest.digest] = len(manifest.raw)

    # --- writing --------------------------------------------------------------------------------------------------

    async def mount(self, digest: Digest, *, from_: Repository) -> Upload | None:  # noqa: ARG002
        size = await in_thread(self._written.stored_size, digest)
        if size is None:
            return await self.start_upload()
        self._own[digest] = size
        return None

    async def start_upload(self) -> Upload:
        return LayoutUpload(self)

    async def upload_if_missing(self, digest: Digest) -> Upload | None:
        return await self.mount(digest, from_=self.name)

    async def store(self, digest: Digest, size: int, content: bytes | Content) -> None:
        """Store a blob or manifest, verified. Raises `RegistryError`."""
        attempt = self._attempt("upload", f"blob {digest} to {self.name}")
        layout = self._written
        with layout.translated(attempt):
            writer = await in_thread(layout.written.begin, digest, size, self.name.path)
            try:
                if isinstance(content, bytes):
                    complete = await in_thread(_write_whole, writer, content)
                else:
                    await _write_chunks(writer, content)
                    complete = await in_thread(writer.commit)
            finally:
                writer.close()
        if not complete:
            raise DigestMismatch("the content does not match its digest", attempt=attempt)
        self._own[digest] = size

    async def push_manifest(self, manifest: Manifest, *, tag: str | None = None) -> Digest:
        attempt = self._attempt("manifest", self._manifest(tag or manifest.digest))
        if manifest.media_type in media_types.SCHEMA1:
            raise ManifestRefused(
                Kind.UNSUPPORTED, "image layouts do not support schema 1 manifests", attempt=attempt
            )
        await self._check_parts(manifest, attempt)
        await self._parts()
        if not await self._holds(manifest):
            await self.store(manifest.digest, len(manifest.raw), manifest.raw)
        self._own[manifest.digest] = len(manifest.raw)
        if tag is not None:
            await self._written.add_reference(self._reference(tag), manifest, attempt)
        return manifest.digest

    async def _holds(self, manifest: Manifest) -> bool:
        """Return whether the layout itself has the manifest, undamaged."""
        attempt = self._attempt("manifest", self._manifest(manifest.digest))
        try:
            with await self._layout.open(manifest.digest, attempt) as blob:
                return await in_thread(blob.matches, manifest.digest)
        except RegistryError:
            return False

    async def _check_parts(self, manifest: Manifest, attempt: Attempt) -> None:
        """Raise `RegistryError`, as a registry does, if something that the manifest refers to is missing or damaged."""

        def find_missing() -> Digest | None:
            for part in (*manifest.blobs, *manifest.children):
                size = self._written.stored_size(part.digest)
                if size is None or size != part.size >= 0:
                    return part.digest
            return None

        with self._layout.translated(attempt):
            missing = await in_thread(find_missing)
        if missing is not None:
            raise RegistryError(
                Kind.NOT_FOUND,
                f"the layout does not have {missing}, or has it in another size",
                attempt=attempt,
                codes=("MANIFEST_BLOB_UNKNOWN",),
            )

    async def record_referrers(self, subject: Digest, referrers: Sequence[Descriptor]) -> None:
        try:
            listed = await self.referrers(subject)
        except RegistryError:
            listed = ()  # damaged: it is written again
        if lacks(listed, referrers):
            added = AddedReferrers(self.name.inside, subject, referrers)
            await self._written.add_referrers(added, self._attempt("manifest", self._manifest(added.tag)))

    async def keep(self, manifest: Manifest) -> None:
        name = str(Reference(self.name.inside, None, manifest.digest))
        await self._written.add_reference(
            name, manifest, self._attempt("manifest", self._manifest(manifest.digest))
        )

    async def untags(self) -> bool:
        return True

    async def remove_tag(self, tag: str, digest: Digest) -> None:
        attempt = self._attempt("manifest", self._manifest(tag))
        await self._written.remove_reference(self._reference(tag), attempt)
        named = (await self._targets()).get(tag)
        if isinstance(named, Descriptor) and named.digest == digest:
            message = "another tool wrote the entry of the tag in index.json"
            raise RegistryError(Kind.UNSUPPORTED, message, attempt=attempt, permanent=True)

    def _reference(self, tag: str) -> str:
        return str(Reference(self.name.inside, tag))


class LayoutUpload(Upload):
    """The upload of one blob to a layout."""

    def __init__(self, destination: LayoutDestination) -> None:
        self._destination = destination

    async def put(self, blob: Descriptor, content: bytes | Content) -> None:
        size = len(content) if isinstance(content, bytes) else blob.size
        await self._destination.store(blob.digest, size, content)

    async def cancel(self) -> None:
        return


def _write_whole(writer: BlobWriter, content: bytes) -> bool:
    writer.restart()
    writer.write([content])
    return writer.commit()


async def _write_chunks(writer: BlobWriter, content: Content) -> None:
    await in_thread(writer.restart)
    pieces: list[bytes] = []
    collected = 0
    async for chunk in content.chunks():
        pieces.append(chunk)
        collected += len(chunk)
        if collected >= _FLUSH:
            await in_thread(writer.write, pieces)
            pieces, collected = [], 0
    if pieces:
        await in_thread(writer.write, pieces)
