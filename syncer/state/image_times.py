"""When images were created and first seen, by digest. A rule with `min_age` or `max_age` asks for it on each run."""

import logging
import sqlite3
import time
from collections.abc import Callable

from syncer.engine.ages import ImageTimes, KnownTime
from syncer.oci.digest import Digest
from syncer.state.database import Database

KEPT_DAYS = 400
"""Days since a digest was last asked for."""

_DAY = 86400
_log = logging.getLogger(__name__)


class SqliteImageTimes(ImageTimes):
    """Times in the state folder's database. `now` returns seconds since the epoch.

    If the database cannot be used, this is logged once, and `kept` is False from then on.
    """

    def __init__(self, database: Database, *, now: Callable[[], float] = time.time) -> None:
        self._database = database
        self._today = int(now() // _DAY)
        self._usable = True
        self._write("DELETE FROM image_times WHERE seen < ?", self._today - KEPT_DAYS)

    @property
    def kept(self) -> bool:
        return self._usable

    def recall(self, digest: Digest) -> KnownTime | None:
        if not self._usable:
            return None
        try:
            with self._database.reading() as connection:
                found = connection.execute(
                    "SELECT created, first_seen, seen FROM image_times WHERE digest = ?", (digest,)
                ).fetchone()
        except sqlite3.Error as error:
            self._give_up(error)
            return None
        if found is None:
            return None
        created, first_seen, seen = found
        if seen != self._today:
            self._write("UPDATE image_times SET seen = ? WHERE digest = ?", self._today, digest)
        return KnownTime(created, first_seen)

    def record(self, digest: Digest, known: KnownTime) -> None:
        # Another process may have recorded the digest first.
        self._write(
            "INSERT INTO image_times (digest, created, first_seen, seen) VALUES (?, ?, ?, ?)"
            " ON CONFLICT (digest) DO NOTHING",
            digest,
            known.created,
            known.first_seen,
            self._today,
        )

    def _write(self, statement: str, *values: object) -> None:
        if not self._usable:
            return
        try:
            with self._database.transaction() as connection:
                connection.execute(statement, values)
        except sqlite3.Error as error:
            self._give_up(error)

    def _give_up(self, error: sqlite3.Error) -> None:
        self._usable = False
        _log.warning("cannot use the kept ages of images: %s", error)
