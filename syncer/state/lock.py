"""Locks of a state folder: one daemon at a time, and one run at a time, in a daemon or a one-shot process.

The kernel releases the locks when the process ends for any reason.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from syncer.state.folder import PRIVATE_FILE, prepare_folder

_HELD_BY = {"daemon": "another daemon", "run": "another run"}


class StateError(Exception):
    """An error of the state folder. The message is for the user.

    StateError
    ├── StateLocked     another process uses the folder
    └── StateUnusable   the folder cannot be written, locked or read
    """


class StateLocked(StateError):
    """Another process uses the state folder."""


class StateUnusable(StateError):
    """The state folder cannot be written, locked or read."""


@contextmanager
def hold_lock(folder: Path, what: Literal["daemon", "run"]) -> Iterator[None]:
    """Hold a lock of a state folder. The folder is created if it is missing.

    Raises `StateLocked` without waiting if another process holds the lock, and `StateUnusable`.
    """
    path = folder / f"{what}.lock"
    try:
        prepare_folder(folder)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, PRIVATE_FILE)
    except OSError as error:
        raise StateUnusable(f"the state folder {folder} cannot be used: {error.strerror}") from error
    try:
        _lock(descriptor, path, what)
        _sign(descriptor, folder)
        yield
    finally:
        os.close(descriptor)


def _lock(descriptor: int, path: Path, what: Literal["daemon", "run"]) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(descriptor, 20, 0).decode("ascii", "replace").strip()
        process = f" (process {holder})" if holder.isdigit() else ""
        raise StateLocked(
            f"{_HELD_BY[what]}{process} works with the state folder {path.parent}: wait for it, "
            "or use another state folder"
        ) from None
    except OSError as error:
        raise StateUnusable(
            f"{path} cannot be locked: {error.strerror}. The state folder has to be on a local disk; "
            "network file systems do not support locks reliably"
        ) from error


def _sign(descriptor: int, folder: Path) -> None:
    """Write the number of this process into the lock, for the message to another one."""
    try:
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
    except OSError as error:
        raise StateUnusable(f"the state folder {folder} cannot be used: {error.strerror}") from error
