"""Headers of tar files: compared with Python's tarfile, and within limits for hostile ones."""

import io
import tarfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncer.places.layout import tar_headers
from syncer.places.layout.tar_headers import (
    BLOCK,
    END,
    InvalidArchive,
    Member,
    TruncatedArchive,
    header,
    read_members,
)
from tests.support.generated import examples

names = st.text("abc/._-é", min_size=1, max_size=300).filter(
    lambda name: not name.startswith(("/", "./")) and "//" not in name and not name.endswith("/")
)
files = st.dictionaries(names, st.binary(max_size=1500), max_size=5)


def members(raw: bytes) -> list[Member]:
    return list(read_members(lambda offset, length: raw[offset : offset + length]))


def packed(content: dict[str, bytes], form: int) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=form) as archive:
        for name, data in content.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return stream.getvalue()


@examples(100)
@given(files, st.sampled_from([tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]))
def test_members_are_those_that_tarfile_wrote(content, form):
    raw = packed(content, form)
    found = members(raw)
    assert [(each.name, raw[each.start : each.start + each.size]) for each in found] == list(content.items())


@examples(200)
@given(st.binary(max_size=3000), files)
def test_damaged_archive_is_refused_or_read_within_its_limits(noise, content):
    raw = bytearray(packed(content, tarfile.PAX_FORMAT))
    raw[: len(noise) : 7] = noise[: len(raw[: len(noise) : 7])]
    try:
        found = members(bytes(raw))
    except InvalidArchive:
        return
    assert all(each.size >= 0 and each.start > 0 for each in found)


def test_size_of_more_than_8_gib_is_read_as_it_was_written():
    size = 20 * 1024**3 + 5
    block = header("blobs/sha256/a", size)

    def read(offset: int, length: int) -> bytes:
        start = BLOCK + -(-size // BLOCK) * BLOCK
        return block if offset == 0 else END[:length] if offset == start else b""

    assert list(read_members(read)) == [Member("blobs/sha256/a", BLOCK, size)]


@pytest.mark.parametrize("size", [3, 20 * 1024**3])
def test_header_tells_the_repository_of_a_blob(size):
    block = header("blobs/sha256/a", size, "quay.io/acme/app")

    def read(offset: int, length: int) -> bytes:
        return block[offset : offset + length] if offset < len(block) else END[:length]

    assert list(read_members(read)) == [Member("blobs/sha256/a", len(block), size, "quay.io/acme/app")]


def test_links_and_folders_are_not_content():
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE):
            info = tarfile.TarInfo("index.json")
            info.type, info.linkname = kind, "/etc/passwd"
            archive.addfile(info)
    assert members(stream.getvalue()) == []


@pytest.mark.parametrize("length", [0, 1, BLOCK - 1, BLOCK, BLOCK + 3, 2 * BLOCK, 3 * BLOCK - 1])
def test_archive_without_its_end_is_truncated(length):
    raw = header("a", 3) + b"abc".ljust(BLOCK, b"\0") + END
    with pytest.raises(TruncatedArchive):
        members(raw[:length])


def test_huge_extended_header_is_refused_before_it_is_read():
    info = tarfile.TarInfo("x")
    info.type, info.size = tarfile.XHDTYPE, tar_headers.MAX_EXTENDED + 1
    asked = []

    def read(offset: int, length: int) -> bytes:
        asked.append(length)
        return info.tobuf() if offset == 0 else b""

    with pytest.raises(InvalidArchive, match="extended header"):
        list(read_members(read))
    assert max(asked) == BLOCK


def test_endless_members_are_refused(monkeypatch):
    monkeypatch.setattr(tar_headers, "MAX_MEMBERS", 10)
    with pytest.raises(InvalidArchive, match="more than 10 members"):
        list(read_members(lambda _offset, _length: header("a", 0)))


def test_compressed_archive_is_named_as_such():
    with pytest.raises(InvalidArchive, match="decompress"):
        members(b"\x1f\x8b" + bytes(600))
