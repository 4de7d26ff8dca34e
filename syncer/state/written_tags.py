"""The tags that this program wrote, in the state folder's database. Pruning removes no others."""

from collections.abc import Mapping

from syncer.engine.written import WrittenTag, WrittenTags
from syncer.oci.digest import Digest
from syncer.oci.reference import Reference, Repository
from syncer.state.database import Database
from syncer.state.optional_table import OptionalTable

MAX_PENDING = 500
"""Maximum number of tags that are written in one transaction."""


class SqliteWrittenTags(OptionalTable, WrittenTags):
    """If the database cannot be used, this is logged once, and `kept` is False from then on: nothing is removed."""

    trouble = "cannot use the record of written tags"

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self._recorded: dict[tuple[str, str], tuple[str, str]] = {}

    @property
    def kept(self) -> bool:  # type: ignore[override]
        return self._usable

    def of(self, repository: Repository) -> Mapping[str, WrittenTag]:
        self.flush()
        found = self._read(
            "SELECT tag, digest, source FROM written_tags WHERE repository = ?", (str(repository),)
        )
        return {tag: WrittenTag(digest, source) for tag, digest, source in found}

    def record(self, destination: Reference, digest: Digest, source: Repository) -> None:
        assert destination.tag is not None
        self._recorded[str(destination.repository), destination.tag] = (str(digest), str(source))
        if len(self._recorded) >= MAX_PENDING:
            self.flush()

    def forget(self, destination: Reference) -> None:
        self.flush()
        self._write(
            "DELETE FROM written_tags WHERE repository = ? AND tag = ?",
            [(str(destination.repository), destination.tag)],
        )

    def flush(self) -> None:
        rows = [(*key, *value) for key, value in self._recorded.items()]
        self._recorded = {}
        self._write(
            "INSERT OR REPLACE INTO written_tags (repository, tag, digest, source) VALUES (?, ?, ?, ?)", rows
        )
