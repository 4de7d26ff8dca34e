"""`WrittenTags`: the tags that this program wrote. Only these are its own to remove."""

from collections.abc import Mapping

import msgspec

from syncer.oci.digest import Digest
from syncer.oci.reference import Reference, Repository


class WrittenTag(msgspec.Struct, frozen=True):
    """The digest that was last written to a tag, and the repository that it came from, as text."""

    digest: str
    source: str


class WrittenTags:
    """Tags that this program wrote in earlier runs and in this one. This class keeps nothing."""

    kept = False
    """Whether tags of earlier runs are known."""

    def of(self, repository: Repository) -> Mapping[str, WrittenTag]:  # noqa: ARG002
        """Return the tags that were written to a repository."""
        return {}

    def record(self, destination: Reference, digest: Digest, source: Repository) -> None:
        """Record that a tag was written."""

    def forget(self, destination: Reference) -> None:
        """Record that a tag was removed."""

    def flush(self) -> None:
        """Write all pending records."""


class ReadOnlyWrittenTags(WrittenTags):
    """Read-only view of the tags: a dry run must not record anything."""

    def __init__(self, written: WrittenTags) -> None:
        self._written = written
        self.kept = written.kept

    def of(self, repository: Repository) -> Mapping[str, WrittenTag]:
        return self._written.of(repository)
