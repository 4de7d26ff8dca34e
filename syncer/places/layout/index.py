"""`index.json` of a layout: which references it has, and how entries are added.

An entry is named by `org.opencontainers.image.ref.name`. This program writes the full reference, such as
`quay.io/acme/app:1.0`. Other tools write the tag alone, and containerd's `io.containerd.image.name` has the full reference.
Unknown fields and entries of other tools are kept.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from syncer.lazy_pattern import lazy_pattern
from syncer.oci import media_types
from syncer.oci.descriptor import MAX_SIZE, Descriptor
from syncer.oci.digest import Digest, InvalidDigest
from syncer.oci.manifest import Manifest
from syncer.oci.reference import InvalidReference, Reference, Repository, is_tag

LAYOUT_FILE = b'{"imageLayoutVersion":"1.0.0"}'
MAX_INDEX = 16 * 1024 * 1024
"""Bytes of `index.json`."""
MAX_ENTRIES = 50_000
_MAX_COMMAS = 20 * MAX_ENTRIES
"""In `index.json`. More would be millions of tiny values, which take much more memory than the file has bytes."""
REF_NAME = "org.opencontainers.image.ref.name"
_CONTAINERD_NAME = "io.containerd.image.name"
_NOT_IN_PATHS = lazy_pattern(r"[^a-z0-9]+")


class InvalidIndex(ValueError):
    """An `index.json` that cannot be used at all."""


class _Entry(msgspec.Struct, rename="camel"):
    media_type: Any = None
    digest: Any = None
    size: Any = None
    annotations: Any = None


class _Document(msgspec.Struct):
    manifests: list[msgspec.Raw] = []


_document = msgspec.json.Decoder(_Document)
_top_level = msgspec.json.Decoder(dict[str, msgspec.Raw])
_entry = msgspec.json.Decoder(_Entry)


class Index(msgspec.Struct, frozen=True):
    """The references of a layout: by repository, then by tag, or by digest if an entry has no tag.

    The value is a text for an entry that cannot be used: the reason. `unreadable` are the reasons for entries that do not
    tell which reference they are.
    """

    entries: Mapping[Repository, Mapping[str, Descriptor | str]] = {}
    unreadable: tuple[str, ...] = ()


def parse_index(raw: bytes, unnamed: Repository) -> Index:
    """Read `index.json`. `unnamed` is the repository of entries with only a tag. Raises `InvalidIndex`."""
    entries: dict[Repository, dict[str, Descriptor | str]] = {}
    unreadable: list[str] = []
    listed = _raw_entries(raw)
    for number, text in enumerate(listed):
        try:
            entry = _entry.decode(text)
            reference = _reference(entry, unnamed, alone=len(listed) == 1)
        except (msgspec.MsgspecError, RecursionError, InvalidReference) as error:
            unreadable.append(f"entry {number}: {str(error)[:200]}")
            continue
        if reference is None:
            continue
        known = entries.setdefault(reference.repository, {})
        found = _descriptor(entry)
        if reference.digest and isinstance(found, Descriptor) and found.digest != reference.digest:
            found = "its name has another digest"
        target = reference.tag or reference.target
        if target in known and known[target] != found:
            found = "index.json has several manifests for it"
        known[target] = found
    return Index(entries, tuple(unreadable))


def _raw_entries(raw: bytes) -> list[msgspec.Raw]:
    if raw.count(b",") > _MAX_COMMAS:
        raise InvalidIndex(f"index.json has too many values; the limit is {MAX_ENTRIES} entries")
    try:
        document = _document.decode(raw)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise InvalidIndex(f"index.json is not an image index: {str(error)[:200]}") from error
    if len(document.manifests) > MAX_ENTRIES:
        raise InvalidIndex(f"index.json has {len(document.manifests)} entries; the limit is {MAX_ENTRIES}")
    return document.manifests


def _reference(entry: _Entry, unnamed: Repository, *, alone: bool) -> Reference | None:
    """Return the reference of an entry, or None if it has no name. Raises `InvalidReference`."""
    annotations = entry.annotations if isinstance(entry.annotations, dict) else {}
    names = [name for key in (REF_NAME, _CONTAINERD_NAME) if (name := annotations.get(key))]
    if not names:
        # A layout of one image needs no name.
        return Reference(unnamed, "latest") if alone else None
    refusal = InvalidReference(f"not a reference: {str(names[0])[:200]!r}")
    for name in names:
        if not isinstance(name, str) or is_tag(name):
            continue
        try:
            reference = Reference.parse(name)
        except InvalidReference as error:
            refusal = error
        else:
            named = reference.tag or reference.digest
            return reference if named else Reference(reference.repository, "latest")
    if isinstance(names[0], str) and is_tag(names[0]):
        return Reference(unnamed, names[0])
    raise refusal


def _descriptor(entry: _Entry) -> Descriptor | str:
    try:
        digest = Digest.parse(entry.digest)
    except InvalidDigest as error:
        return str(error)
    size = -1 if entry.size is None else entry.size
    if not isinstance(size, int) or isinstance(size, bool) or not -1 <= size <= MAX_SIZE:
        return f"invalid size {str(size)[:40]}"
    media_type = entry.media_type if isinstance(entry.media_type, str) else ""
    return Descriptor(media_type, digest, size)


def unnamed_repository(stem: str) -> Repository:
    """Return the repository for images without a full name, after the name of their folder or archive."""
    return Repository("localhost", _NOT_IN_PATHS.sub("-", stem.lower()).strip("-")[:100] or "layout")


def index_entry(manifest: Manifest, name: str) -> bytes:
    """Return the entry of a manifest under a reference name."""
    return msgspec.json.encode(
        {
            "mediaType": manifest.media_type,
            "digest": str(manifest.digest),
            "size": len(manifest.raw),
            "annotations": {REF_NAME: name},
        }
    )


def merge_index(raw: bytes | None, added: Mapping[str, bytes | None]) -> bytes:
    """Return an index with the entries `added`, by reference name. They replace entries with the same name.

    None removes the entries with that name.

    Raises `InvalidIndex` if `raw` is not an index: it is not overwritten.
    """
    document: dict[str, Any] = {"schemaVersion": 2, "mediaType": media_types.OCI_INDEX}
    if raw is not None:
        listed = _raw_entries(raw)
        document.update(_top_level.decode(raw))
        kept = [entry for entry, name in zip(listed, _names(listed), strict=True) if name not in added]
    else:
        kept = []
    document["manifests"] = [*kept, *(msgspec.Raw(entry) for entry in added.values() if entry is not None)]
    merged = msgspec.json.encode(document)
    if len(merged) > MAX_INDEX or len(document["manifests"]) > MAX_ENTRIES:
        raise InvalidIndex(f"index.json would have more than {MAX_ENTRIES} entries or {MAX_INDEX} bytes")
    return merged


def _names(listed: list[msgspec.Raw]) -> Iterator[str | None]:
    for text in listed:
        try:
            annotations = _entry.decode(text).annotations
        except (msgspec.MsgspecError, RecursionError):
            annotations = None
        name = annotations.get(REF_NAME) if isinstance(annotations, dict) else None
        yield name if isinstance(name, str) else None
