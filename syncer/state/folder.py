"""The state folder on disk: made for its owner alone, and kept so where an earlier version left it readable."""

import os
import stat
from contextlib import suppress
from pathlib import Path

PRIVATE_FOLDER = 0o700
PRIVATE_FILE = 0o600
DATABASE = "syncer.db"
_OTHERS = stat.S_IRWXG | stat.S_IRWXO


def prepare_folder(folder: Path) -> None:
    """Make the folder if it is missing, and take group's and others' permissions off it and its files.

    A folder that also holds files of somebody else keeps its mode; the files of the state do not. What belongs to
    another user (a mounted volume) is left as it is. Raises `OSError`.
    """
    folder.mkdir(mode=PRIVATE_FOLDER, parents=True, exist_ok=True)
    names = [path.name for path in folder.iterdir()]
    if all(map(_is_state, names)):
        _make_private(folder)
    for name in filter(_is_state, names):
        _make_private(folder / name)


def create_private(path: Path) -> None:
    """Make an empty file that only its owner can read, unless it is there. Raises `OSError`."""
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, PRIVATE_FILE))


def _is_state(name: str) -> bool:
    """The database with its `-wal`, `-shm` and what was set aside, the locks, and a file system's own folder."""
    return name.startswith(DATABASE) or name in ("daemon.lock", "run.lock", "lost+found")


def _make_private(path: Path) -> None:
    with suppress(FileNotFoundError, PermissionError):
        found = path.lstat()
        if found.st_uid == os.geteuid() and not stat.S_ISLNK(found.st_mode) and found.st_mode & _OTHERS:
            path.chmod(stat.S_IMODE(found.st_mode) & ~_OTHERS)
