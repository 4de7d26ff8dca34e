"""Writes files atomically: to a temporary file in the same folder, which is then renamed.

If the path is not a regular file (a pipe, `/dev/null`, `/dev/stdout`, `-`), it is written directly.
"""

import errno
import os
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

_STDOUT = (Path("-"), Path("/dev/stdout"))
_NEVER_RENAMED = (Path("/dev"), Path("/dev/fd"))


def write_beside(path: Path, content: bytes | str) -> None:
    """Write `content` to `path`. Raises `OSError` with `path` as its filename; the old file is kept then."""
    with open_beside(path) as file:
        file.write(content.encode() if isinstance(content, str) else content)


@contextmanager
def open_beside(path: Path) -> Iterator[BinaryIO]:
    """Open a file that replaces `path` when the block ends without an exception."""
    if path in _STDOUT:
        sys.stdout.flush()
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    try:
        mode = _mode(path)
        if mode is not None and stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, "is a folder, expected a file")
        opened = _replacing if _is_replaced(path, mode) else _straight
        with opened(path, mode) as file:
            yield file
    except OSError as error:
        # The user does not know the name of the temporary file.
        raise OSError(error.errno, error.strerror or str(error), str(path)) from error


def _mode(path: Path) -> int | None:
    try:
        return path.stat().st_mode
    except FileNotFoundError:
        return None


def _is_replaced(path: Path, mode: int | None) -> bool:
    # /dev/fd/3 may be a regular file, but no file can be created in its folder. In /dev/shm it can.
    absolute = path.absolute()
    if absolute.parent in _NEVER_RENAMED or absolute.is_relative_to("/proc"):
        return False
    return mode is None or stat.S_ISREG(mode)


@contextmanager
def _straight(path: Path, _mode: int | None) -> Iterator[BinaryIO]:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC), "wb") as file:
        yield file


@contextmanager
def _replacing(path: Path, mode: int | None) -> Iterator[BinaryIO]:
    target = path.resolve()  # keep a symbolic link
    # Neither node_exporter nor a reader of *.json picks up this suffix.
    beside = target.with_name(f".syncer-{os.urandom(8).hex()}.tmp")
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(descriptor)
            if mode is not None:
                with suppress(OSError):
                    os.fchmod(descriptor, stat.S_IMODE(mode) & 0o777)
        beside.replace(target)
    except BaseException:
        with suppress(OSError):
            beside.unlink()
        raise
