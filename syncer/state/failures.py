"""Images that fail: since when, and when a notification last named them."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from syncer.state.database import Database

MAX_FAILURES = 100_000
"""Number of failures that are kept."""
_KEPT_SECONDS = 30 * 86400.0
"""A failure is forgotten if no run has seen it for this long: its rule was removed."""


@dataclass(frozen=True, slots=True)
class KnownFailure:
    """Times in Unix seconds. `told` is when a notification last named the failure, or None."""

    since: float
    told: float | None = None


class FailureTable:
    """The stored failures, by destination. Every method may block, and raises `sqlite3.Error`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def load(self) -> dict[str, KnownFailure]:
        """Return all failures."""
        with self._database.reading() as connection:
            rows = connection.execute("SELECT destination, since, told FROM failures").fetchall()
        return {destination: KnownFailure(since, told) for destination, since, told in rows}

    def save(self, failures: Mapping[str, KnownFailure], removed: Iterable[str], *, now: float) -> None:
        """Store failures that a run found at the Unix time `now`, and remove those that are over."""
        with self._database.transaction() as connection:
            connection.executemany(
                "DELETE FROM failures WHERE destination = ?", [(name,) for name in removed]
            )
            connection.execute("DELETE FROM failures WHERE seen < ?", (now - _KEPT_SECONDS,))
            connection.executemany(
                "INSERT OR REPLACE INTO failures (destination, since, told, seen) VALUES (?, ?, ?, ?)",
                [(name, failure.since, failure.told, now) for name, failure in failures.items()],
            )
            connection.execute(
                "DELETE FROM failures WHERE destination IN"
                " (SELECT destination FROM failures ORDER BY seen DESC LIMIT -1 OFFSET ?)",
                (MAX_FAILURES,),
            )

    def forget_told(self, told: float) -> None:
        """Record that the notification of the Unix time `told` did not arrive."""
        with self._database.transaction() as connection:
            connection.execute("UPDATE failures SET told = NULL WHERE told = ?", (told,))
