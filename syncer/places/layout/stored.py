"""What folders and archives have in common: stored blobs that are read, blobs that are being written, and errors."""

import errno
import os
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from syncer.errors import Attempt, Kind, RegistryError
from syncer.oci.digest import Digest

_KINDS = {
    errno.ENOENT: Kind.NOT_FOUND,
    errno.EACCES: Kind.FORBIDDEN,
    errno.EPERM: Kind.FORBIDDEN,
    errno.EROFS: Kind.FORBIDDEN,
    errno.ELOOP: Kind.INVALID,
    errno.ENOTDIR: Kind.INVALID,
    errno.EISDIR: Kind.INVALID,
    errno.ENOSPC: Kind.TOO_LARGE,
    errno.EDQUOT: Kind.TOO_LARGE,
    errno.EFBIG: Kind.TOO_LARGE,
}
_ADVICE = {
    errno.ENOSPC: "free some space on the disk",
    errno.EDQUOT: "free some space: the quota is exceeded",
    errno.EFBIG: "the file system does not allow files of this size: use --volume-size",
    errno.ELOOP: "symbolic links in a layout are not followed",
}


class NotRegular(OSError):
    """Something that is not a regular file, such as a pipe or a device."""


class DoesNotFit(OSError):
    """A blob that is larger than a volume."""


class StoredBlob:
    """An open blob: `size` bytes of an open file from offset `base`. A context manager that closes the file."""

    def __init__(self, descriptor: int, size: int, base: int = 0) -> None:
        self._descriptor = descriptor
        self._base = base
        self.size = size

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        os.close(self._descriptor)

    def read(self, offset: int, length: int) -> bytes:
        """Return up to `length` bytes from `offset`; none at the end. Raises `OSError`."""
        length = min(length, self.size - offset)
        return os.pread(self._descriptor, length, self._base + offset) if length > 0 else b""

    def matches(self, digest: Digest) -> bool:
        """Return whether the content has this digest. Reads all of it. Raises `OSError`."""
        hasher, position = digest.hasher(), 0
        while piece := self.read(position, PIECE):
            hasher.update(piece)
            position += len(piece)
        return digest.matches(hasher)


PIECE = 1024 * 1024
"""Bytes that are read or written at once."""


class BlobStore(Protocol):
    """Reads the blobs and the index of one layout. Every method blocks, and raises `OSError`."""

    label: str
    """The name of the layout in messages: `oci:` and its path."""

    def open(self, digest: Digest) -> StoredBlob:
        """Raises `FileNotFoundError` if there is no such blob."""
        ...

    def size(self, digest: Digest) -> int | None:
        """Return the size of a blob in bytes, or None if there is no such blob."""
        ...

    def read_index(self) -> bytes | None:
        """Return the content of `index.json`, or None if it does not exist."""
        ...

    def close(self) -> None:
        """Close the files that the store keeps open."""
        ...


class BlobWriter(Protocol):
    """Writes one blob to a store. Every method blocks, and raises `OSError`."""

    def restart(self) -> None:
        """Write from the start of the blob."""
        ...

    def write(self, pieces: list[bytes]) -> None:
        """Write the next bytes of the blob."""
        ...

    def commit(self) -> bool:
        """Store the blob if its content is complete and has its digest. Return whether it has."""
        ...

    def close(self) -> None:
        """Release the files. A blob that is not committed is not stored."""
        ...


IndexChange = Callable[[bytes | None], Mapping[str, bytes | None]]
"""Returns entries for an index, by their reference names. The argument is what the index contains, None if there is none."""


class WritableStore(BlobStore, Protocol):
    """A store that blobs can be added to."""

    def begin(self, digest: Digest, size: int, repository: str = "") -> BlobWriter:
        """Begin to write a blob of `size` bytes. `repository` is the name of the repository that needs it first."""
        ...

    def write_index(self, change: IndexChange) -> bytes:
        """Add the entries that `change` returns to the index; None removes one. Return what the index contains now.

        No other process writes the index while `change` runs. It may write blobs.
        """
        ...


@contextmanager
def open_folder(path: Path) -> Iterator[int]:
    """Open a folder. Raises `OSError`."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def open_regular(name: str, *, folder: int, flags: int = os.O_RDONLY, mode: int = 0o644) -> int:
    """Open a regular file in an open folder, without following links or waiting for pipes. Raises `OSError`."""
    flags |= os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
    descriptor = os.open(name, flags, mode, dir_fd=folder)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise NotRegular(errno.EINVAL, "not a regular file", name)
    return descriptor


def read_limited(descriptor: int, limit: int) -> bytes:
    """Return the content of an open file. Raises `OSError` if it is larger than `limit` bytes."""
    size = os.fstat(descriptor).st_size
    if size > limit:
        raise OSError(errno.EFBIG, f"the file has {size} bytes; the limit is {limit}")
    return os.pread(descriptor, limit, 0)


def write_all(descriptor: int, pieces: list[bytes], offset: int) -> int:
    """Write the pieces at `offset`. Return the number of bytes. Raises `OSError`."""
    total = 0
    for piece in pieces:
        view = memoryview(piece)
        while view:
            written = os.pwrite(descriptor, view, offset + total)
            total += written
            view = view[written:]
    return total


def as_error(error: OSError, attempt: Attempt) -> RegistryError:
    """Return the error for an `OSError`. Errors that are not known here may pass when the task is tried again."""
    number = error.errno or 0
    kind = Kind.INVALID if isinstance(error, NotRegular) else _KINDS.get(number, Kind.SERVER_ERROR)
    advice = "use a larger --volume-size" if isinstance(error, DoesNotFit) else _ADVICE.get(number, "")
    message = error.strerror or str(error) or type(error).__name__
    return RegistryError(kind, message, attempt=attempt, advice=advice)


@contextmanager
def translated(attempt: Attempt) -> Iterator[None]:
    """Turn `OSError` into `RegistryError`."""
    try:
        yield
    except OSError as error:
        raise as_error(error, attempt) from error
