"""What earlier runs learnt, in memory."""

from syncer.engine.ledger import BlobCache
from syncer.engine.written import WrittenTag, WrittenTags
from syncer.oci.digest import Digest
from syncer.oci.reference import Reference, Repository


class Remembered(BlobCache):
    """What indexes became, in memory."""

    def __init__(self) -> None:
        self.known: dict[tuple[Digest, str], Digest] = {}

    def filtered(self, digest: Digest, platforms: str) -> Digest | None:
        return self.known.get((digest, platforms))

    def record_filtered(self, digest: Digest, platforms: str, filtered: Digest) -> None:
        self.known[digest, platforms] = filtered


class Written(WrittenTags):
    """Written tags, in memory."""

    kept = True

    def __init__(self) -> None:
        self.records: dict[Reference, WrittenTag] = {}

    def of(self, repository: Repository) -> dict[str, WrittenTag]:
        return {
            reference.tag: record
            for reference, record in self.records.items()
            if reference.tag and reference.repository == repository
        }

    def record(self, destination: Reference, digest: Digest, source: Repository) -> None:
        self.records[destination] = WrittenTag(digest, str(source))

    def forget(self, destination: Reference) -> None:
        self.records.pop(destination, None)
