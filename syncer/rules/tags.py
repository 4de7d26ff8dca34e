"""Selects tags of a repository."""

from functools import cache
from typing import Any

import msgspec

from syncer.oci.digest import Digest


class InvalidPattern(ValueError):
    """A regular expression that RE2 does not accept."""


class AllTags(msgspec.Struct, frozen=True):
    """Selects every tag of the repository."""

    def matches(self, tag: str) -> bool:  # noqa: ARG002
        return True


class TheseTags(msgspec.Struct, frozen=True):
    """Selects the named tags, in their order."""

    tags: tuple[str, ...]

    def matches(self, tag: str) -> bool:
        return tag in self.tags


class MatchingTags(msgspec.Struct, frozen=True):
    """Selects every tag in which the regular expression (RE2, as in Go) finds a match."""

    pattern: str

    def matches(self, tag: str) -> bool:
        return _compiled(self.pattern).search(tag) is not None


class OneDigest(msgspec.Struct, frozen=True):
    """Selects one manifest by its digest. `tag` is the destination's tag, if there is one."""

    digest: Digest
    tag: str | None = None

    def matches(self, tag: str) -> bool:
        return tag == self.tag


TagSelection = AllTags | TheseTags | MatchingTags | OneDigest


@cache
def _compiled(pattern: str) -> Any:
    import re2  # noqa: PLC0415 - most files have no regular expression

    options = re2.Options()
    options.log_errors = False
    return re2.compile(pattern, options)


def check_pattern(pattern: str) -> str:
    """Return `pattern` if it is valid. Raises `InvalidPattern` with RE2's message."""
    import re2  # noqa: PLC0415

    try:
        _compiled(pattern)
    except re2.error as error:
        reason = error.args[0] if error.args else ""
        text = reason.decode("utf-8", "replace") if isinstance(reason, bytes) else str(reason)
        raise InvalidPattern(text[:200]) from error
    return pattern
