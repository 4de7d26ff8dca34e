"""A layout that is written to a tar file, or to several volumes.

Each blob gets its space in the file before its content arrives, so that several blobs can arrive at once. The files end in
`.tmp` until `finish`. If the program is killed, the next run verifies what they contain and continues.
"""

import errno
import fcntl
import os
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from syncer.oci.digest import Digest
from syncer.places.layout.archive import blob_digest, blob_name
from syncer.places.layout.index import LAYOUT_FILE, merge_index
from syncer.places.layout.stored import (
    BlobWriter,
    DoesNotFit,
    IndexChange,
    StoredBlob,
    WritableStore,
    open_folder,
    open_regular,
    write_all,
)
from syncer.places.layout.tar_headers import (
    BLOCK,
    END,
    InvalidArchive,
    Member,
    folder_header,
    header,
    padded,
    read_members,
)

CONTENTS_FILE = ".contents.json"
_LAST_FILES = (CONTENTS_FILE, "index.json")
"""The last members of an archive."""
_HEADER = 4 * BLOCK
"""Bytes of a blob's headers: its own, and the extended header with its header."""
_TAIL = 64 * BLOCK
"""Bytes of each volume that are kept for its last members and its end."""


class _Volume:
    """One file. `members` are complete blobs, `spaces` those that are incomplete and written by nobody."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.members: dict[Digest, Member] = {}
        self.spaces: dict[Digest, Member] = {}
        self.end = 0
        path.parent.mkdir(parents=True, exist_ok=True)
        with open_folder(path.parent) as folder:
            self.descriptor = open_regular(f"{path.name}.tmp", folder=folder, flags=os.O_RDWR | os.O_CREAT)
        try:
            fcntl.flock(self.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self.descriptor)
            raise BlockingIOError(errno.EAGAIN, f"another process writes {path}") from None
        self._recover()
        if not self.end:
            os.ftruncate(self.descriptor, 0)
            self.append("oci-layout", LAYOUT_FILE)
            for name in ("blobs/", "blobs/sha256/"):
                self.end += write_all(self.descriptor, [folder_header(name)], self.end)

    def _recover(self) -> None:
        """Find what an earlier run has left. Content counts if its digest is correct."""
        size = os.fstat(self.descriptor).st_size
        try:
            for member in read_members(lambda offset, length: os.pread(self.descriptor, length, offset)):
                if member.name in _LAST_FILES:
                    # The earlier run was interrupted while it finished: these are written again.
                    self.end = member.start - BLOCK
                    return
                self.end = member.end
                digest = blob_digest(member.name)
                if digest is None:
                    continue
                whole = member.start + member.size <= size
                if whole and self.stored(member).matches(digest):
                    self.members[digest] = member
                else:
                    self.spaces[digest] = member
        except InvalidArchive:
            # This is where the earlier run was interrupted. Without a complete header nothing follows.
            pass

    def stored(self, member: Member) -> StoredBlob:
        return StoredBlob(os.dup(self.descriptor), member.size, member.start)

    def reserve(self, name: str, size: int, repository: str = "") -> Member:
        """Write the header of a member at the end, and leave space for its content."""
        start = self.end + write_all(self.descriptor, [header(name, size, repository)], self.end)
        member = Member(name, start, size)
        self.end = member.end
        return member

    def append(self, name: str, content: bytes) -> None:
        member = self.reserve(name, len(content))
        write_all(self.descriptor, [content], member.start)

    def finish(self) -> None:
        """Complete the file, and give it its name."""
        for digest, space in self.spaces.items():
            # Nobody filled it. It remains as a file that is not part of the layout.
            renamed = header(f".incomplete/{digest.algorithm}-{digest.hex[:64]}", space.size)
            write_all(self.descriptor, [renamed], space.start - BLOCK)
        write_all(self.descriptor, [END], self.end)
        os.ftruncate(self.descriptor, self.end + len(END))
        os.fsync(self.descriptor)

    def rename(self) -> None:
        self.path.with_name(f"{self.path.name}.tmp").rename(self.path)
        with open_folder(self.path.parent) as folder:
            os.fsync(folder)

    def close(self) -> None:
        os.close(self.descriptor)


class ArchiveWriter(WritableStore):
    """The archive at `path`. With a `volume_size` in bytes, the files are `NAME.0.tar`, `NAME.1.tar` and so on.

    Nothing is written before `resume`.
    """

    def __init__(self, path: Path, label: str, *, volume_size: int | None = None) -> None:
        self.label = label
        self._path = path
        self._limit = volume_size
        self._lock = threading.Lock()
        self._index: bytes = merge_index(None, {})
        self._volumes: list[_Volume] = []

    def resume(self) -> None:
        """Create the first file, or continue with what an earlier run has left.

        Raises `OSError`, also if another process writes to the archive.
        """
        self._volumes.append(_Volume(self._name_of(0)))
        while self._limit and self._name_of(len(self._volumes), ".tmp").exists():
            self._volumes.append(_Volume(self._name_of(len(self._volumes))))

    def _name_of(self, number: int, suffix: str = "") -> Path:
        if self._limit is None:
            return self._path.with_name(self._path.name + suffix)
        return volume_path(self._path, number, suffix)

    @property
    def is_split(self) -> bool:
        """Whether the archive has volumes."""
        return self._limit is not None

    @property
    def files(self) -> Sequence[str]:
        """The names of the files."""
        return [volume.path.name for volume in self._volumes]

    def blobs(self) -> dict[Digest, tuple[int, str]]:
        """Return all complete blobs, with their sizes in bytes and the names of their files."""
        return {
            digest: (member.size, volume.path.name)
            for volume in self._volumes
            for digest, member in volume.members.items()
        }

    # --- reading --------------------------------------------------------------------------------------------------

    def open(self, digest: Digest) -> StoredBlob:
        for volume in self._volumes:
            if member := volume.members.get(digest):
                return volume.stored(member)
        raise FileNotFoundError(errno.ENOENT, f"the archive has no blob {digest}")

    def size(self, digest: Digest) -> int | None:
        found = [volume.members.get(digest) for volume in self._volumes]
        return next((member.size for member in found if member), None)

    def read_index(self) -> bytes:
        return self._index

    # --- writing --------------------------------------------------------------------------------------------------

    def write_index(self, change: IndexChange) -> bytes:
        self._index = merge_index(self._index, change(self._index))
        return self._index

    def begin(self, digest: Digest, size: int, repository: str = "") -> BlobWriter:
        with self._lock:
            for volume in self._volumes:
                space = volume.spaces.get(digest)
                if space is not None and space.size == size:
                    del volume.spaces[digest]
                    return _SpaceWriter(self, volume, digest, space)
            volume = self._volume_for(size)
            return _SpaceWriter(self, volume, digest, volume.reserve(blob_name(digest), size, repository))

    def _volume_for(self, size: int) -> _Volume:
        last = self._volumes[-1]
        if self._limit is None or last.end + _HEADER + padded(size) + _TAIL <= self._limit:
            return last
        volume = _Volume(self._name_of(len(self._volumes)))
        if volume.end + _HEADER + padded(size) + _TAIL > self._limit:
            volume.close()
            volume.path.with_name(f"{volume.path.name}.tmp").unlink()
            raise DoesNotFit(
                errno.EFBIG, f"a blob of {size} bytes does not fit into a volume of {self._limit} bytes"
            )
        self._volumes.append(volume)
        return volume

    def settle(self, volume: _Volume, digest: Digest, member: Member, *, complete: bool) -> None:
        """Record the end of a writer: its blob is there, or its space can be used for the same blob again."""
        with self._lock:
            (volume.members if complete else volume.spaces)[digest] = member

    def finish(
        self, contents: Callable[[Sequence[str]], bytes], note: Callable[[Sequence[str]], bytes]
    ) -> None:
        """Write index and contents, and give the files their names.

        Both functions get the names of the files. The last volume has the index and the `contents`, the others the `note`,
        which tells what the other volumes are.
        """
        tail = 2 * BLOCK + padded(len(contents(self.files))) + padded(len(self._index)) + _TAIL
        if self._limit and self._volumes[-1].end + tail > self._limit:
            self._volumes.append(_Volume(self._name_of(len(self._volumes))))
        *others, last = self._volumes
        for volume in others:
            volume.append(CONTENTS_FILE, note(self.files))
            volume.append("index.json", merge_index(None, {}))
        last.append(CONTENTS_FILE, contents(self.files))
        last.append("index.json", self._index)
        for volume in self._volumes:
            volume.finish()
        for volume in self._volumes:
            volume.rename()
        # Volumes of an earlier archive with this name do not belong to it.
        number = len(self._volumes)
        while self._limit and self._name_of(number).exists():
            self._name_of(number).unlink()
            number += 1

    def close(self) -> None:
        for volume in self._volumes:
            volume.close()


class _SpaceWriter(BlobWriter):
    """Writes a blob to the space that it has in a volume."""

    def __init__(self, store: ArchiveWriter, volume: _Volume, digest: Digest, member: Member) -> None:
        self._store = store
        self._volume = volume
        self._digest = digest
        self._member = member
        self._hasher = digest.hasher()
        self._position = 0
        self._complete = False

    def restart(self) -> None:
        self._hasher = self._digest.hasher()
        self._position = 0

    def write(self, pieces: list[bytes]) -> None:
        total = sum(map(len, pieces))
        if self._position + total > self._member.size:
            raise OSError(errno.EINVAL, f"the blob has more than its {self._member.size} bytes")
        for piece in pieces:
            self._hasher.update(piece)
        write_all(self._volume.descriptor, pieces, self._member.start + self._position)
        self._position += total

    def commit(self) -> bool:
        self._complete = self._position == self._member.size and self._digest.matches(self._hasher)
        return self._complete

    def close(self) -> None:
        self._store.settle(self._volume, self._digest, self._member, complete=self._complete)


def volume_path(path: Path, number: int, suffix: str = "") -> Path:
    """Return the path of a volume: `images.tar` becomes `images.0.tar`."""
    stem = path.name.removesuffix(".tar")
    return path.with_name(f"{stem}.{number}.tar{suffix}")
