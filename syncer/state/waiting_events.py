"""The events of registries that wait for their copy, so that a daemon that was killed takes them up again."""

from collections.abc import Mapping

import msgspec

from syncer.state.database import Database


class EventKey(msgspec.Struct, frozen=True):
    """What an event is about: a tag of the source of the rule named `rule`.

    `source` is the repository, or the pattern of the rule. `tag` is empty for a rule of one digest that has no tag, and
    `ALL_TAGS` if the rule is to be run as a whole. A manifest without a tag has its digest here.
    """

    rule: str
    source: str
    tag: str


ALL_TAGS = "*"


class WaitingEvents:
    """The stored events. Every method may block, and raises `sqlite3.Error`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def load(self) -> dict[EventKey, str]:
        """Return the stored events with the digest that each one named; empty if it named none."""
        with self._database.reading() as connection:
            rows = connection.execute("SELECT rule, source, tag, digest FROM waiting_events").fetchall()
        return {EventKey(rule, source, tag): digest for rule, source, tag, digest in rows}

    def save(self, changes: Mapping[EventKey, str | None]) -> None:
        """Store the events that changed, in one transaction. None removes an event."""
        with self._database.transaction() as connection:
            connection.executemany(
                "DELETE FROM waiting_events WHERE rule = ? AND source = ? AND tag = ?",
                [(key.rule, key.source, key.tag) for key, digest in changes.items() if digest is None],
            )
            connection.executemany(
                "INSERT OR REPLACE INTO waiting_events VALUES (?, ?, ?, ?)",
                [
                    (key.rule, key.source, key.tag, digest)
                    for key, digest in changes.items()
                    if digest is not None
                ],
            )
