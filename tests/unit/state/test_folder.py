"""Who can read the state folder."""

import os
import stat
from contextlib import closing

import pytest

from syncer.state.database import open_database
from syncer.state.lock import hold_lock


@pytest.fixture(autouse=True)
def usual_umask():
    before = os.umask(0o022)
    yield
    os.umask(before)


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def modes(folder):
    return {path.name: oct(mode(path)) for path in folder.iterdir()}


def use(folder):
    """Open all that a daemon opens, and return the modes of the files meanwhile."""
    with hold_lock(folder, "daemon"), hold_lock(folder, "run"), closing(open_database(folder)) as database:
        with database.transaction() as connection:
            connection.execute("CREATE TABLE IF NOT EXISTS filled (value TEXT)")
        return modes(folder)


def test_a_new_folder_and_its_files_are_for_the_owner_alone(tmp_path):
    found = use(tmp_path / "new")
    assert mode(tmp_path / "new") == 0o700
    assert set(found) == {"syncer.db", "syncer.db-wal", "syncer.db-shm", "daemon.lock", "run.lock"}
    assert set(found.values()) == {"0o600"}


def test_a_folder_of_an_earlier_version_becomes_private(tmp_path):
    folder = tmp_path / "state"
    use(folder)
    (folder / "syncer.db.corrupt-20260101T000000Z").write_bytes(b"old")
    folder.chmod(0o755)
    for path in folder.iterdir():
        path.chmod(0o644)
    assert set(use(folder).values()) == {"0o600"}
    assert mode(folder) == 0o700


def test_a_folder_with_other_files_keeps_its_mode_and_theirs(tmp_path):
    tmp_path.chmod(0o755)
    (tmp_path / "report.json").write_text("{}")
    (tmp_path / "report.json").chmod(0o644)
    found = use(tmp_path)
    assert mode(tmp_path) == 0o755
    assert found.pop("report.json") == "0o644"
    assert set(found.values()) == {"0o600"}


def test_a_damaged_database_is_followed_by_a_private_one(tmp_path):
    folder = tmp_path / "state"
    folder.mkdir()
    (folder / "syncer.db").write_bytes(b"no database" * 1000)
    found = use(folder)
    assert len([name for name in found if ".corrupt-" in name]) == 1
    assert set(found.values()) == {"0o600"}


def test_a_link_in_the_folder_does_not_change_what_it_leads_to(tmp_path):
    folder, elsewhere = tmp_path / "state", tmp_path / "elsewhere"
    folder.mkdir()
    elsewhere.write_text("")
    elsewhere.chmod(0o644)
    (folder / "syncer.db.link").symlink_to(elsewhere)
    use(folder)
    assert mode(elsewhere) == 0o644
