"""Files that are written whole or not at all."""

import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from syncer.observe.files import open_beside, write_beside


def names_in(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


@pytest.fixture
def umask():
    before = os.umask(0o027)
    yield
    os.umask(before)


def test_a_file_is_made_and_replaced(tmp_path):
    path = tmp_path / "report.json"
    write_beside(path, "first ü")
    write_beside(path, b"second")
    assert path.read_bytes() == b"second"
    assert names_in(tmp_path) == ["report.json"]


def test_a_reader_never_sees_half_a_file(tmp_path):
    path = tmp_path / "f"
    write_beside(path, "old")
    with path.open() as reading, open_beside(path) as file:
        file.write(b"half")
        file.flush()
        assert path.read_text() == reading.read() == "old"
    assert path.read_text() == "half"


def test_the_old_file_stays_when_anything_fails(tmp_path):
    path = tmp_path / "f"
    write_beside(path, "old")

    def break_off():
        with open_beside(path) as file:
            file.write(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        break_off()
    assert path.read_text() == "old"
    assert names_in(tmp_path) == ["f"]


def test_a_full_disk_keeps_the_old_file_and_names_the_new(tmp_path, monkeypatch):
    path = tmp_path / "f"
    write_beside(path, "old")

    def full(_descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=rf"No space left on device: '{path}'"):
        write_beside(path, "new")
    assert path.read_text() == "old"
    assert names_in(tmp_path) == ["f"]


@pytest.mark.usefixtures("umask")
def test_a_new_file_has_the_mode_that_the_umask_allows(tmp_path):
    write_beside(tmp_path / "f", "x")
    assert stat.S_IMODE((tmp_path / "f").stat().st_mode) == 0o640


@pytest.mark.usefixtures("umask")
def test_a_replaced_file_keeps_its_mode(tmp_path):
    path = tmp_path / "f"
    path.write_text("old")
    path.chmod(0o604)
    write_beside(path, "new")
    assert stat.S_IMODE(path.stat().st_mode) == 0o604


def test_a_link_stays_a_link(tmp_path):
    (tmp_path / "there").mkdir()
    target, link = tmp_path / "there" / "real", tmp_path / "link"
    link.symlink_to(target)
    for content in ("new", "newer"):
        write_beside(link, content)
        assert link.is_symlink()
        assert target.read_text() == content


def test_a_folder_is_refused(tmp_path):
    with pytest.raises(IsADirectoryError, match=rf"is a folder, expected a file: '{tmp_path}'"):
        write_beside(tmp_path, "x")


def test_a_missing_folder_is_told_with_the_name_that_the_user_gave(tmp_path):
    path = tmp_path / "no" / "f"
    with pytest.raises(FileNotFoundError) as error:
        write_beside(path, "x")
    assert error.value.filename == str(path)


def test_a_pipe_is_written_straight(tmp_path):
    path = tmp_path / "pipe"
    os.mkfifo(path)
    read = []
    reader = threading.Thread(target=lambda: read.append(path.read_text()))
    reader.start()
    write_beside(path, "through")
    reader.join()
    assert read == ["through"]
    assert stat.S_ISFIFO(path.stat().st_mode)


@pytest.mark.parametrize("target", ["-", "/dev/stdout", "/dev/fd/1", "/dev/stderr", "/dev/null"])
@pytest.mark.parametrize("redirected", [True, False])
def test_standard_streams_and_devices_are_written_straight(tmp_path, target, redirected):
    code = f"""
from pathlib import Path
from syncer.observe.files import write_beside
print("before", flush="{target}".startswith("/dev/fd"))
write_beside(Path("{target}"), "content ")
print("after")
"""
    with (tmp_path / "out").open("w") as file:
        out = subprocess.run(
            [sys.executable, "-c", code],
            stdout=file if redirected else subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            check=True,
        )
    told = (tmp_path / "out").read_text() if redirected else out.stdout
    said = "content " if target in ("-", "/dev/stdout", "/dev/fd/1") else ""
    if redirected and target == "/dev/fd/1":
        return  # opened again, the file has a position of its own: nothing to promise
    assert told == f"before\n{said}after\n"
    assert out.stderr == ("content " if target == "/dev/stderr" else "")
    assert names_in(tmp_path) == ["out"]
