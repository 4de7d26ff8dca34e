"""Locks of a state folder: one daemon at a time, and one run at a time, be it the daemon's or a one-shot's.

The kernel lets go of them when the process ends, however it ends.
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
    """Something about the state folder. The text is for the user.

    StateError
    ├── StateLocked     another process works with it
    └── StateUnusable   it cannot be written, locked or read
    """


class StateLocked(StateError):
    """Another process works with the state folder."""


class StateUnusable(StateError):
    """The state folder cannot be written, locked or read."""


@contextmanager
def hold_lock(folder: Path, what: Literal["daemon", "run"]) -> Iterator[None]:
    """Hold one of the locks of a state folder, which is made if it is not there.

    Raises `StateLocked` at once where another process has it, and `StateUnusable`.
    """
    path = folder / f"{what}.lock"
    try:
        prepare_folder(folder)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, PRIVATE_FILE)
    except OSError as error:
        raise StateUnusable(f"the state folder {folder} cannot be used: {error.strerror}") from error
    try:
        _lock(descriptor, path, what)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
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
            "or use a folder of its own"
        ) from None
    except OSError as error:
        raise StateUnusable(
            f"{path} cannot be locked: {error.strerror}. The state folder has to be on a local disk; "
            "network file systems do not keep locks"
        ) from error
