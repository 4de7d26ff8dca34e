"""`OptionalTable`: facts in the state folder's database that a run can do without."""

import logging
import sqlite3
from collections.abc import Sequence
from typing import Any, ClassVar

from syncer.state.database import Database

_log = logging.getLogger(__name__)


class OptionalTable:
    """Reads and writes rows. The first failure is logged, and from then on nothing is read or written.

    Subclasses set `trouble`, the text of that log line.
    """

    trouble: ClassVar[str]

    def __init__(self, database: Database) -> None:
        self._database = database
        self._usable = True

    def _read(self, query: str, values: Sequence[object]) -> list[tuple[Any, ...]]:
        """Return the rows; none if the database cannot be used."""
        if not self._usable:
            return []
        try:
            with self._database.reading() as connection:
                return connection.execute(query, values).fetchall()
        except sqlite3.Error as error:
            self._give_up(error)
            return []

    def _write(self, statement: str, rows: Sequence[Sequence[object]]) -> None:
        """Execute a statement for each row, in one transaction."""
        if not rows or not self._usable:
            return
        try:
            with self._database.transaction() as connection:
                connection.executemany(statement, rows)
        except sqlite3.Error as error:
            self._give_up(error)

    def _give_up(self, error: sqlite3.Error) -> None:
        self._usable = False
        _log.warning("%s: %s", self.trouble, error)
