"""`syncer images`: prints the image references in manifests, compose files, Dockerfiles and lists."""

import codecs
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import click

from syncer.cli import exits
from syncer.cli.process import say, say_error
from syncer.diagnostics import shown
from syncer.files import read_bytes, why
from syncer.references.folders import TooManyFiles, files_in
from syncer.references.formats import is_worth_reading, read_references
from syncer.references.found import Found, Unresolved

MAX_FILE_SIZE = 64 * 1024 * 1024
"""Bytes of one file, and of standard input."""
_STDIN = Path("-")
_UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def print_images(paths: Sequence[Path]) -> int:
    """Print the references in files and folders, sorted and once each; `-` is standard input.

    What cannot be resolved or read goes to standard error. Return the exit code: 0, or 2 if a file cannot be read.
    Raises `click.UsageError` if nothing is given.
    """
    if not paths and sys.stdin.isatty():
        raise click.UsageError("expected FILE, a folder, or input such as: helm template . | syncer images")
    references: set[str] = set()
    code = exits.DONE
    for name, found in _found_in(paths or (_STDIN,)):
        references |= found.references
        for each in sorted(found.unresolved, key=lambda each: each.line):
            say_error(f"warning: {_at(name, each)}: {shown(each.text)} is not resolved: {each.reason}")
        if found.problem:
            code = exits.UNUSABLE
            say_error(f"error: {_at(name, found.problem)}: {found.problem.reason}")
    for reference in sorted(references):
        if not say(reference):
            return exits.FAILED
    return code


def _at(name: str, place: Unresolved) -> str:
    return f"{name}:{place.line}" if place.line else name


def _found_in(paths: Sequence[Path]) -> Iterator[tuple[str, Found]]:
    """Yield the name of each file, and what is found in it."""
    for path in paths:
        if not path.is_dir():
            found = _read(path, only_known=False)
            if not found.recognized and not found.problem:
                found.problem = Unresolved(
                    0, "", "expected a Kubernetes manifest, a compose file, a Dockerfile or a list of images"
                )
            yield "standard input" if path == _STDIN else str(path), found
            continue
        try:
            for file in files_in(path):
                yield str(file), _read(file, only_known=True)
        except TooManyFiles as error:
            yield str(path), Found(problem=Unresolved(0, "", str(error)))


def _read(path: Path, *, only_known: bool) -> Found:
    try:
        if path == _STDIN:
            content = sys.stdin.buffer.read(MAX_FILE_SIZE + 1)
            if len(content) > MAX_FILE_SIZE:
                raise OSError(0, f"larger than {MAX_FILE_SIZE:,} bytes")
        else:
            content = read_bytes(path, MAX_FILE_SIZE)
        # PowerShell redirects output as UTF-16.
        text = content.decode("utf-16" if content[:2] in _UTF_16 else "utf-8-sig")
    except UnicodeDecodeError:
        return Found(problem=Unresolved(0, "", "expected UTF-8 text"))
    except (OSError, ValueError) as error:
        return Found(problem=Unresolved(0, "", f"cannot be read: {why(error)}"))
    if only_known and not is_worth_reading(path.name, text):
        return Found()
    found = read_references("" if path == _STDIN else path.name, text)
    # A file of a folder may be of any format. One that names no image is not missed.
    return Found() if only_known and found.problem and "mage" not in text else found
