"""Selects tags of a repository."""

import msgspec

from syncer.oci.digest import Digest
from syncer.rules.expressions import compiled
from syncer.rules.tag_filter import FilteredTags


class AllTags(msgspec.Struct, frozen=True):
    """Selects every tag of the repository."""

    needs_listing = True

    def matches(self, tag: str) -> bool:  # noqa: ARG002
        return True


class TheseTags(msgspec.Struct, frozen=True):
    """Selects the named tags, in their order."""

    tags: tuple[str, ...]

    needs_listing = False

    def matches(self, tag: str) -> bool:
        return tag in self.tags


class MatchingTags(msgspec.Struct, frozen=True):
    """Selects every tag in which the regular expression (RE2, as in Go) finds a match."""

    pattern: str

    needs_listing = True

    def matches(self, tag: str) -> bool:
        return compiled(self.pattern).search(tag) is not None


class OneDigest(msgspec.Struct, frozen=True):
    """Selects one manifest by its digest. `tag` is the destination's tag, if there is one."""

    digest: Digest
    tag: str | None = None

    needs_listing = False

    def matches(self, tag: str) -> bool:
        return tag == self.tag


TagSelection = AllTags | TheseTags | MatchingTags | OneDigest | FilteredTags


def describe_selection(selection: TagSelection) -> str:
    """Return in words which tags are selected."""
    match selection:
        case AllTags():
            return "all tags"
        case TheseTags(tags):
            return ", ".join(tags)
        case MatchingTags(pattern):
            return f"tags that match /{pattern}/"
        case OneDigest(digest, tag):
            return f"{tag}@{digest}" if tag else str(digest)
        case FilteredTags():
            return "tags by version, age, number or name"
