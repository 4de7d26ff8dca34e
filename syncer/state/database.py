"""The SQLite file of a state folder: opened, brought up to date, set aside where it cannot be used.

Whoever keeps something in it adds a step to `STEPS` and works through `Database.transaction`.
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
    # 2: what is known of the destinations (knowledge.py); `seen` is in days
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
)
"""What makes version N of the file out of version N-1, each as one script. Steps are only ever added at the end."""

_BUSY_SECONDS = 10.0
_UNUSABLE = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR})
"""Damaged, no database at all, or one of somebody else."""

_log = logging.getLogger(__name__)


class Database:
    """A connection that threads may share: one transaction at a time."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._lock = threading.Lock()

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """All that is done in the block, or nothing of it. Raises `sqlite3.Error`."""
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
        """The same for what changes nothing: nobody else has to wait for it. Raises `sqlite3.Error`."""
        with self._lock:
            yield self._connection

    def close(self) -> None:
        with self._lock:
            self._connection.close()


class _Unusable(Exception):
    """The file is `kind`: it has to make room for a new one."""

    def __init__(self, kind: str, why: str) -> None:
        super().__init__(why)
        self.kind = kind


def open_database(folder: Path | None, *, steps: Sequence[str] = STEPS) -> Database:
    """The database of a state folder, made if it is not there; None gives one in memory.

    A file that is damaged, or of a newer version, is set aside with a warning. Raises `StateUnusable` where the
    folder cannot be written.
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
            _log.warning("%s %s: set aside as %s, begun anew", path, unusable, aside.name)
            create_private(path)
            return Database(_open(str(path), steps))
    except (OSError, sqlite3.Error, _Unusable) as error:
        raise StateUnusable(f"the state folder {folder} cannot be used: {error}") from error


def _open(name: str, steps: Sequence[str]) -> sqlite3.Connection:
    connection = sqlite3.connect(name, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False)
    try:
        with suppress(sqlite3.OperationalError):
            # What cannot have it (memory, some file systems) works without, only slower.
            connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        _check(connection, len(steps))
        _migrate(connection, steps)
    except sqlite3.DatabaseError as error:
        connection.close()
        # The low byte is the kind; the rest says where it was noticed.
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
    """Bring the file to the newest version, a step at a time: each is done whole or not at all."""
    while _version(connection) < len(steps):
        connection.execute("BEGIN IMMEDIATE")
        try:
            # Looked at again under the lock: another process may have been faster.
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
    """`executescript` would commit in between."""
    statement = ""
    for piece in script.split(";")[:-1]:
        statement += f"{piece};"
        # A semicolon may stand in a text or a trigger.
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
        # They belong to that file, and would spoil the next one.
        with suppress(FileNotFoundError):
            path.with_name(path.name + ending).replace(aside.with_name(aside.name + ending))
    return aside
