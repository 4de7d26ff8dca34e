"""Finds and reads the files of `--images`: files, folders and standard input, in every form."""

from collections.abc import Callable, Sequence
from pathlib import Path

from syncer.config import documents
from syncer.config.documents import decoded, parse_document
from syncer.config.nodes import Node
from syncer.config.text_list import is_list, read_list
from syncer.diagnostics import Findings, Problem
from syncer.files import read_bytes, read_stored_bytes, why

STANDARD_INPUT = Path("-")
MAX_FILES = 1000
"""Files in one folder."""
_ENDINGS = (".json", ".yaml", ".yml", ".txt")
_STANDARD_INPUT_NAME = "standard input"


def files_of(folder: Path) -> list[Path]:
    """Return the rule files of a folder in the order of their names. Raises `OSError`.

    Hidden files and subfolders are left out, as with a shell's `*`.
    """
    return sorted(
        path
        for path in folder.iterdir()
        if path.suffix.lower() in _ENDINGS and not path.name.startswith(".") and not path.is_dir()
    )


def read_rule_files(
    paths: Sequence[Path], findings: Findings, *, standard_input: Callable[[], bytes]
) -> list[Node]:
    """Return the tree of each file. A problem goes to `findings`, and the file with it is left out.

    All files together may have `MAX_FILE_SIZE` bytes.
    """
    return _Reader(findings, standard_input).read(paths)


class _Reader:
    def __init__(self, findings: Findings, standard_input: Callable[[], bytes]) -> None:
        self._findings = findings
        self._standard_input = standard_input
        self._left = documents.MAX_FILE_SIZE

    def read(self, paths: Sequence[Path]) -> list[Node]:
        trees = []
        for path in dict.fromkeys(paths):
            if path == STANDARD_INPUT:
                trees.append(self._tree(Path(_STANDARD_INPUT_NAME), self._standard_input))
            elif path.is_dir():
                trees += [
                    self._tree(file, lambda file=file: read_stored_bytes(file, documents.MAX_FILE_SIZE))  # type: ignore[misc]
                    for file in self._files(path)
                ]
            else:
                trees.append(self._tree(path, lambda path=path: read_bytes(path, documents.MAX_FILE_SIZE)))  # type: ignore[misc]
        return [tree for tree in trees if tree is not None]

    def _files(self, folder: Path) -> list[Path]:
        try:
            files = files_of(folder)
        except OSError as error:
            self._findings.problems.append(Problem(str(folder), "", f"cannot be read: {why(error)}"))
            return []
        if not files:
            message = f"expected files in this folder with the endings {', '.join(_ENDINGS)}, found none"
            self._findings.problems.append(Problem(str(folder), "", message))
        if len(files) > MAX_FILES:
            message = f"expected at most {MAX_FILES:,} files in a folder, found {len(files):,}"
            self._findings.problems.append(Problem(str(folder), "", message))
            return []
        return files

    def _tree(self, path: Path, read: Callable[[], bytes]) -> Node | None:
        file = str(path)
        try:
            content = read()
            if len(content) > self._left:
                raise OSError(0, f"all files together are larger than {documents.MAX_FILE_SIZE:,} bytes")
        except (OSError, ValueError) as error:
            self._findings.problems.append(Problem(file, "", f"cannot be read: {why(error)}"))
            return None
        self._left -= len(content)
        text = decoded(content, file, self._findings)
        if text is None:
            return None
        if text.strip() and is_list(path, text):
            return read_list(text, file, self._findings)
        return parse_document(text, path, "images", self._findings)
