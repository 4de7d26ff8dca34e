"""The SQLite file of a state folder: opens it, migrates it, and sets it aside if it cannot be used.

To store new data, add a step to `STEPS`, and use `Database.transaction`.
"""

import logging
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from syncer.state.folder import DATABASE, create_private, prepare_folder
from syncer.state.lock import StateUnusable

STEPS: tuple[str, ...] = (
    # 1: the history of runs (history.py)
    """
    CREATE TABLE runs (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        id TEXT NOT NULL UNIQUE,
        started REAL NOT NULL,
        seen REAL NOT NULL,
        outcome TEXT,
        summary BLOB NOT NULL,
        report BLOB
    );
    CREATE INDEX runs_running ON runs (id) WHERE outcome IS NULL;
    CREATE TABLE rule_results (
        rule TEXT PRIMARY KEY,
        run TEXT NOT NULL,
        finished REAL NOT NULL,
        outcome TEXT NOT NULL,
        succeeded REAL
    );
    """,
    # 2: facts about the destinations (blob_cache.py); `seen` is in days
    """
    CREATE TABLE blobs (
        host TEXT NOT NULL,
        digest TEXT NOT NULL,
        path TEXT NOT NULL,
        seen INTEGER NOT NULL,
        PRIMARY KEY (host, digest, path)
    ) WITHOUT ROWID;
    CREATE TABLE narrowed (
        digest TEXT NOT NULL,
        platforms TEXT NOT NULL,
        narrowed TEXT NOT NULL,
        seen INTEGER NOT NULL,
        PRIMARY KEY (digest, platforms)
    ) WITHOUT ROWID;
    """,
    # 3: the ages of images (image_times.py); `created` and `first_seen` are in seconds, `seen` is in days
    """
    CREATE TABLE image_times (
        digest TEXT PRIMARY KEY,
        created REAL,
        first_seen REAL NOT NULL,
        seen INTEGER NOT NULL
    ) WITHOUT ROWID;
    """,
    # 4: what the daemon knows of images that are behind (behind.py), and the images of each rule (history.py)
    """
    CREATE TABLE behind (
        destination TEXT PRIMARY KEY,
        since REAL NOT NULL
    ) WITHOUT ROWID;
    CREATE TABLE rule_images (
        rule TEXT PRIMARY KEY,
        images BLOB NOT NULL
    ) WITHOUT ROWID;
    """,
    # 5: images that fail (failures.py); all times are in seconds
    """
    CREATE TABLE failures (
        destination TEXT PRIMARY KEY,
        since REAL NOT NULL,
        told REAL,
        seen REAL NOT NULL
    ) WITHOUT ROWID;
    """,
    # 6: the tags that were written (written_tags.py)
    """
    CREATE TABLE written_tags (
        repository TEXT NOT NULL,
        tag TEXT NOT NULL,
        digest TEXT NOT NULL,
        source TEXT NOT NULL,
        PRIMARY KEY (repository, tag)
    ) WITHOUT ROWID;
    """,
    # 7: events of registries that wait for their copy (waiting_events.py)
    """
    CREATE TABLE waiting_events (
        rule TEXT NOT NULL,
        source TEXT NOT NULL,
        tag TEXT NOT NULL,
        digest TEXT NOT NULL,
        PRIMARY KEY (rule, source, tag)
    ) WITHOUT ROWID;
    """,
)
"""Migrations: script N migrates the file from version N-1 to N. Only append to this list."""

_BUSY_SECONDS = 10.0
_UNUSABLE = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR})
"""SQLite errors for a file that is damaged, not a database, or the database of another program."""

_log = logging.getLogger(__name__)


class Database:
    """A connection that threads may share. Transactions run one at a time."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._lock = threading.Lock()

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Run the block in a transaction, which is rolled back on an exception. Raises `sqlite3.Error`."""
        with self._lock:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException:
                with suppress(sqlite3.Error):
                    self._connection.execute("ROLLBACK")
                raise

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """Run a block that only reads, without blocking other processes. Raises `sqlite3.Error`."""
        with self._lock:
            yield self._connection

    def close(self) -> None:
        with self._lock:
            self._connection.close()


class _Unusable(Exception):
    """The file cannot be used and must be set aside. `kind` becomes part of its new name."""

    def __init__(self, kind: str, why: str) -> None:
        super().__init__(why)
        self.kind = kind


def open_database(folder: Path | None, *, steps: Sequence[str] = STEPS) -> Database:
    """Open the database of a state folder, and create it if it is missing. None opens a database in memory.

    A file that is damaged, or of a newer version, is set aside with a warning. Raises `StateUnusable` if the folder
    cannot be written.
    """
    if folder is None:
        return Database(_open(":memory:", steps))
    path = folder / DATABASE
    try:
        prepare_folder(folder)
        # SQLite gives its `-wal` and `-shm` the mode of the file.
        create_private(path)
        try:
            return Database(_open(str(path), steps))
        except _Unusable as unusable:
            aside = _set_aside(path, unusable.kind)
            _log.warning("%s %s: set aside as %s, and created a new one", path, unusable, aside.name)
            create_private(path)
            return Database(_open(str(path), steps))
    except (OSError, sqlite3.Error, _Unusable) as error:
        raise StateUnusable(f"the state folder {folder} cannot be used: {error}") from error


def _open(name: str, steps: Sequence[str]) -> sqlite3.Connection:
    connection = sqlite3.connect(name, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False)
    try:
        with suppress(sqlite3.OperationalError):
            # WAL is not supported in memory and on some file systems. Without it the database is only slower.
            connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        _check(connection, len(steps))
        _migrate(connection, steps)
    except sqlite3.DatabaseError as error:
        connection.close()
        # The low byte is the primary result code. The higher bytes extend it.
        if getattr(error, "sqlite_errorcode", 0) & 0xFF in _UNUSABLE:
            raise _Unusable("corrupt", f"cannot be read ({error})") from error
        raise
    except BaseException:
        connection.close()
        raise
    return connection


def _check(connection: sqlite3.Connection, newest: int) -> None:
    version = _version(connection)
    if version > newest:
        raise _Unusable("newer", f"is of a newer version of the program ({version}, this one knows {newest})")
    with closing(connection.execute("PRAGMA quick_check(1)")) as cursor:
        (found,) = cursor.fetchone()
    if found != "ok":
        raise _Unusable("corrupt", f"is damaged ({found})")


def _migrate(connection: sqlite3.Connection, steps: Sequence[str]) -> None:
    """Migrate the file to the newest version. Each step is one transaction."""
    while _version(connection) < len(steps):
        connection.execute("BEGIN IMMEDIATE")
        try:
            # Check again under the lock: another process may have migrated the file.
            version = _version(connection)
            if version < len(steps):
                for statement in _statements(steps[version]):
                    connection.execute(statement)
                connection.execute(f"PRAGMA user_version = {version + 1}")
            connection.execute("COMMIT")
        except BaseException:
            with suppress(sqlite3.Error):
                connection.execute("ROLLBACK")
            raise


def _statements(script: str) -> Iterator[str]:
    """Split a script into statements, since `executescript` would commit the transaction."""
    statement = ""
    for piece in script.split(";")[:-1]:
        statement += f"{piece};"
        # A semicolon may be part of a string or a trigger.
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""


def _version(connection: sqlite3.Connection) -> int:
    with closing(connection.execute("PRAGMA user_version")) as cursor:
        return int(cursor.fetchone()[0])


def _set_aside(path: Path, kind: str) -> Path:
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S%fZ")
    aside = path.with_name(f"{path.name}.{kind}-{stamp}")
    path.replace(aside)
    for ending in ("-wal", "-shm"):
        # These files belong to the old database, and would corrupt the new one.
        with suppress(FileNotFoundError):
            path.with_name(path.name + ending).replace(aside.with_name(aside.name + ending))
    return aside
