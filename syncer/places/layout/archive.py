"""A layout in a tar file, for reading. The content is read in place."""

import errno
import os
from collections.abc import Mapping
from pathlib import Path

from syncer.oci.digest import Digest, InvalidDigest
from syncer.places.layout.index import MAX_INDEX
from syncer.places.layout.stored import BlobStore, NotRegular, StoredBlob, open_folder, open_regular
from syncer.places.layout.tar_headers import InvalidArchive, Member, TruncatedArchive, read_members

MAX_CONTENTS = 32 * 1024 * 1024
"""Bytes of a contents file."""


class ArchiveStore(BlobStore):
    """The layout in the tar file at `path`, or in the open file `descriptor`.

    `problem` says what is wrong with the archive: members after the problem are missing, others can be read. Raises
    `OSError` if the file cannot be opened.
    """

    def __init__(self, path: Path, label: str, *, descriptor: int | None = None) -> None:
        self.label = label
        self.problem = ""
        if descriptor is None:
            try:
                with open_folder(path.parent) as folder:
                    descriptor = open_regular(path.name, folder=folder)
            except NotRegular:
                raise NotRegular(errno.EINVAL, "expected a folder or a tar file", str(path)) from None
        self._descriptor = descriptor
        self._blobs: dict[Digest, Member] = {}
        self._files: dict[str, Member] = {}
        try:
            self._scan(os.fstat(descriptor).st_size)
        except InvalidArchive as error:
            self.problem = str(error)

    def _scan(self, size: int) -> None:
        for member in read_members(lambda offset, length: os.pread(self._descriptor, length, offset)):
            if member.start + member.size > size:
                raise TruncatedArchive(member.start)
            digest = blob_digest(member.name)
            if digest is not None:
                self._blobs.setdefault(digest, member)
            elif "/" not in member.name:
                self._files[member.name] = member

    def close(self) -> None:
        os.close(self._descriptor)

    @property
    def blobs(self) -> Mapping[Digest, Member]:
        return self._blobs

    def open(self, digest: Digest) -> StoredBlob:
        member = self._blobs.get(digest)
        if member is None:
            raise FileNotFoundError(errno.ENOENT, f"the archive has no blob {digest}")
        return StoredBlob(os.dup(self._descriptor), member.size, member.start)

    def size(self, digest: Digest) -> int | None:
        member = self._blobs.get(digest)
        return member.size if member else None

    def read_index(self) -> bytes | None:
        return self.read_file("index.json", MAX_INDEX)

    def read_file(self, name: str, limit: int) -> bytes | None:
        """Return the content of a file of at most `limit` bytes, or None if it does not exist."""
        member = self._files.get(name)
        if member is None:
            return None
        if member.size > limit:
            raise OSError(errno.EFBIG, f"{name} has {member.size} bytes; the limit is {limit}")
        return os.pread(self._descriptor, member.size, member.start)


def blob_name(digest: Digest) -> str:
    return f"blobs/{digest.algorithm}/{digest.hex}"


def blob_digest(name: str) -> Digest | None:
    """Return the digest of the blob that a member is, or None if it is something else."""
    folder, _, rest = name.partition("/")
    if folder != "blobs":
        return None
    try:
        return Digest.parse(rest.replace("/", ":", 1))
    except InvalidDigest:
        return None
