"""Headers of tar files, within limits: POSIX ustar and pax, and the GNU extensions for long names and large sizes.

`tarfile` reads extended headers of any size into memory, so it is not used for reading.
"""

import io
import tarfile
from collections.abc import Callable, Iterator

import msgspec

BLOCK = 512
MAX_MEMBERS = 100_000
"""Members of one archive."""
MAX_EXTENDED = 64 * 1024
"""Bytes of an extended header."""
END = bytes(2 * BLOCK)
"""The end of an archive."""

_REPOSITORY = "SYNCER.repository"
_MAX_SIZE = 2**53
_CHECKSUM = slice(148, 156)
_REGULAR = frozenset({b"0", b"\0", b"7"})

ReadAt = Callable[[int, int], bytes]
"""Returns up to a number of bytes from an offset: first the offset, then the number."""


class InvalidArchive(ValueError):
    """Bytes that are not a tar file, or a tar file that exceeds a limit."""


class Member(msgspec.Struct, frozen=True):
    """A regular file in an archive: `size` bytes of content from `start`.

    `repository` is the name of the repository that a blob was saved for; empty if the archive does not tell.
    """

    name: str
    start: int
    size: int
    repository: str = ""

    @property
    def end(self) -> int:
        """Where the next header starts."""
        return self.start + padded(self.size)


def padded(size: int) -> int:
    """Return the space of a content in an archive, in bytes."""
    return -(-size // BLOCK) * BLOCK


def header(name: str, size: int, repository: str = "") -> bytes:
    """Return the header of a regular file, with the repository that a blob belongs to.

    Sizes of 8 GiB and more use GNU's binary form, or an extended header if there is one anyway.
    """
    info = tarfile.TarInfo(name)
    info.size = size
    info.mode = 0o644
    if not repository:
        return info.tobuf(tarfile.GNU_FORMAT)
    info.pax_headers = {_REPOSITORY: repository}
    return info.tobuf(tarfile.PAX_FORMAT)


def folder_header(name: str) -> bytes:
    info = tarfile.TarInfo(name)
    info.type = tarfile.DIRTYPE
    info.mode = 0o755
    return info.tobuf(tarfile.GNU_FORMAT)


def read_members(read: ReadAt) -> Iterator[Member]:
    """Yield the regular files of an archive. Ends at the end mark.

    Raises `InvalidArchive`, and its subclass `TruncatedArchive` if the archive ends before that.
    """
    offset, seen = 0, 0
    name, size, repository = None, None, ""  # from extended headers, for the next member
    while True:
        block = read(offset, BLOCK)
        if len(block) < BLOCK:
            raise TruncatedArchive(offset)
        if not any(block):
            return
        seen += 1
        if seen > MAX_MEMBERS:
            raise InvalidArchive(f"the archive has more than {MAX_MEMBERS} members")
        _check_sum(block, offset)
        kind, start, stated = block[156:157], offset + BLOCK, _number(block[124:136])
        if kind in b"xL":
            content = _extended(read, start, stated)
            if kind == b"L":
                name = content.rstrip(b"\0").decode("utf-8", "replace")
            else:
                records = _pax(content)
                name, size = records.get("path", name), _pax_size(records, size)
                repository = records.get(_REPOSITORY, "")
        else:
            length = stated if size is None else size
            if kind in _REGULAR:
                yield Member(_clean(name if name is not None else _name(block)), start, length, repository)
            # Links, folders and devices have no content, whatever their size says.
            stated = 0 if kind in (b"1", b"2", b"3", b"4", b"5", b"6") else length
            name, size, repository = None, None, ""
        offset = start + padded(stated)


class TruncatedArchive(InvalidArchive):
    """An archive that ends before its end mark. `offset` is where something was expected, in bytes."""

    def __init__(self, offset: int) -> None:
        super().__init__("the archive is truncated: the end is missing")
        self.offset = offset


def _extended(read: ReadAt, start: int, size: int) -> bytes:
    if size > MAX_EXTENDED:
        raise InvalidArchive(f"an extended header has {size} bytes; the limit is {MAX_EXTENDED}")
    content = read(start, size)
    if len(content) < size:
        raise TruncatedArchive(start)
    return content


def _check_sum(block: bytes, offset: int) -> None:
    stated = _number(block[_CHECKSUM])
    if stated != sum(block[:148]) + 8 * 32 + sum(block[156:]):
        hint = "; decompress it first" if offset == 0 and block[:2] in (b"\x1f\x8b", b"\x28\xb5") else ""
        raise InvalidArchive(f"not a tar file: invalid header at offset {offset}{hint}")


def _number(field: bytes) -> int:
    if field[0] & 0x80:
        value = int.from_bytes(bytes([field[0] & 0x7F]) + field[1:], "big")
    else:
        try:
            value = int(field.strip(b"\0 ") or b"0", 8)
        except ValueError as error:
            raise InvalidArchive("not a tar file: invalid number in a header") from error
    if not 0 <= value <= _MAX_SIZE:
        raise InvalidArchive("not a tar file: invalid size in a header")
    return value


def _name(block: bytes) -> str:
    name = block[:100].partition(b"\0")[0]
    prefix = block[345:500].partition(b"\0")[0] if block[257:263] == b"ustar\0" else b""
    return (prefix + b"/" + name if prefix else name).decode("utf-8", "replace")


def _clean(name: str) -> str:
    return name.removeprefix("./")


def _pax(content: bytes) -> dict[str, str]:
    """Read the records `LENGTH KEY=VALUE` of a pax header."""
    records: dict[str, str] = {}
    stream = io.BytesIO(content)
    while True:
        start = stream.tell()
        digits = stream.read(8).partition(b" ")[0]
        if not digits:
            return records
        length = int(digits) if digits.isdigit() else 0
        stream.seek(start)
        key, equals, value = stream.read(max(length, 0)).partition(b" ")[2].partition(b"=")
        if not equals:
            raise InvalidArchive("not a tar file: invalid extended header")
        records[key.decode("utf-8", "replace")] = value.removesuffix(b"\n").decode("utf-8", "replace")


def _pax_size(records: dict[str, str], size: int | None) -> int | None:
    text = records.get("size")
    if text is None:
        return size
    if not (text.isascii() and text.isdigit() and len(text) < 17):
        raise InvalidArchive("not a tar file: invalid size in an extended header")
    return int(text)
