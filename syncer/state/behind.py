"""Since when images are known at their source without being complete at a destination."""

from collections.abc import Mapping

from syncer.state.database import Database


class BehindTable:
    """The stored times, by destination. Every method may block, and raises `sqlite3.Error`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def load(self) -> dict[str, float]:
        """Return the Unix time of each destination."""
        with self._database.reading() as connection:
            return dict(connection.execute("SELECT destination, since FROM behind").fetchall())

    def save(self, changes: Mapping[str, float | None]) -> None:
        """Store the times that changed. None removes a destination."""
        with self._database.transaction() as connection:
            connection.executemany(
                "DELETE FROM behind WHERE destination = ?",
                [(name,) for name, since in changes.items() if since is None],
            )
            connection.executemany(
                "INSERT OR REPLACE INTO behind VALUES (?, ?)",
                [(name, since) for name, since in changes.items() if since is not None],
            )
