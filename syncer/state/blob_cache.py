"""Facts about the destinations from earlier runs: locations of blobs, and digests of filtered indexes.

All facts are hints. If a blob no longer exists, the check costs one request, and the fact is removed.
"""

import time
from collections.abc import Callable, Sequence

from syncer.engine.ledger import BlobCache
from syncer.oci.digest import Digest
from syncer.oci.reference import Repository
from syncer.state.database import Database
from syncer.state.optional_table import OptionalTable

MAX_PENDING = 500
"""Maximum number of facts that are written in one transaction."""
MAX_HOLDERS = 3
"""Maximum number of repositories returned for a blob. The next one is only tried if the previous one refuses."""
KEPT_DAYS = 90

_DAY = 86400


class SqliteBlobCache(OptionalTable, BlobCache):
    """Facts in the state folder's database. `now` returns seconds since the epoch.

    If the database cannot be written, this is logged once, and no further facts are recorded.
    """

    trouble = "cannot write the blob cache"

    def __init__(self, database: Database, *, now: Callable[[], float] = time.time) -> None:
        super().__init__(database)
        self._today = int(now() // _DAY)
        self._recorded: list[tuple[str, str, str, int]] = []
        self._write("DELETE FROM blobs WHERE seen < ?", [(self._today - KEPT_DAYS,)])
        self._write("DELETE FROM narrowed WHERE seen < ?", [(self._today - KEPT_DAYS,)])

    def holders(self, host: str, digest: Digest) -> Sequence[Repository]:
        found = self._read(
            "SELECT path FROM blobs WHERE host = ? AND digest = ? ORDER BY seen DESC LIMIT ?",
            (host, digest, MAX_HOLDERS),
        )
        return [Repository(host, path) for (path,) in found]

    def record(self, repository: Repository, digest: Digest) -> None:
        self._recorded.append((repository.host, digest, repository.path, self._today))
        if len(self._recorded) >= MAX_PENDING:
            self.flush()

    def forget(self, repository: Repository, digest: Digest) -> None:
        self.flush()
        self._write(
            "DELETE FROM blobs WHERE host = ? AND digest = ? AND path = ?",
            [(repository.host, digest, repository.path)],
        )

    def filtered(self, digest: Digest, platforms: str) -> Digest | None:
        found = self._read(
            "SELECT narrowed FROM narrowed WHERE digest = ? AND platforms = ?", (digest, platforms)
        )
        return Digest.parse(found[0][0]) if found else None

    def record_filtered(self, digest: Digest, platforms: str, filtered: Digest) -> None:
        self._write(
            "INSERT OR REPLACE INTO narrowed (digest, platforms, narrowed, seen) VALUES (?, ?, ?, ?)",
            [(digest, platforms, filtered, self._today)],
        )

    def flush(self) -> None:
        record, self._recorded = self._recorded, []
        self._write("INSERT OR REPLACE INTO blobs (host, digest, path, seen) VALUES (?, ?, ?, ?)", record)
