"""A repository of a layout as a source."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager

from syncer.errors import Attempt, Kind, RegistryError
from syncer.oci import media_types
from syncer.oci.descriptor import Descriptor
from syncer.oci.digest import Digest, InvalidDigest
from syncer.oci.manifest import Manifest
from syncer.oci.reference import Repository
from syncer.oci.referrers import MAX_REFERRERS, fallback_tag
from syncer.places.content import BlobBody, ListsReferrers, RepositoryListing, Source
from syncer.places.layout.layout import Layout
from syncer.places.layout.stored import PIECE, StoredBlob
from syncer.places.layout.threads import in_thread


class LayoutSource(Source, ListsReferrers):
    """One repository of a layout. If it stands for the whole layout, it only lists what the layout has."""

    def __init__(self, layout: Layout, name: Repository) -> None:
        self.name = name
        self.mount_group = layout
        self._layout = layout

    async def listing(self, prefix: str) -> RepositoryListing:  # noqa: ARG002
        return _Listing(self._layout)

    async def tags(self) -> AsyncIterator[list[str]]:
        if self.name.is_whole_layout:
            await self._layout.check(self._attempt("tags", f"index of {self.name}"))
            yield []
            return
        yield [target for target in await self._targets() if ":" not in target]

    async def _targets(self) -> Mapping[str, Descriptor | str]:
        """Return the entries of the repository in the index, by tag or digest. Raises `RegistryError`."""
        return (await self._layout.index_with_referrers()).entries.get(self.name.inside, {})

    async def resolve(self, target: str) -> Descriptor | None:
        attempt = self._attempt("manifest", self._manifest(target))
        found = await self._find(target, attempt)
        if found is None:
            return None
        with await self._layout.open(found.digest, attempt) as blob:
            return Descriptor(found.media_type, found.digest, blob.size)

    async def _find(self, target: str, attempt: Attempt) -> Descriptor | None:
        """Return what the index says about a tag or digest; for another digest, only the digest."""
        entry = (await self._targets()).get(target)
        if isinstance(entry, str):
            raise RegistryError(Kind.INVALID, f"invalid entry in index.json: {entry}", attempt=attempt)
        if entry is None and ":" in target:
            try:
                return Descriptor("", Digest.parse(target), -1)
            except InvalidDigest as error:
                raise RegistryError(Kind.INVALID, str(error), attempt=attempt) from error
        return entry

    async def fetch_manifest(self, target: str, *, tag: str | None = None) -> Manifest:
        attempt = self._attempt("manifest", self._manifest(target))
        found = await self._find(target, attempt)
        if found is None:
            raise RegistryError(Kind.NOT_FOUND, "the layout has no such image", attempt=attempt)
        media_type = found.media_type
        if (
            not media_type
            and tag
            and (named := await self._find(tag, attempt))
            and named.digest == found.digest
        ):
            media_type = named.media_type
        return await self._layout.read_manifest(found.digest, media_type, attempt)

    lists_by_tag_only = True

    async def referrers(self, subject: Digest, *, tagged: bool | None = None) -> Sequence[Descriptor]:  # noqa: ARG002
        tag = fallback_tag(subject)
        attempt = self._attempt("manifest", self._manifest(tag))
        if await self._find(tag, attempt) is None:
            return []
        listed = await self.fetch_manifest(tag)
        if listed.media_type != media_types.OCI_INDEX:
            raise RegistryError(
                Kind.INVALID, f"it is a {listed.media_type}, not a list of referrers", attempt=attempt
            )
        if len(listed.children) > MAX_REFERRERS:
            raise RegistryError(Kind.TOO_LARGE, f"more than {MAX_REFERRERS} referrers", attempt=attempt)
        return list({child.digest: child for child in listed.children}.values())

    @asynccontextmanager
    async def fetch_blob(
        self, blob: Descriptor, *, offset: int = 0, length: int | None = None
    ) -> AsyncIterator[BlobBody]:
        attempt = self._attempt("blob", f"blob {blob.digest} of {self.name}")
        with await self._layout.open(blob.digest, attempt) as stored:
            # Several parts of a file at once are not faster than one after the other.
            yield BlobBody(offset, stored.size, self._chunks(stored, offset, attempt), ranged=length is None)

    async def _chunks(self, stored: StoredBlob, offset: int, attempt: Attempt) -> AsyncIterator[bytes]:
        while True:
            with self._layout.translated(attempt):
                piece = await in_thread(stored.read, offset, PIECE)
            if not piece:
                return
            offset += len(piece)
            yield piece

    async def has_blob(self, digest: Digest, *, size: int = -1) -> bool:
        """Return whether the layout has the blob. The content is verified: the name of a file proves nothing."""
        return await self._layout.verify(digest, size, self._attempt("blob", f"blob {digest} of {self.name}"))

    def _manifest(self, target: str) -> str:
        return f"manifest {self.name}{'@' if ':' in target else ':'}{target}"

    def _attempt(self, endpoint: str, subject: str) -> Attempt:
        return self._layout.attempt("", endpoint, subject)


class _Listing(RepositoryListing):
    """The repositories that the index of a layout names."""

    method = "the index of the layout"

    def __init__(self, layout: Layout) -> None:
        self._layout = layout

    async def pages(self) -> AsyncIterator[list[str]]:
        index = await self._layout.index()
        yield [str(name) for name in index.entries]
        # What can be read is copied. Then the rest is an error.
        await self._layout.check(self._layout.attempt("", "tags", f"index of {self._layout.name}"))
