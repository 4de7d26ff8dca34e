"""Locks of a state folder."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from syncer.state.lock import StateLocked, StateUnusable, hold_lock


def test_a_run_and_a_daemon_do_not_exclude_each_other(tmp_path):
    with hold_lock(tmp_path, "daemon"), hold_lock(tmp_path, "run"):
        pass


@pytest.mark.parametrize(("what", "who"), [("daemon", "another daemon"), ("run", "another run")])
def test_second_lock_fails_with_the_holders_process(tmp_path, what, who):
    with (
        hold_lock(tmp_path, what),
        pytest.raises(StateLocked, match=rf"{who} \(process {os.getpid()}\)"),
        hold_lock(tmp_path, what),
    ):
        pass


def test_it_is_free_again_after_that(tmp_path):
    for _ in range(2):
        with hold_lock(tmp_path / "made", "run"):
            pass


def test_lock_is_released_when_its_process_is_killed(tmp_path):
    script = (
        "import os, pathlib, sys\n"
        "from syncer.state.lock import hold_lock\n"
        "with hold_lock(pathlib.Path(sys.argv[1]), 'run'):\n"
        "    os.kill(os.getpid(), 9)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, tmp_path], check=False)
    assert done.returncode == -9
    with hold_lock(tmp_path, "run"):
        pass


def test_folder_that_cannot_be_created_is_an_error(tmp_path):
    (tmp_path / "file").touch()
    with (
        pytest.raises(StateUnusable, match="file/state cannot be used"),
        hold_lock(tmp_path / "file/state", "run"),
    ):
        pass


@pytest.mark.parametrize("make", [Path.touch, lambda path: path.symlink_to("missing")])
def test_file_in_place_of_the_folder_is_named_as_one(tmp_path, make):
    make(tmp_path / "state")
    with (
        pytest.raises(StateUnusable, match="state cannot be used: Not a directory"),
        hold_lock(tmp_path / "state", "run"),
    ):
        pass


def test_file_system_without_locks_is_an_error(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(37, "No locks available")

    monkeypatch.setattr("fcntl.flock", refuse)
    with pytest.raises(StateUnusable, match=r"No locks available.*local disk"), hold_lock(tmp_path, "run"):
        pass
