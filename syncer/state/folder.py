"""The state folder on disk: only its owner can read it, even if an earlier version created it readable for others."""

import errno
import os
import stat
from contextlib import suppress
from pathlib import Path

PRIVATE_FOLDER = 0o700
PRIVATE_FILE = 0o600
DATABASE = "syncer.db"
_OTHERS = stat.S_IRWXG | stat.S_IRWXO


def prepare_folder(folder: Path) -> None:
    """Create the folder if it is missing, and remove the permissions of group and others from it and its files.

    If the folder has other files too, only the state files are changed, not the folder. A folder or file of another
    user (a mounted volume) is not changed. Raises `OSError`.
    """
    try:
        folder.mkdir(mode=PRIVATE_FOLDER, parents=True, exist_ok=True)
    except FileExistsError:
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(folder)) from None
    names = [path.name for path in folder.iterdir()]
    if all(map(_is_state, names)):
        _make_private(folder)
    for name in filter(_is_state, names):
        _make_private(folder / name)


def create_private(path: Path) -> None:
    """Create an empty file that only its owner can read, unless it exists. Raises `OSError`."""
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, PRIVATE_FILE))


def _is_state(name: str) -> bool:
    """Return whether the name is that of a database file (also `-wal`, `-shm`, or set aside), a lock or `lost+found`."""
    return name.startswith(DATABASE) or name in ("daemon.lock", "run.lock", "lost+found")


def _make_private(path: Path) -> None:
    with suppress(FileNotFoundError, PermissionError):
        found = path.lstat()
        if found.st_uid == os.geteuid() and not stat.S_ISLNK(found.st_mode) and found.st_mode & _OTHERS:
            path.chmod(stat.S_IMODE(found.st_mode) & ~_OTHERS)
