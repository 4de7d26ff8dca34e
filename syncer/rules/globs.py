"""Globs for tags, repository paths and artifact types."""

import re
from collections.abc import Iterable
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import Any

from syncer.lazy_pattern import lazy_pattern

MAX_GLOB_LENGTH = 300
"""Characters."""
_CLASS = lazy_pattern(r"\[!?[^\]]{1,300}\]")
_PART = lazy_pattern(r"\*\*|\*|\?|\[!?[^\]]{1,300}\]|.", re.DOTALL)


class InvalidGlob(ValueError):
    """Text that is not a glob."""


def check_glob(text: str) -> str:
    """Return `text` if it is a glob: `*`, `?`, `[a-z]` and `[!a-z]`, without braces. Raises `InvalidGlob`."""
    shown = repr(text[:80])
    if not text or len(text) > MAX_GLOB_LENGTH:
        raise InvalidGlob(f"expected a glob of 1 to {MAX_GLOB_LENGTH} characters, found {shown}")
    if "{" in text or "}" in text:
        raise InvalidGlob(f"a glob has no braces: write one glob for each alternative, found {shown}")
    if "[" in _CLASS.sub("", text):
        raise InvalidGlob(f"expected ] after [ in the glob {shown}")
    return text


def matches_any(globs: Iterable[str], text: str) -> bool:
    """Return whether one of the globs matches the whole text. The case counts, and `*` matches slashes too."""
    return any(fnmatchcase(text, glob) for glob in globs)


def path_matches_any(globs: Iterable[str], path: str) -> bool:
    """Return whether one of the globs matches the whole path. `*` and `?` match no slash, and `**` does."""
    return any(_path_pattern(glob).fullmatch(path) for glob in globs)


@lru_cache(maxsize=1000)
def _path_pattern(glob: str) -> Any:
    """Compile a path glob with RE2, whose matching takes linear time."""
    import re2  # most files have no glob

    options = re2.Options()
    options.dot_nl = True
    return re2.compile("".join(_translated(part) for part in _PART.findall(glob)), options)


def _translated(part: str) -> str:
    if part == "**":
        return ".*"
    if part in ("*", "?"):
        return "[^/]*" if part == "*" else "[^/]"
    if len(part) == 1:
        return re.escape(part)
    negated = part.startswith("[!")
    members = re.escape(part[2 if negated else 1 : -1]).replace(r"\-", "-")
    return f"[{'^/' if negated else ''}{members}]"
