"""A destination for dry runs: it reads from the real repository and does not write."""

# ruff: noqa: ARG002 - methods that do nothing do not use their arguments

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager

from syncer.errors import Attempt, Kind, RegistryError
from syncer.oci.descriptor import Descriptor
from syncer.oci.digest import Digest
from syncer.oci.manifest import Manifest
from syncer.oci.reference import Repository
from syncer.places.content import BlobBody, Content, Destination, RecordsReferrers, RemovesTags, Upload


class DryRunDestination(Destination, RecordsReferrers):
    """Reads from `real`, and reports success for writes without doing them."""

    def __init__(self, real: Destination) -> None:
        self.name = real.name
        self.mount_group = real.mount_group
        self._real = real

    def tags(self) -> AsyncIterator[list[str]]:
        return self._real.tags()

    def listing_doubt(self) -> str:
        return self._real.listing_doubt()

    async def resolve(self, target: str) -> Descriptor | None:
        return await self._real.resolve(target)

    async def resolve_certainly(self, target: str) -> Descriptor | None:
        return await self._real.resolve_certainly(target)

    async def fetch_manifest(self, target: str, *, tag: str | None = None) -> Manifest:
        return await self._real.fetch_manifest(target, tag=tag)

    def fetch_blob(
        self, blob: Descriptor, *, offset: int = 0, length: int | None = None
    ) -> AbstractAsyncContextManager[BlobBody]:
        return self._real.fetch_blob(blob, offset=offset, length=length)

    async def is_new(self) -> bool:
        return await self._real.is_new()

    async def has_blob(self, digest: Digest, *, size: int = -1) -> bool:
        return await self._real.has_blob(digest, size=size)

    async def shared_by(self, digest: Digest) -> Repository | None:
        return await self._real.shared_by(digest)

    async def mount(self, digest: Digest, *, from_: Repository) -> Upload | None:
        return None

    async def start_upload(self) -> Upload:
        return _NoUpload()

    async def upload_if_missing(self, digest: Digest) -> Upload | None:
        return _NoUpload()

    async def untags(self) -> bool:
        return await self._removing().untags()

    async def remove_tag(self, tag: str, digest: Digest) -> None:
        self._removing()

    def _removing(self) -> RemovesTags:
        if isinstance(self._real, RemovesTags):
            return self._real
        message = "tags cannot be removed there"
        raise RegistryError(Kind.UNSUPPORTED, message, attempt=Attempt(self.name.host), permanent=True)

    async def push_manifest(self, manifest: Manifest, *, tag: str | None = None) -> Digest:
        return manifest.digest

    async def keep(self, manifest: Manifest) -> None:
        return

    async def record_referrers(self, subject: Digest, referrers: Sequence[Descriptor]) -> None:
        return


class _NoUpload(Upload):
    async def put(self, blob: Descriptor, content: bytes | Content) -> None:
        return

    async def cancel(self) -> None:
        return
