"""Manifests and indexes: the bytes as they came, and what they refer to (image-spec, manifest.md and image-index.md)."""

import json
from typing import Any

import msgspec

from syncer.oci import media_types, schema1
from syncer.oci.descriptor import MAX_SIZE, Descriptor, Platform
from syncer.oci.digest import Digest, InvalidDigest

MAX_MANIFEST_SIZE = 4 * 1024 * 1024
"""Bytes. Registries refuse larger manifests, and so do we."""
MAX_REFERENCES = 10_000
"""Layers of one manifest, or children of one index."""


class InvalidManifest(ValueError):
    """Bytes that are no manifest, or one that refers to impossible things."""


class UnsupportedManifest(InvalidManifest):
    """A manifest of a kind that cannot be copied."""


class Manifest(msgspec.Struct, frozen=True):
    """One manifest or index.

    `raw` are the bytes as they came: they are pushed unchanged, and `digest` is theirs. `blobs` are the config
    and the layers, each digest once, without foreign layers, and what an index lists that is no manifest;
    `children` are an index's manifests;
    `config` is the config of an image and None for anything else.
    """

    raw: bytes
    media_type: str
    digest: Digest
    blobs: tuple[Descriptor, ...] = ()
    children: tuple[Descriptor, ...] = ()
    config: Descriptor | None = None
    subject: Digest | None = None
    artifact_type: str = ""
    foreign: tuple[Descriptor, ...] = ()

    @property
    def is_index(self) -> bool:
        return self.media_type in media_types.INDEXES

    def is_named_by(self, digest: Digest) -> bool:
        """Whether the digest is that of these bytes, by whatever algorithm."""
        return self.digest == digest or digest in _digests(self.raw, self.media_type, digest.algorithm)


class _Descriptor(msgspec.Struct, rename="camel"):
    digest: str
    size: int | None = None
    media_type: str | None = None
    platform: dict[str, Any] | None = None
    artifact_type: str | None = None
    urls: list[str] | None = None
    annotations: dict[str, Any] | None = None


class _FsLayer(msgspec.Struct, rename={"blob_sum": "blobSum"}):
    blob_sum: str


class _Document(msgspec.Struct, rename="camel"):
    schema_version: int | None = None
    media_type: str | None = None
    config: _Descriptor | None = None
    layers: list[_Descriptor] | None = None
    blobs: list[_Descriptor] | None = None
    manifests: list[_Descriptor] | None = None
    subject: _Descriptor | None = None
    artifact_type: str | None = None
    fs_layers: list[_FsLayer] | None = msgspec.field(name="fsLayers", default=None)
    signatures: list[Any] | None = None


_FIELDS = dict(zip(_Document.__struct_encode_fields__, _Document.__struct_fields__, strict=True))
"""By their names in JSON."""
_OF_INDEXES = {"manifests"}
_OF_MANIFESTS = {"config", "layers", "blobs"}
_OF_SCHEMA1 = {"fsLayers", "signatures"}

_KNOWN = media_types.INDEXES | media_types.MANIFESTS | media_types.SCHEMA1
_LOWER_FIELDS = frozenset(name.lower() for name in _FIELDS)
_decoder = msgspec.json.Decoder(_Document)


def parse_manifest(raw: bytes, content_type: str = "", *, expected: Digest | None = None) -> Manifest:
    """Read a manifest or index of any kind that is understood.

    `content_type` is what the registry said it is, used where the document does not say so itself. `expected` is the
    digest that it should have: `digest` is always computed from the bytes, in the algorithm of `expected`.
    Raises `InvalidManifest` and `UnsupportedManifest`.
    """
    if len(raw) > MAX_MANIFEST_SIZE:
        raise InvalidManifest(f"manifest of {len(raw)} bytes: the limit is {MAX_MANIFEST_SIZE}")
    try:
        document = _decoder.decode(raw)
        _check_names(raw)
    except (msgspec.MsgspecError, RecursionError, ValueError) as error:
        raise InvalidManifest(f"not a manifest: {str(error)[:200]}") from error
    media_type = _media_type(document, content_type.partition(";")[0].strip().lower())
    _refuse_ambiguity(document, media_type)
    digests = _digests(raw, media_type, expected.algorithm if expected else "sha256")
    actual = expected if expected in digests else digests[0]
    if media_type in media_types.SCHEMA1:
        sums = dict.fromkeys(_digest(layer.blob_sum) for layer in document.fs_layers or ())
        # Schema 1 names no sizes; -1 says so.
        blobs = tuple(Descriptor(media_type="", digest=blob, size=-1) for blob in sums)
        return Manifest(raw=raw, media_type=media_type, digest=actual, blobs=blobs)
    subject = _digest(document.subject.digest) if document.subject else None
    artifact_type = document.artifact_type or ""
    if media_type in media_types.INDEXES:
        listed = _descriptors(document.manifests)
        # BuildKit's cache is an index of layers and a config.
        others = {
            entry.digest: entry for entry in listed if not media_types.may_be_manifest(entry.media_type)
        }
        return Manifest(
            raw=raw,
            media_type=media_type,
            digest=actual,
            blobs=tuple(blob for blob in others.values() if not blob.urls),
            foreign=tuple(blob for blob in others.values() if blob.urls),
            children=tuple(entry for entry in listed if entry.digest not in others),
            subject=subject,
            artifact_type=artifact_type,
        )
    config = _descriptor(document.config) if document.config else None
    listed = [*([config] if config else ()), *_descriptors(document.layers), *_descriptors(document.blobs)]
    unique = {blob.digest: blob for blob in listed}
    return Manifest(
        raw=raw,
        media_type=media_type,
        digest=actual,
        blobs=tuple(blob for blob in unique.values() if not blob.urls),
        foreign=tuple(blob for blob in unique.values() if blob.urls),
        config=config,
        subject=subject,
        artifact_type=artifact_type,
    )


def _digests(raw: bytes, media_type: str, algorithm: str) -> tuple[Digest, ...]:
    """The digests by which registries know these bytes: that of a signed schema 1 manifest leaves signatures out."""
    whole = Digest.of(raw, algorithm)
    if media_type != media_types.DOCKER_SCHEMA1_SIGNED:
        return (whole,)
    try:
        return Digest.of(schema1.payload(raw), algorithm), whole
    except schema1.InvalidSignatures as error:
        raise InvalidManifest(str(error)) from error


def _check_names(raw: bytes) -> None:
    """Refuse a document that two readers may read in two ways: a name twice, or a known one in another case."""
    top: list[str] = []

    def check(pairs: list[tuple[str, object]]) -> None:
        top[:] = [name for name, _ in pairs]  # The outermost object comes last.
        if len(set(top)) != len(top):
            raise InvalidManifest("the document has one name twice")

    json.loads(raw.decode(), object_pairs_hook=check)
    if any(name not in _FIELDS and name.lower() in _LOWER_FIELDS for name in top):
        raise InvalidManifest("the document has one name in two spellings")


def _refuse_ambiguity(document: _Document, media_type: str) -> None:
    """Raise where a document has parts of another kind than its own: each reader would see its own (CVE-2021-41190)."""
    if media_type in media_types.INDEXES:
        others = _OF_MANIFESTS | _OF_SCHEMA1
    elif media_type in media_types.MANIFESTS:
        others = _OF_INDEXES | _OF_SCHEMA1
    else:
        others = _OF_INDEXES | _OF_MANIFESTS
    found = sorted(name for name in others if getattr(document, _FIELDS[name]) is not None)
    if found:
        raise InvalidManifest(f"ambiguous: a document of type {media_type} that has {', '.join(found)}")


def _media_type(document: _Document, content_type: str) -> str:
    stated = [text for text in (document.media_type, content_type) if text in _KNOWN]
    if len(set(stated)) > 1:
        raise InvalidManifest(f"ambiguous: it says that it is {stated[0]}, and came as {stated[1]}")
    if stated:
        kind = stated[0]
    # Neither the document nor the registry says: image-spec lets an OCI document leave mediaType out.
    elif document.schema_version == 1 and document.fs_layers is not None:
        kind = media_types.DOCKER_SCHEMA1
    elif document.schema_version == 2 and document.manifests is not None:
        kind = media_types.OCI_INDEX
    elif document.schema_version == 2 and document.config is not None:
        kind = media_types.OCI_MANIFEST
    else:
        stated_type = document.media_type or content_type or "no media type"
        raise UnsupportedManifest(f"a manifest of unknown kind ({stated_type[:100]})")
    if kind == media_types.DOCKER_SCHEMA1 and document.signatures is not None:
        return media_types.DOCKER_SCHEMA1_SIGNED
    return kind


def _descriptors(listed: list[_Descriptor] | None) -> list[Descriptor]:
    listed = listed or []
    if len(listed) > MAX_REFERENCES:
        raise InvalidManifest(
            f"a manifest that refers to {len(listed)} others: the limit is {MAX_REFERENCES}"
        )
    return [_descriptor(entry) for entry in listed]


def _descriptor(entry: _Descriptor) -> Descriptor:
    # Schema 1 converted, and some builders: no size, null or -1 is a size that is not known.
    size = -1 if entry.size is None else entry.size
    if not -1 <= size <= MAX_SIZE:
        raise InvalidManifest(f"a size of {size} bytes for {entry.digest[:100]}")
    return Descriptor(
        media_type=entry.media_type or "",
        digest=_digest(entry.digest),
        size=size,
        platform=_platform(entry.platform),
        artifact_type=entry.artifact_type or "",
        urls=tuple(entry.urls or ()),
        annotations=tuple((key, str(value)) for key, value in (entry.annotations or {}).items()),
    )


def _platform(stated: dict[str, Any] | None) -> Platform | None:
    if not stated:
        return None

    def text(key: str) -> str:
        value = stated.get(key)
        return value if isinstance(value, str) else ""

    return Platform(text("os"), text("architecture"), text("variant"), text("os.version"))


def _digest(text: str) -> Digest:
    try:
        return Digest.parse(text)
    except InvalidDigest as error:
        raise InvalidManifest(str(error)) from error
