"""Lists the files of a folder that may name images."""

import os
from collections.abc import Iterator
from pathlib import Path

from syncer.references.dockerfile import is_dockerfile_name
from syncer.references.formats import SUFFIXES

MAX_FILES = 100_000
"""Entries of one folder and all below it."""


class TooManyFiles(ValueError):
    """A folder that has more than `MAX_FILES` entries."""


def files_in(folder: Path) -> Iterator[Path]:
    """Yield the files below a folder that are read, in the order of their names.

    Hidden files and folders are left out, and symbolic links to folders are not followed. Raises `TooManyFiles`.
    """
    count = 0
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        count += len(folders) + len(names)
        if count > MAX_FILES:
            raise TooManyFiles(f"the folder has more than {MAX_FILES:,} files")
        for name in sorted(names):
            path = Path(parent, name)
            is_named = path.suffix.lower() in SUFFIXES or is_dockerfile_name(name)
            if is_named and not name.startswith(".") and path.is_file():
                yield path
