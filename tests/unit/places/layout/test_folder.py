"""Layouts in folders: content-addressed files, and no way out of the folder."""

import os
import threading
from functools import partial

import pytest

from syncer.oci.digest import Digest
from syncer.places.layout.folder import FolderStore
from syncer.places.layout.stored import NotRegular

CONTENT = b"content" * 100
DIGEST = Digest.of(CONTENT)


@pytest.fixture
def store(tmp_path):
    return FolderStore(tmp_path / "layout", "")


def put(store: FolderStore, content: bytes, digest: Digest | None = None) -> bool:
    writer = store.begin(digest or Digest.of(content), len(content))
    writer.restart()
    writer.write([content])
    try:
        return writer.commit()
    finally:
        writer.close()


def test_blob_is_there_when_its_digest_is_verified(store, tmp_path):
    writer = store.begin(DIGEST, len(CONTENT))
    writer.write([CONTENT])
    assert store.size(DIGEST) is None
    assert writer.commit()
    writer.close()
    assert (tmp_path / "layout/blobs/sha256" / DIGEST.hex).read_bytes() == CONTENT
    assert list(store.blobs()) == [(DIGEST, len(CONTENT))]


def test_wrong_content_is_not_stored(store):
    assert not put(store, b"other" * 10, DIGEST)
    assert store.size(DIGEST) is None
    store.close()
    assert not list(store.blobs())


def test_two_writers_of_one_blob_do_not_disturb_each_other(store):
    first, second = store.begin(DIGEST, len(CONTENT)), store.begin(DIGEST, len(CONTENT))
    first.write([CONTENT[:50]])
    second.write([CONTENT])
    assert second.commit()
    first.write([CONTENT[50:]])
    assert first.commit()
    first.close()
    second.close()
    assert store.size(DIGEST) == len(CONTENT)


@pytest.mark.parametrize("where", ["blobs", "blobs/sha256"])
def test_folder_that_is_a_link_is_neither_read_nor_written(store, tmp_path, where):
    outside = tmp_path / "outside"
    (outside / "sha256").mkdir(parents=True)
    (outside / DIGEST.hex).write_bytes(CONTENT)
    (outside / "sha256" / DIGEST.hex).write_bytes(CONTENT)
    link = tmp_path / "layout" / where
    link.parent.mkdir(parents=True)
    link.symlink_to(outside)
    assert store.size(DIGEST) is None
    with pytest.raises(OSError, match=r"."):
        put(store, b"new")
    assert len(list(outside.rglob("*"))) == 3


@pytest.mark.parametrize("kind", ["link", "pipe", "folder"])
def test_blob_that_is_no_file_is_refused(store, tmp_path, kind):
    path = tmp_path / "layout/blobs/sha256" / DIGEST.hex
    path.parent.mkdir(parents=True)
    if kind == "link":
        (tmp_path / "secret").write_bytes(CONTENT)
        path.symlink_to(tmp_path / "secret")
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.mkdir()
    assert store.size(DIGEST) is None
    with pytest.raises(OSError, match=r"."):
        store.open(DIGEST)


@pytest.mark.parametrize("kind", ["link", "pipe", "huge"])
def test_index_that_is_no_reasonable_file_is_refused(store, tmp_path, kind):
    path = tmp_path / "layout/index.json"
    path.parent.mkdir()
    if kind == "link":
        path.symlink_to("/etc/hostname")
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        with path.open("wb") as file:
            file.truncate(1 << 40)
    with pytest.raises((OSError, NotRegular), match=r"."):
        store.read_index()


def test_leftovers_of_an_interrupted_run_are_removed_but_not_what_is_being_written(store, tmp_path):
    partial = tmp_path / "layout/.partial"
    writer = store.begin(DIGEST, len(CONTENT))
    (partial / "sha256-old").write_bytes(b"left")
    store.close()
    assert [path.name for path in partial.iterdir()] == [f"sha256-{DIGEST.hex}"]
    writer.close()
    store.close()
    assert not partial.exists()


def test_entries_of_concurrent_writers_are_all_kept(store):
    def write(number: int) -> None:
        other = FolderStore(store._root, "")
        for each in range(5):
            name = f"quay.io/a{number}:{each}"
            entry = b'{"annotations":{"org.opencontainers.image.ref.name":"%s"}}' % name.encode()
            other.write_index(partial(lambda added, _raw: added, {name: entry}))

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    index = store.read_index()
    assert index is not None
    assert index.count(b"ref.name") == 20
    assert {path.name for path in store._root.iterdir()} == {"index.json", "index.json.lock", "oci-layout"}
