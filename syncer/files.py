"""Reads whole files within a limit, and says why one cannot be read."""

import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

_KERNEL_FOLDERS = tuple(map(Path, ("/proc", "/sys", "/dev")))


def read_bytes(path: Path, limit: int) -> bytes:
    """A whole file. Raises `OSError`, also where it is longer than `limit` bytes."""
    with path.open("rb") as file:
        return _read(file, limit)


def read_stored_bytes(path: Path, limit: int) -> bytes:
    """The same of a file that another file names. Raises `OSError` as `open_stored` does."""
    with open_stored(path) as file:
        return _read(file, limit)


def open_stored(path: Path) -> BinaryIO:
    """Open a file on a disk.

    Raises `OSError`, also for devices, pipes and what the kernel makes up, such as `/proc/self/environ`.
    """
    # O_NONBLOCK: to open a pipe does not wait for its writer.
    file = os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC), "rb")
    try:
        found = os.fstat(file.fileno())
        if not stat.S_ISREG(found.st_mode):
            raise OSError(0, "not a regular file")
        if _is_kernel_file(path.resolve(), found):
            raise OSError(0, "expected a file outside of /proc, /sys and /dev")
    except BaseException:
        file.close()
        raise
    return file


def _is_kernel_file(path: Path, found: os.stat_result) -> bool:
    """By its path, or by its file system where that is mounted at another place too."""
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
    """Why a file cannot be read, in a few words."""
    text = error.strerror if isinstance(error, OSError) else str(error)
    return (text or "unknown error").lower()
