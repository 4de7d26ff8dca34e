"""Contents files: what an archive holds, and what the archives before it hold.

A contents file is JSON. `blobs` are the digests that the archive holds, with their sizes in bytes and, for volumes, the file
that has them. `earlier` are those that earlier archives hold, with the name of the archive. `references` are the images,
and `earlierReferences` those of earlier archives.
"""

from collections.abc import Iterable
from pathlib import Path

import msgspec

from syncer.files import read_bytes
from syncer.oci.digest import Digest, InvalidDigest
from syncer.places.layout.archive import MAX_CONTENTS
from syncer.places.layout.archive_writer import CONTENTS_FILE


class InvalidContents(ValueError):
    """A file that is not a contents file."""


class HeldBlob(msgspec.Struct, frozen=True, omit_defaults=True):
    """One blob or manifest. `archive` is the file that holds it; empty if it is the file that the contents are about."""

    size: int
    archive: str = ""


class HeldReference(msgspec.Struct, frozen=True, rename="camel"):
    """What a reference of the archive names."""

    digest: str
    media_type: str = ""


class Contents(msgspec.Struct, frozen=True, rename="camel"):
    """What a contents file says. `volumes` are the names of the files if the archive has volumes."""

    archive: str
    references: dict[str, HeldReference] = {}
    blobs: dict[str, HeldBlob] = {}
    earlier: dict[str, HeldBlob] = {}
    earlier_references: dict[str, HeldReference] = {}
    since: tuple[str, ...] = ()
    volumes: tuple[str, ...] = ()
    schema_version: int = 1

    def holder(self, digest: str) -> str | None:
        """Return the name of the archive or volume that holds a digest, or None if that is not known."""
        if blob := self.blobs.get(digest):
            return blob.archive or self.archive
        return self.earlier[digest].archive if digest in self.earlier else None

    def write(self) -> bytes:
        return msgspec.json.format(msgspec.json.encode(self, enc_hook=str), indent=1)


_decoder = msgspec.json.Decoder(Contents)


def parse_contents(raw: bytes) -> Contents:
    """Raises `InvalidContents`."""
    try:
        contents = _decoder.decode(raw)
        for digest in (
            *contents.blobs,
            *contents.earlier,
            *(each.digest for each in contents.references.values()),
        ):
            Digest.parse(digest)
    except (msgspec.MsgspecError, RecursionError, InvalidDigest) as error:
        raise InvalidContents(str(error)[:200]) from error
    if contents.schema_version != 1:
        raise InvalidContents(f"schemaVersion {contents.schema_version} is not known to this version")
    return contents


def read_contents(path: Path) -> Contents:
    """Read a contents file. Raises `InvalidContents` and `OSError`."""
    return parse_contents(read_bytes(path, MAX_CONTENTS))


def path_for(archive: Path) -> Path:
    """Return the path of the contents file of a folder or a tar file."""
    return (
        archive.with_name(f"{archive.name}{CONTENTS_FILE}")
        if archive.name.endswith(".tar")
        else archive / CONTENTS_FILE
    )


class Earlier:
    """The blobs and manifests that earlier archives hold, according to their contents files."""

    def __init__(self, contents: Iterable[Contents] = ()) -> None:
        self.names: tuple[str, ...] = ()
        self.blobs: dict[str, HeldBlob] = {}
        self.references: dict[str, HeldReference] = {}
        for each in contents:
            self.names = tuple(dict.fromkeys((*self.names, *each.since, each.archive)))
            self.blobs |= each.earlier
            self.blobs |= {
                digest: HeldBlob(blob.size, blob.archive or each.archive)
                for digest, blob in each.blobs.items()
            }
            self.references |= each.earlier_references | each.references

    def size(self, digest: Digest) -> int | None:
        held = self.blobs.get(digest)
        return held.size if held else None
