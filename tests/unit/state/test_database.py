"""The SQLite file: migrated, set aside, shared."""

import logging
import sqlite3
import threading

import pytest

from syncer.state.database import STEPS, open_database
from syncer.state.folder import DATABASE as FILE
from syncer.state.lock import StateUnusable


def version(folder):
    with sqlite3.connect(folder / FILE) as connection:
        found = connection.execute("PRAGMA user_version").fetchone()[0]
    connection.close()
    return found


def aside(folder):
    return sorted(path.name for path in folder.iterdir() if ".db." in path.name)


def put(folder, value, steps):
    database = open_database(folder, steps=steps)
    with database.transaction() as connection:
        connection.execute("INSERT INTO one VALUES (?)", (value,))
    database.close()


def values(database):
    with database.reading() as connection:
        return [row[0] for row in connection.execute("SELECT * FROM one")]


ONE = "CREATE TABLE one (value TEXT);"
TWO = "ALTER TABLE one RENAME TO two; CREATE TABLE one (value TEXT);\nINSERT INTO one SELECT upper(value) FROM two;"


def test_it_is_made_where_there_is_none(tmp_path):
    open_database(tmp_path / "new/folder").close()
    assert version(tmp_path / "new/folder") == len(STEPS)


def test_without_a_folder_it_is_in_memory():
    database = open_database(None, steps=[ONE])
    with database.transaction() as connection:
        connection.execute("INSERT INTO one VALUES ('kept')")
    assert values(database) == ["kept"]
    database.close()


def test_an_older_file_is_migrated_step_by_step(tmp_path):
    put(tmp_path, "old", [ONE])
    database = open_database(tmp_path, steps=[ONE, TWO])
    assert values(database) == ["OLD"]
    database.close()
    assert version(tmp_path) == 2
    assert aside(tmp_path) == []


def test_it_is_a_wal_so_that_readers_and_a_writer_get_along(tmp_path):
    database = open_database(tmp_path, steps=[ONE])
    other = sqlite3.connect(tmp_path / FILE, timeout=0)
    with database.transaction() as connection:
        connection.execute("INSERT INTO one VALUES ('new')")
        assert other.execute("SELECT count(*) FROM one").fetchone() == (0,)
    assert other.execute("SELECT count(*) FROM one").fetchone() == (1,)
    other.close()
    database.close()


@pytest.mark.parametrize("content", [b"no database at all, but long enough to look at" * 100, b"short"])
def test_what_is_no_database_is_set_aside_with_a_warning(tmp_path, caplog, content):
    (tmp_path / FILE).write_bytes(content)
    with caplog.at_level(logging.WARNING):
        database = open_database(tmp_path, steps=[ONE])
    assert values(database) == []
    database.close()
    (name,) = aside(tmp_path)
    assert name.startswith("syncer.db.corrupt-")
    assert (tmp_path / name).read_bytes() == content
    assert "cannot be read" in caplog.text
    assert name in caplog.text


def test_a_damaged_one_is_set_aside(tmp_path):
    put(tmp_path, "x" * 100_000, [ONE])
    path = tmp_path / FILE
    raw = bytearray(path.read_bytes())
    raw[4096:8192] = b"\xff" * 4096
    path.write_bytes(raw)
    database = open_database(tmp_path, steps=[ONE])
    assert values(database) == []
    database.close()
    assert len(aside(tmp_path)) == 1


def test_a_newer_one_is_set_aside(tmp_path, caplog):
    put(tmp_path, "newer", [ONE, TWO])
    open_database(tmp_path, steps=[ONE]).close()
    (name,) = aside(tmp_path)
    assert name.startswith("syncer.db.newer-")
    assert "newer version" in caplog.text
    assert version(tmp_path) == 1


def test_somebody_elses_database_is_set_aside(tmp_path):
    with sqlite3.connect(tmp_path / FILE) as connection:
        connection.execute("CREATE TABLE one (other INTEGER)")
    connection.close()
    open_database(tmp_path, steps=[ONE]).close()
    assert len(aside(tmp_path)) == 1


def test_a_step_that_breaks_leaves_nothing_half_done(tmp_path):
    put(tmp_path, "old", [ONE])
    broken = "CREATE TABLE three (value TEXT);\nINSERT INTO nowhere VALUES (1);"
    open_database(tmp_path, steps=[ONE, broken, ""][:1]).close()
    with pytest.raises(StateUnusable):
        open_database(tmp_path, steps=[ONE, broken])
    # It was taken for damaged, and kept as it was.
    (name,) = aside(tmp_path)
    with sqlite3.connect(tmp_path / name) as connection:
        tables = {row[0] for row in connection.execute("SELECT name FROM sqlite_master")}
    connection.close()
    assert tables == {"one"}


def test_many_may_open_it_at_once(tmp_path):
    failed: list[Exception] = []

    def work():
        try:
            for number in range(5):
                put(tmp_path, str(number), [ONE, TWO])
        except Exception as error:  # noqa: BLE001 - whatever it is, the test shows it
            failed.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    database = open_database(tmp_path, steps=[ONE, TWO])
    assert len(values(database)) == 20
    database.close()


def test_a_failed_transaction_leaves_nothing(tmp_path):
    database = open_database(tmp_path, steps=["CREATE TABLE one (value TEXT UNIQUE);"])

    def twice():
        with database.transaction() as connection:
            for _ in range(2):
                connection.execute("INSERT INTO one VALUES ('half')")

    with pytest.raises(sqlite3.IntegrityError):
        twice()
    assert values(database) == []
    database.close()


def test_a_folder_that_cannot_be_used_is_told(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(StateUnusable, match="cannot be used"):
        open_database(tmp_path / "file")
    (tmp_path / "taken" / FILE).mkdir(parents=True)
    with pytest.raises(StateUnusable, match="cannot be used"):
        open_database(tmp_path / "taken")
