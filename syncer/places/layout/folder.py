"""A layout in a folder. Nothing outside of the folder is read or written, whatever links it contains.

A blob is written to `.partial/` and renamed when its digest is verified. `index.json` is replaced under a lock, so that
several processes can write to one layout.
"""

import errno
import fcntl
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from syncer.oci.digest import ALGORITHMS, Digest, InvalidDigest
from syncer.places.layout.index import LAYOUT_FILE, MAX_INDEX, merge_index
from syncer.places.layout.stored import (
    BlobWriter,
    IndexChange,
    StoredBlob,
    WritableStore,
    open_regular,
    read_limited,
    write_all,
)

_PARTIAL = ".partial"
_LOCK = "index.json.lock"
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


class FolderStore(WritableStore):
    """The layout in the folder `root`. The folder is created when something is written."""

    def __init__(self, root: Path, label: str) -> None:
        self._root = root
        self._is_written = False
        self.label = label

    # --- reading --------------------------------------------------------------------------------------------------

    def open(self, digest: Digest) -> StoredBlob:
        with self._folder("blobs", digest.algorithm) as folder:
            descriptor = open_regular(digest.hex, folder=folder)
        return StoredBlob(descriptor, os.fstat(descriptor).st_size)

    def size(self, digest: Digest) -> int | None:
        try:
            with self.open(digest) as blob:
                return blob.size
        except OSError:
            return None

    def read_index(self) -> bytes | None:
        return self.read_file("index.json", MAX_INDEX)

    def read_file(self, name: str, limit: int) -> bytes | None:
        """Return the content of a file of at most `limit` bytes, or None if it does not exist."""
        try:
            with self._folder() as folder:
                descriptor = open_regular(name, folder=folder)
        except FileNotFoundError:
            return None
        try:
            return read_limited(descriptor, limit)
        finally:
            os.close(descriptor)

    def blobs(self) -> Iterator[tuple[Digest, int]]:
        """Yield all blobs with their sizes in bytes."""
        for algorithm in ALGORITHMS:
            with (
                suppress(FileNotFoundError),
                self._folder("blobs", algorithm) as folder,
                os.scandir(folder) as found,
            ):
                for entry in found:
                    with suppress(InvalidDigest):
                        digest = Digest.parse(f"{algorithm}:{entry.name}")
                        if entry.is_file(follow_symlinks=False):
                            yield digest, entry.stat(follow_symlinks=False).st_size

    @contextmanager
    def _folder(self, *names: str, create: bool = False) -> Iterator[int]:
        """Open a folder below the root, without following links."""
        if create:
            self._root.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self._root, _FOLDER)
        try:
            for name in names:
                if create:
                    with suppress(FileExistsError):
                        os.mkdir(name, dir_fd=descriptor)
                inner = os.open(name, _FOLDER | os.O_NOFOLLOW, dir_fd=descriptor)
                os.close(descriptor)
                descriptor = inner
            yield descriptor
        finally:
            os.close(descriptor)

    # --- writing --------------------------------------------------------------------------------------------------

    def begin(self, digest: Digest, size: int, repository: str = "") -> BlobWriter:  # noqa: ARG002
        self._is_written = True
        with self._folder(_PARTIAL, create=True) as folder:
            name, descriptor = self._open_partial(folder, digest)
        return _FolderWriter(self, digest, size, name, descriptor)

    @staticmethod
    def _open_partial(folder: int, digest: Digest) -> tuple[str, int]:
        """Open the unfinished file of a blob for this process alone."""
        name = f"{digest.algorithm}-{digest.hex}"
        flags = os.O_RDWR | os.O_CREAT
        descriptor = open_regular(name, folder=folder, flags=flags)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(descriptor), os.stat(name, dir_fd=folder, follow_symlinks=False)):
                return name, descriptor
        except OSError:
            # Another process writes this blob, or has just finished it.
            pass
        os.close(descriptor)
        name = f"{name}-{secrets.token_hex(6)}"
        return name, open_regular(name, folder=folder, flags=flags | os.O_EXCL)

    def finish(self, name: str, digest: Digest) -> None:
        """Move a complete file of `.partial/` to where blobs are."""
        with (
            self._folder(_PARTIAL) as partial,
            self._folder("blobs", digest.algorithm, create=True) as blobs,
        ):
            os.rename(name, digest.hex, src_dir_fd=partial, dst_dir_fd=blobs)

    def drop(self, name: str) -> None:
        """Remove a file of `.partial/`."""
        with suppress(OSError), self._folder(_PARTIAL) as partial:
            os.unlink(name, dir_fd=partial)

    def write_index(self, change: IndexChange) -> bytes:
        with self._folder(create=True) as folder:
            lock = open_regular(_LOCK, folder=folder, flags=os.O_RDWR | os.O_CREAT)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX)
                raw = self.read_index()
                added = change(raw)
                if raw is not None and not added:
                    return raw
                for algorithm in ALGORITHMS:
                    # What the index refers to must be on the disk before the index is.
                    with suppress(FileNotFoundError), self._folder("blobs", algorithm) as blobs:
                        os.fsync(blobs)
                if self.read_file("oci-layout", 1024) is None:
                    self._replace(folder, "oci-layout", LAYOUT_FILE)
                merged = merge_index(raw, added)
                self._replace(folder, "index.json", merged)
            finally:
                os.close(lock)
        return merged

    def write_file(self, name: str, content: bytes) -> None:
        """Replace a file of the folder."""
        with self._folder(create=True) as folder:
            self._replace(folder, name, content)

    @staticmethod
    def _replace(folder: int, name: str, content: bytes) -> None:
        temporary = f".{name.lstrip('.')}-{secrets.token_hex(6)}"
        descriptor = open_regular(temporary, folder=folder, flags=os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        try:
            write_all(descriptor, [content], 0)
            os.fsync(descriptor)
            os.rename(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
        except BaseException:
            with suppress(OSError):
                os.unlink(temporary, dir_fd=folder)
            raise
        finally:
            os.close(descriptor)
        os.fsync(folder)

    def close(self) -> None:
        """Remove what interrupted runs have left in `.partial/`, unless another process writes it.

        A folder that was only read stays as it is.
        """
        if not self._is_written:
            return
        with suppress(OSError), self._folder(_PARTIAL) as folder, os.scandir(folder) as found:
            for entry in list(found):
                with suppress(OSError):
                    descriptor = open_regular(entry.name, folder=folder)
                    try:
                        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                        os.unlink(entry.name, dir_fd=folder)
                    finally:
                        os.close(descriptor)
        with suppress(OSError), self._folder() as folder:
            os.rmdir(_PARTIAL, dir_fd=folder)


class _FolderWriter(BlobWriter):
    def __init__(self, store: FolderStore, digest: Digest, size: int, name: str, descriptor: int) -> None:
        self._store = store
        self._digest = digest
        self._size = size
        self._name = name
        self._descriptor = descriptor
        self._hasher = digest.hasher()
        self._position = 0
        self._committed = False

    def restart(self) -> None:
        os.ftruncate(self._descriptor, 0)
        self._hasher = self._digest.hasher()
        self._position = 0

    def write(self, pieces: list[bytes]) -> None:
        for piece in pieces:
            self._hasher.update(piece)
        self._position += write_all(self._descriptor, pieces, self._position)
        if self._position > self._size >= 0:
            raise OSError(errno.EINVAL, f"the blob has more than its {self._size} bytes")

    def commit(self) -> bool:
        if not self._digest.matches(self._hasher) or self._position != self._size >= 0:
            self._store.drop(self._name)
            return False
        os.fdatasync(self._descriptor)
        self._store.finish(self._name, self._digest)
        self._committed = True
        return True

    def close(self) -> None:
        if not self._committed:
            self._store.drop(self._name)
        os.close(self._descriptor)
