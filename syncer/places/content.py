"""The protocols the engine works with: a repository that images come from, and one that they are brought to.

The engine never asks what kind of repository it has; what a dry run or a test needs is another class.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from typing import Protocol

import msgspec

from syncer.oci.descriptor import Descriptor
from syncer.oci.digest import Digest
from syncer.oci.manifest import Manifest
from syncer.oci.reference import Repository


def _nowhere_else() -> bool:
    return False


class BlobBody(msgspec.Struct, frozen=True):
    """The bytes of a blob from offset `start` on; `size` is the whole blob's, -1 where the registry does not say.

    `reject` tells whoever sent it that the content is wrong; True means that there is another place to get it from.
    `ranged` is False where the whole came though a part was asked for: it is of no use to ask for others.
    """

    start: int
    size: int
    chunks: AsyncIterator[bytes]
    reject: Callable[[], bool] = _nowhere_else
    ranged: bool = True


class Content(Protocol):
    """The bytes of a blob, which an upload may need again: from where it broke off, or from the start."""

    def chunks(self, offset: int = 0) -> AsyncIterator[bytes]:
        """What there is from an offset in bytes on. Whoever was reading before gets no more."""
        ...


class Source(Protocol):
    """A repository that images come from. Every method raises `RegistryError`."""

    name: Repository
    mount_group: object
    """Repositories with an equal one share a registry and an account: blobs may be mounted from one into another."""

    def is_authoritative(self, _target: str) -> bool:
        """Whether the registry itself said what a tag names; False where only a mirror did."""
        return True

    def tags(self) -> AsyncIterator[list[str]]:
        """All tags, page by page."""
        ...

    async def resolve(self, target: str) -> Descriptor | None:
        """What a tag or digest names, without its content; None if it names nothing."""
        ...

    async def fetch_manifest(self, target: str, *, tag: str | None = None) -> Manifest:
        """The manifest that a tag or digest names, checked where the digest is known.

        `tag` is a tag that named the digest: where there is nothing under the digest, what the tag names is taken,
        and its digest may be another one.
        """
        ...

    def fetch_blob(
        self, blob: Descriptor, *, offset: int = 0, length: int | None = None
    ) -> AbstractAsyncContextManager[BlobBody]:
        """Open a blob for reading from an offset in bytes, `length` of them or all. The content is the caller's to check.

        A registry may answer with more than that, from an earlier offset: `BlobBody.start` tells.
        """
        ...

    async def has_blob(self, digest: Digest) -> bool:
        """Whether a blob is in the repository, without its content."""
        ...


class Upload(Protocol):
    """A blob on its way into a repository."""

    async def put(self, blob: Descriptor, content: bytes | Content) -> None:
        """Send the blob's `size` bytes and have it stored under its digest, whatever it takes.

        What `content` raises comes through. After a failure it may be called again and goes on, or starts over.
        """
        ...

    async def cancel(self) -> None:
        """Tell the registry that nothing more comes. Never raises `RegistryError`."""
        ...


class Destination(Source, Protocol):
    """A repository that images are brought to. Every method raises `RegistryError`."""

    async def is_new(self) -> bool:
        """Whether the registry knows that nothing is there yet. False where it cannot be told."""
        ...

    async def mount(self, digest: Digest, *, from_: Repository) -> Upload | None:
        """Take a blob over from another repository of the same `mount_group`. None when done, else the upload to bring it by."""
        ...

    async def start_upload(self) -> Upload: ...

    async def push_manifest(self, manifest: Manifest, *, tag: str | None = None) -> Digest:
        """Store a manifest under its digest, and under a tag if one is given.

        Returns the digest that it has there: of the same bytes, maybe by another algorithm.
        """
        ...
