"""Manifests and indexes: their raw bytes and the descriptors they contain (image-spec, manifest.md and image-index.md)."""

import json
from typing import Any

import msgspec

from syncer.oci import media_types
from syncer.oci.descriptor import MAX_SIZE, Descriptor, Platform
from syncer.oci.digest import Digest, InvalidDigest

MAX_MANIFEST_SIZE = 4 * 1024 * 1024
"""Bytes. Registries refuse larger manifests, too."""
MAX_REFERENCES = 10_000
"""Layers of one manifest, or children of one index."""


class InvalidManifest(ValueError):
    """Bytes that are not a valid manifest."""


class UnsupportedManifest(InvalidManifest):
    """A manifest with a media type that cannot be copied."""


class Manifest(msgspec.Struct, frozen=True):
    """One manifest or index.

    - `raw`: the bytes as received. They are pushed unchanged.
    - `digest`: the digest of `raw`.
    - `blobs`: the config and the layers without foreign layers, or the entries of an index that are not manifests. Each
      digest occurs once.
    - `children`: the manifests of an index.
    - `config`: the config of an image; None for other manifests.
    - `foreign`: the blobs that have `urls`. They are not copied.
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
        """Return whether `digest` is the digest of these bytes, with any algorithm."""
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
"""Attribute names by JSON names."""
_OF_INDEXES = {"manifests"}
_OF_MANIFESTS = {"config", "layers", "blobs"}
_OF_SCHEMA1 = {"fsLayers", "signatures"}

_KNOWN = media_types.INDEXES | media_types.MANIFESTS | media_types.SCHEMA1
_LOWER_FIELDS = frozenset(name.lower() for name in _FIELDS)
_decoder = msgspec.json.Decoder(_Document)


def parse_manifest(raw: bytes, content_type: str = "", *, expected: Digest | None = None) -> Manifest:
    """Parse a manifest or index of any supported media type.

    `content_type` is the Content-Type of the response. It is used if the document has no `mediaType`. `expected` is the
    expected digest: the digest is always computed from the bytes, with the algorithm of `expected`. Raise
    `InvalidManifest` if the document is invalid or ambiguous, and `UnsupportedManifest` if its type is unknown.
    """
    if len(raw) > MAX_MANIFEST_SIZE:
        raise InvalidManifest(f"manifest has {len(raw)} bytes; the limit is {MAX_MANIFEST_SIZE}")
    try:
        document = _decoder.decode(raw)
        _check_names(raw)
    except (msgspec.MsgspecError, RecursionError, ValueError) as error:
        raise InvalidManifest(f"invalid manifest: {str(error)[:200]}") from error
    media_type = _media_type(document, content_type.partition(";")[0].strip().lower())
    _refuse_ambiguity(document, media_type)
    digests = _digests(raw, media_type, expected.algorithm if expected else "sha256")
    actual = expected if expected in digests else digests[0]
    if media_type in media_types.SCHEMA1:
        sums = dict.fromkeys(_digest(layer.blob_sum) for layer in document.fs_layers or ())
        # Schema 1 has no sizes; -1 means unknown.
        blobs = tuple(Descriptor(media_type="", digest=blob, size=-1) for blob in sums)
        return Manifest(raw=raw, media_type=media_type, digest=actual, blobs=blobs)
    subject = _digest(document.subject.digest) if document.subject else None
    artifact_type = document.artifact_type or ""
    if media_type in media_types.INDEXES:
        listed = _descriptors(document.manifests)
        # A BuildKit cache is an index of layers and a config.
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
    """Return the valid digests of these bytes. The digest of a signed schema 1 manifest excludes its signatures."""
    whole = Digest.of(raw, algorithm)
    if media_type != media_types.DOCKER_SCHEMA1_SIGNED:
        return (whole,)
    from syncer.oci import schema1

    try:
        return Digest.of(schema1.payload(raw), algorithm), whole
    except schema1.InvalidSignatures as error:
        raise InvalidManifest(str(error)) from error


def _check_names(raw: bytes) -> None:
    """Raise `InvalidManifest` if parsers could disagree: a name occurs twice, or a known name in another case."""
    top: list[str] = []

    def check(pairs: list[tuple[str, object]]) -> None:
        top[:] = [name for name, _ in pairs]  # The outermost object comes last.
        if len(set(top)) != len(top):
            raise InvalidManifest("the document has a duplicate name")

    json.loads(raw.decode(), object_pairs_hook=check)
    if any(name not in _FIELDS and name.lower() in _LOWER_FIELDS for name in top):
        raise InvalidManifest("the document has a known name in a different case")


def _refuse_ambiguity(document: _Document, media_type: str) -> None:
    """Raise `InvalidManifest` if a document has fields of another manifest type (CVE-2021-41190)."""
    if media_type in media_types.INDEXES:
        others = _OF_MANIFESTS | _OF_SCHEMA1
    elif media_type in media_types.MANIFESTS:
        others = _OF_INDEXES | _OF_SCHEMA1
    else:
        others = _OF_INDEXES | _OF_MANIFESTS
    found = sorted(name for name in others if getattr(document, _FIELDS[name]) is not None)
    if found:
        raise InvalidManifest(f"ambiguous manifest: type {media_type} with {', '.join(found)}")


def _media_type(document: _Document, content_type: str) -> str:
    stated = [text for text in (document.media_type, content_type) if text in _KNOWN]
    if len(set(stated)) > 1:
        raise InvalidManifest(
            f"ambiguous manifest: mediaType is {stated[0]}, but Content-Type is {stated[1]}"
        )
    if stated:
        kind = stated[0]
    # Neither the document nor the response has a known type: mediaType is optional in the image-spec.
    elif document.schema_version == 1 and document.fs_layers is not None:
        kind = media_types.DOCKER_SCHEMA1
    elif document.schema_version == 2 and document.manifests is not None:
        kind = media_types.OCI_INDEX
    elif document.schema_version == 2 and document.config is not None:
        kind = media_types.OCI_MANIFEST
    else:
        stated_type = document.media_type or content_type or "no media type"
        raise UnsupportedManifest(f"unknown manifest type ({stated_type[:100]})")
    if kind == media_types.DOCKER_SCHEMA1 and document.signatures is not None:
        return media_types.DOCKER_SCHEMA1_SIGNED
    return kind


def _descriptors(listed: list[_Descriptor] | None) -> list[Descriptor]:
    listed = listed or []
    if len(listed) > MAX_REFERENCES:
        raise InvalidManifest(f"manifest has {len(listed)} descriptors; the limit is {MAX_REFERENCES}")
    return [_descriptor(entry) for entry in listed]


def _descriptor(entry: _Descriptor) -> Descriptor:
    # Some builders and converted schema 1 images have no size, null or -1: the size is unknown.
    size = -1 if entry.size is None else entry.size
    if not -1 <= size <= MAX_SIZE:
        raise InvalidManifest(f"invalid size {size} for {entry.digest[:100]}")
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
