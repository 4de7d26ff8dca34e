"""Archives that are written: several blobs at once, in volumes, and again after an interruption."""

import subprocess

import pytest

from syncer.oci.digest import Digest
from syncer.places.layout.archive import ArchiveStore
from syncer.places.layout.archive_writer import ArchiveWriter

ONE, TWO, THREE = (bytes([number]) * 3000 for number in (1, 2, 3))


def put(archive: ArchiveWriter, content: bytes, *, pieces: int = 1) -> bool:
    writer = archive.begin(Digest.of(content), len(content))
    step = len(content) // pieces
    for start in range(0, len(content), step):
        writer.write([content[start : start + step]])
    try:
        return writer.commit()
    finally:
        writer.close()


def finish(archive: ArchiveWriter) -> list[str]:
    archive.finish(lambda files: str(list(files)).encode(), lambda files: b"note")
    archive.close()
    return list(archive.files)


def held(path) -> set[bytes]:
    store = ArchiveStore(path, "")
    assert not store.problem
    contents = set()
    for digest, member in store.blobs.items():
        with store.open(digest) as blob:
            content = blob.read(0, member.size)
        assert Digest.of(content) == digest
        contents.add(content)
    store.close()
    return contents


@pytest.fixture
def path(tmp_path):
    return tmp_path / "a.tar"


def opened(path, **options) -> ArchiveWriter:
    archive = ArchiveWriter(path, "", **options)
    archive.resume()
    return archive


def test_blobs_that_are_written_at_once_do_not_mix(path):
    archive = opened(path)
    writers = [(archive.begin(Digest.of(each), len(each)), each) for each in (ONE, TWO)]
    for start in range(0, 3000, 1000):
        for writer, content in writers:
            writer.write([content[start : start + 1000]])
    for writer, _ in writers:
        assert writer.commit()
        writer.close()
    assert put(archive, THREE)
    finish(archive)
    assert held(path) == {ONE, TWO, THREE}
    listed = subprocess.run(["tar", "tf", path], capture_output=True, text=True, check=True).stdout.split()
    assert listed[0] == "oci-layout"
    assert listed[-1] == "index.json"
    assert not path.with_name("a.tar.tmp").exists()


def test_nothing_is_at_the_path_before_the_end(path):
    archive = opened(path)
    put(archive, ONE)
    archive.close()
    assert not path.exists()


def test_wrong_content_is_not_stored_and_its_space_is_used_again(path):
    archive = opened(path)
    writer = archive.begin(Digest.of(ONE), len(ONE))
    writer.write([TWO])
    assert not writer.commit()
    writer.close()
    assert archive.size(Digest.of(ONE)) is None
    put(archive, ONE)
    finish(archive)
    assert held(path) == {ONE}
    assert path.stat().st_size < 2 * len(ONE) + 6000


def test_space_that_nobody_fills_is_no_blob(path):
    archive = opened(path)
    archive.begin(Digest.of(ONE), len(ONE)).close()
    put(archive, TWO)
    finish(archive)
    assert held(path) == {TWO}


@pytest.mark.parametrize("lost", [0, 1, 100, 3000, 3500, 4000, 7000])
def test_interrupted_archive_is_continued_with_what_is_verified(path, lost):
    archive = opened(path)
    put(archive, ONE)
    put(archive, TWO)
    archive.close()
    partial = path.with_name("a.tar.tmp")
    with partial.open("r+b") as file:
        file.truncate(max(partial.stat().st_size - lost, 0))
    archive = opened(path)
    assert (archive.size(Digest.of(TWO)) is None) == (lost > 0)
    put(archive, TWO)
    put(archive, ONE)
    put(archive, THREE)
    finish(archive)
    assert held(path) == {ONE, TWO, THREE}


def test_damaged_content_of_an_interrupted_run_is_written_again(path):
    archive = opened(path)
    put(archive, ONE)
    archive.close()
    with path.with_name("a.tar.tmp").open("r+b") as file:
        file.seek(-2000, 2)
        file.write(b"x")
    archive = opened(path)
    assert archive.size(Digest.of(ONE)) is None
    put(archive, ONE)
    finish(archive)
    assert held(path) == {ONE}


def test_run_that_was_interrupted_while_it_finished_is_continued(path):
    archive = opened(path)
    put(archive, ONE)
    finish(archive)
    path.rename(path.with_name("a.tar.tmp"))
    archive = opened(path)
    put(archive, TWO)
    finish(archive)
    assert held(path) == {ONE, TWO}
    names = subprocess.run(["tar", "tf", path], capture_output=True, text=True, check=True).stdout.split()
    assert names.count("index.json") == 1


def test_second_writer_of_an_archive_is_refused(path):
    archive = opened(path)
    with pytest.raises(BlockingIOError):
        opened(path)
    archive.close()


def test_volumes_keep_to_their_size_and_the_last_has_the_index(path):
    limit = 5 * 3000 + 40_000
    archive = opened(path, volume_size=limit)
    contents = [bytes([number]) * 3000 for number in range(20)]
    for content in contents:
        put(archive, content)
    files = finish(archive)
    assert files == [f"a.{number}.tar" for number in range(len(files))]
    assert len(files) > 2
    found: set[bytes] = set()
    for name in files:
        volume = path.with_name(name)
        assert volume.stat().st_size <= limit
        found |= held(volume)
        store = ArchiveStore(volume, "")
        expected = str(files).encode() if name == files[-1] else b"note"
        assert store.read_file(".contents.json", 10_000) == expected
        store.close()
    assert found == set(contents)


def test_blob_larger_than_a_volume_is_refused(path):
    archive = opened(path, volume_size=100_000)
    with pytest.raises(OSError, match="does not fit"):
        archive.begin(Digest.of(ONE), 200_000)
    put(archive, ONE)
    assert finish(archive) == ["a.0.tar"]


def test_volumes_of_an_earlier_archive_are_removed(path):
    path.with_name("a.1.tar").write_bytes(b"old")
    archive = opened(path, volume_size=1_000_000)
    put(archive, ONE)
    finish(archive)
    assert [each.name for each in path.parent.glob("a*")] == ["a.0.tar"]
