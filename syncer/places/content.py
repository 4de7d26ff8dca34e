"""The protocols that the engine uses: `Source`, a repository to copy from, and `Destination`, one to copy to.

The engine does not depend on the kind of repository. Dry runs and tests have their own implementations.
"""

from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol, runtime_checkable

import msgspec

from syncer.oci.descriptor import Descriptor
from syncer.oci.digest import Digest
from syncer.oci.manifest import Manifest
from syncer.oci.reference import Repository

Check = Callable[[memoryview], bool]
"""Called in a thread with each piece of a blob, in order. A piece is passed on only if the result is True."""


class Splice(Protocol):
    """The next bytes of a blob, to be moved by a thread.

    `moved` is then the number of bytes that were passed on. Bytes that fail the check are not. `waited` is for how many
    seconds the source had no data.
    """

    moved: int
    waited: float

    def limit(self, length: int) -> None:
        """Move at most `length` bytes."""
        ...


def _nowhere_else() -> bool:
    return False


def _no_splice(_length: int, _check: Check) -> Splice | None:
    return None


class BlobBody(msgspec.Struct, frozen=True):
    """The bytes of a blob from offset `start`. `size` is the size of the whole blob, or -1 if it is unknown.

    Call `reject` if the content does not match the digest. It returns True if another source has the blob.
    `ranged` is False if a range was requested and the whole blob came: further range requests are useless.
    `splice` returns the next bytes, at most as many as its argument, for a thread to move. It returns None if they must
    be read from `chunks`. If moving them fails, `chunks` raises the error.
    """

    start: int
    size: int
    chunks: AsyncIterator[bytes]
    reject: Callable[[], bool] = _nowhere_else
    ranged: bool = True
    splice: Callable[[int, Check], Splice | None] = _no_splice


class Content(Protocol):
    """The content of a blob. An upload can read it again to resume or restart."""

    def chunks(self, offset: int = 0) -> AsyncIterator[bytes]:
        """Yield the content from an offset in bytes. An earlier iterator yields no more."""
        ...

    def chunks_and_splices(self, offset: int = 0) -> AsyncIterator[bytes | Splice]:
        """Like `chunks`, for an upload that can move splices. It must move each before it asks for what follows."""
        return self.chunks(offset)


class RepositoryListing(Protocol):
    """The repositories of a place, or of one project in it."""

    method: str
    """How they are listed, for messages, such as "Harbor's API"."""

    @property
    def warning(self) -> str:
        """What the listing may lack, with advice; empty if it has all that the account may see."""
        return ""

    def pages(self) -> AsyncIterator[list[str]]:
        """Yield the paths of all repositories in pages. A path may come twice.

        Raises `RegistryError` if the listing fails or is incomplete. Each call lists again from the start.
        """
        ...


class ListsRepositories(Protocol):
    """A place that can list its repositories. Every method raises `RegistryError`."""

    async def listing(self, prefix: str) -> RepositoryListing:
        """Return a listing that has every repository whose path starts with the components of `prefix`.

        The same object is returned for prefixes that one listing covers.
        """
        ...


class Source(Protocol):
    """A repository to copy from. Every method raises `RegistryError`."""

    name: Repository
    mount_group: object
    """Repositories with equal values share a registry and an account, so blobs can be mounted between them."""

    def is_authoritative(self, _target: str) -> bool:
        """Whether the tag was resolved by the registry itself; False if only a mirror resolved it."""
        return True

    def tags(self) -> AsyncIterator[list[str]]:
        """Yield all tags in pages."""
        ...

    def listing_doubt(self) -> str:
        """Return why lists that `tags` yielded may have been incomplete; empty if they were complete."""
        return ""

    async def resolve(self, target: str) -> Descriptor | None:
        """Return the descriptor of a tag or digest without its content, or None if it does not exist."""
        ...

    async def fetch_manifest(self, target: str, *, tag: str | None = None) -> Manifest:
        """Return the manifest of a tag or digest. If the digest is known, the content is verified.

        `tag` is the tag that resolved to the digest. If the digest does not exist, the manifest of the tag is
        returned, which may have another digest.
        """
        ...

    def fetch_blob(
        self, blob: Descriptor, *, offset: int = 0, length: int | None = None
    ) -> AbstractAsyncContextManager[BlobBody]:
        """Open a blob at `offset` for `length` bytes, or to its end. The caller verifies the content.

        A registry may return more, from an earlier offset: see `BlobBody.start`.
        """
        ...

    async def has_blob(self, digest: Digest, *, size: int = -1) -> bool:
        """Whether the repository has a blob, of `size` bytes if the size is not -1. The content is not fetched."""
        ...


@runtime_checkable
class KnowsPushTimes(Protocol):
    """A source that can tell when tags were pushed."""

    async def push_times(self, tags: Collection[str]) -> Mapping[str, float]:
        """Return the push times of `tags`, in seconds since the epoch, as far as the registry tells them.

        Raises `RegistryError` if it may tell them later.
        """
        ...


class StreamedBlob(msgspec.Struct, frozen=True):
    """A blob that comes now, and not again. It belongs to `repository`."""

    repository: Repository
    blob: Descriptor


class StreamsBlobs(Protocol):
    """A place whose blobs come once, in an order of its own. Manifests can be fetched after all blobs have come."""

    async def next_blob(self) -> StreamedBlob | None:
        """Return the next blob, which its repository has until the next call; None at the end. Raises `RegistryError`."""
        ...


class Upload(Protocol):
    """The upload of a blob to a repository."""

    async def put(self, blob: Descriptor, content: bytes | Content) -> None:
        """Upload the blob under its digest, with any method that the registry supports.

        Errors that `content` raises are passed on. After a failure, call it again to resume or restart the upload.
        """
        ...

    async def cancel(self) -> None:
        """Cancel the upload session at the registry. Never raises `RegistryError`."""
        ...


class Destination(Source, Protocol):
    """A repository to copy to. Every method raises `RegistryError`."""

    async def is_new(self) -> bool:
        """Whether the repository is known to be empty or missing. False if it is unknown."""
        ...

    async def resolve_certainly(self, target: str) -> Descriptor | None:
        """Return the descriptor of a tag, or None only if the registry says that it does not exist.

        `resolve` may return None for a tag that exists and cannot be read, so that it is replaced.
        """
        return await self.resolve(target)

    async def shared_by(self, digest: Digest) -> Repository | None:  # noqa: ARG002
        """Return another repository of this place that is known to have the blob, so that it can be mounted from there."""
        return None

    async def mount(self, digest: Digest, *, from_: Repository) -> Upload | None:
        """Mount a blob from another repository of the same `mount_group`. Return None if mounted, else an upload for it."""
        ...

    async def start_upload(self) -> Upload: ...

    async def upload_if_missing(self, digest: Digest) -> Upload | None:
        """Return an upload for a blob, or None if the repository has it. One request does both where that is possible."""
        ...

    async def push_manifest(self, manifest: Manifest, *, tag: str | None = None) -> Digest:
        """Push a manifest by its digest, and by a tag if one is given.

        Returns its digest at the destination, which may use another algorithm.
        """
        ...

    async def keep(self, manifest: Manifest) -> None:  # noqa: ARG002
        """List a pushed manifest that has no tag. Registries keep it anyway; in a layout, nothing else refers to it."""
        return


@runtime_checkable
class ListsReferrers(Protocol):
    """A source that lists the manifests whose `subject` is another manifest (distribution-spec 1.1, "Listing Referrers")."""

    @property
    def lists_by_tag_only(self) -> bool:
        """Whether referrers are known to be listed by tags only, so that a repository without such tags has none."""
        return False

    async def referrers(self, subject: Digest, *, tagged: bool | None = None) -> Sequence[Descriptor]:
        """Return the referrers of a manifest, each once.

        `tagged` is whether the fallback tag of the subject exists, None if that is not known. Raises `RegistryError`,
        also if there are too many.
        """
        ...


@runtime_checkable
class RecordsReferrers(Protocol):
    """A destination that has to be told which of its manifests refer to another one."""

    async def record_referrers(self, subject: Digest, referrers: Sequence[Descriptor]) -> None:
        """Make sure that the destination lists these manifests, which it has, as referrers. Raises `RegistryError`."""


@runtime_checkable
class RemovesTags(Protocol):
    """A destination that can remove tags. Every method raises `RegistryError`."""

    async def untags(self) -> bool:
        """Return whether `remove_tag` keeps the manifest, and so all other tags of it.

        If not, it may remove the manifest with all of its tags.
        """
        ...

    async def remove_tag(self, tag: str, digest: Digest) -> None:
        """Remove a tag, which names the manifest `digest`. Does nothing if it does not exist."""
        ...
