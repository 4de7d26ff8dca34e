"""When images were created and first seen, by digest. A rule with `min_age` or `max_age` asks for it on each run."""

import time
from collections.abc import Callable

from syncer.engine.ages import ImageTimes, KnownTime
from syncer.oci.digest import Digest
from syncer.state.database import Database
from syncer.state.optional_table import OptionalTable

KEPT_DAYS = 400
"""Days since a digest was last asked for."""

_DAY = 86400


class SqliteImageTimes(OptionalTable, ImageTimes):
    """Times in the state folder's database. `now` returns seconds since the epoch.

    If the database cannot be used, this is logged once, and `kept` is False from then on.
    """

    trouble = "cannot use the kept ages of images"

    def __init__(self, database: Database, *, now: Callable[[], float] = time.time) -> None:
        super().__init__(database)
        self._today = int(now() // _DAY)
        self._write("DELETE FROM image_times WHERE seen < ?", [(self._today - KEPT_DAYS,)])

    @property
    def kept(self) -> bool:
        return self._usable

    def recall(self, digest: Digest) -> KnownTime | None:
        rows = self._read("SELECT created, first_seen, seen FROM image_times WHERE digest = ?", (digest,))
        if not rows:
            return None
        created, first_seen, seen = rows[0]
        if seen != self._today:
            self._write("UPDATE image_times SET seen = ? WHERE digest = ?", [(self._today, digest)])
        return KnownTime(created, first_seen)

    def record(self, digest: Digest, known: KnownTime) -> None:
        # Another process may have recorded the digest first.
        self._write(
            "INSERT INTO image_times (digest, created, first_seen, seen) VALUES (?, ?, ?, ?)"
            " ON CONFLICT (digest) DO NOTHING",
            [(digest, known.created, known.first_seen, self._today)],
        )
