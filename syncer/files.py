"""Reads whole files up to a size limit, and describes errors."""

import os
import stat
from contextlib import suppress
from io import BufferedReader
from pathlib import Path
from typing import BinaryIO

_KERNEL_FOLDERS = (Path("/proc"), Path("/sys"))
_DESCRIPTORS = Path("/proc")
"""Where `/dev/fd` leads to."""
_pipes: dict[tuple[int, int], bytes] = {}
"""What pipes without a name held, by device and inode. A pipe can be read once, and a daemon reads its files again."""


def read_bytes(path: Path, limit: int) -> bytes:
    """Return the content of a file. Raises `OSError`, also if the file is larger than `limit` bytes.

    A pipe without a name, as of a shell's `<(command)`, is read once: later calls return the same content. A pipe with a
    name is read each time, since another one may have its inode.
    """
    found = path.stat()
    if not stat.S_ISFIFO(found.st_mode) or not path.resolve().is_relative_to(_DESCRIPTORS):
        with path.open("rb") as file:
            return _read(file, limit)
    pipe = found.st_dev, found.st_ino
    if pipe not in _pipes:
        with path.open("rb") as file:
            _pipes[pipe] = _read(file, limit)
    return _pipes[pipe]


def read_stored_bytes(path: Path, limit: int) -> bytes:
    """Return the content of a file whose path comes from another file. Raises `OSError`: see `open_stored`."""
    with open_stored(path) as file:
        return _read(file, limit)


def open_stored(path: Path) -> BufferedReader:
    """Open a regular file on a disk.

    Raises `OSError`, also for devices, pipes and files that the kernel generates, such as `/proc/self/environ`.
    """
    # With O_NONBLOCK, opening a pipe does not wait for a writer.
    file = os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC), "rb")
    try:
        found = os.fstat(file.fileno())
        if not stat.S_ISREG(found.st_mode):
            raise OSError(0, "not a regular file")
        if _is_kernel_file(path.resolve(), found):
            raise OSError(0, "expected a file outside of /proc and /sys")
    except BaseException:
        file.close()
        raise
    return file


def _is_kernel_file(path: Path, found: os.stat_result) -> bool:
    """Check the path, and the file system, since /proc and the like may be mounted elsewhere too."""
    for folder in _KERNEL_FOLDERS:
        if path.is_relative_to(folder):
            return True
        with suppress(OSError):
            if folder.is_mount() and folder.stat().st_dev == found.st_dev:
                return True
    return False


def _read(file: BinaryIO, limit: int) -> bytes:
    content = file.read(limit + 1)
    if len(content) > limit:
        raise OSError(0, f"the file is larger than {limit:,} bytes")
    return content


def why(error: OSError | ValueError) -> str:
    """Return a short description of why a file cannot be read."""
    text = error.strerror if isinstance(error, OSError) else str(error)
    return (text or "unknown error").lower()
