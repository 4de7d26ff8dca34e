"""The tags that this program wrote, in the state folder's database. Pruning removes no others."""

import logging
import sqlite3
from collections.abc import Mapping, Sequence

from syncer.engine.written import WrittenTag, WrittenTags
from syncer.oci.digest import Digest
from syncer.oci.reference import Reference, Repository
from syncer.state.database import Database

MAX_PENDING = 500
"""Maximum number of tags that are written in one transaction."""

_log = logging.getLogger(__name__)


class SqliteWrittenTags(WrittenTags):
    """If the database cannot be used, this is logged once, and `kept` is False from then on: nothing is removed."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._recorded: dict[tuple[str, str], tuple[str, str]] = {}
        self._usable = True

    @property
    def kept(self) -> bool:  # type: ignore[override]
        return self._usable

    def of(self, repository: Repository) -> Mapping[str, WrittenTag]:
        self.flush()
        if not self._usable:
            return {}
        try:
            with self._database.reading() as connection:
                found = connection.execute(
                    "SELECT tag, digest, source FROM written_tags WHERE repository = ?", (str(repository),)
                ).fetchall()
        except sqlite3.Error as error:
            self._give_up(error)
            return {}
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

    def _write(self, statement: str, rows: Sequence[tuple[object, ...]]) -> None:
        if not rows or not self._usable:
            return
        try:
            with self._database.transaction() as connection:
                connection.executemany(statement, rows)
        except sqlite3.Error as error:
            self._give_up(error)

    def _give_up(self, error: sqlite3.Error) -> None:
        self._usable = False
        _log.warning("cannot use the record of written tags: %s", error)
