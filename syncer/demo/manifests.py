"""Validates pushed manifests (image-spec 1.1: manifest.md, image-index.md, descriptor.md).

This module is independent of `syncer.oci.manifest`, so that the registry does not repeat a mistake of the parser that
it tests.
"""

from typing import Annotated, Any

import msgspec

from syncer.demo.errors import Refusal
from syncer.oci import media_types
from syncer.oci.descriptor import Platform
from syncer.oci.digest import Digest

MAX_SIZE = 4 * 1024 * 1024
"""Bytes. The manifest size that every registry should accept (distribution-spec 1.1, "Pushing Manifests")."""

_IMAGE, _INDEX, _SCHEMA1 = {"config", "layers"}, {"manifests"}, {"fs_layers"}
_PARTS: dict[str, set[str]] = {
    media_types.OCI_MANIFEST: _IMAGE,
    media_types.DOCKER_MANIFEST: _IMAGE,
    media_types.OCI_INDEX: _INDEX,
    media_types.DOCKER_INDEX: _INDEX,
    media_types.OCI_ARTIFACT_MANIFEST: set(),
    media_types.DOCKER_SCHEMA1: _SCHEMA1,
    media_types.DOCKER_SCHEMA1_SIGNED: _SCHEMA1,
}
"""The required fields for each media type. Fields of another media type would make a manifest ambiguous."""


class Descriptor(msgspec.Struct, frozen=True, rename="camel"):
    media_type: str
    digest: Digest
    size: Annotated[int, msgspec.Meta(ge=0)]
    platform: Platform | None = None
    urls: list[str] | None = None
    annotations: dict[str, str] = {}


class _FsLayer(msgspec.Struct, frozen=True):
    digest: Digest = msgspec.field(name="blobSum")


class Manifest(msgspec.Struct, frozen=True, rename="camel"):
    """A manifest or index as in its JSON. Use `blobs`, `children` and `subject` for its references."""

    schema_version: int = 0
    media_type: str = ""
    artifact_type: str = ""
    config: Descriptor | None = None
    layers: list[Descriptor] | None = None
    manifests: list[Descriptor] | None = None
    fs_layers: list[_FsLayer] | None = None
    artifact_blobs: list[Descriptor] = msgspec.field(name="blobs", default_factory=list)
    refers_to: Descriptor | None = msgspec.field(name="subject", default=None)
    annotations: dict[str, str] | None = None

    @property
    def subject(self) -> Digest | None:
        return self.refers_to.digest if self.refers_to else None

    @property
    def children(self) -> list[Descriptor]:
        return self.manifests or []

    @property
    def blobs(self) -> list[Descriptor]:
        """The config and layers that the repository must have, each once, without foreign layers (`urls`)."""
        config = [self.config] if self.config else []
        listed = [*config, *(self.layers or ()), *self.artifact_blobs]
        # Schema 1 has no media types and sizes.
        schema1 = (Descriptor("", layer.digest, 0) for layer in self.fs_layers or ())
        kept = (*(blob for blob in listed if not blob.urls), *schema1)
        return list({blob.digest: blob for blob in kept}.values())


def _decode(kind: type, value: Any) -> Any:
    return Digest.parse(value) if kind is Digest else value


_DECODER = msgspec.json.Decoder(Manifest, dec_hook=_decode)


def read_manifest(raw: bytes, content_type: str) -> Manifest:
    """Check a manifest that was pushed as `content_type`, which may be "". Raises `Refusal`."""
    try:
        manifest = _DECODER.decode(raw)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise Refusal("MANIFEST_INVALID", f"not a manifest: {str(error)[:200]}") from error
    present = {name for name in _IMAGE | _INDEX | _SCHEMA1 if getattr(manifest, name) is not None}
    guess = media_types.OCI_INDEX if present == _INDEX else media_types.OCI_MANIFEST
    stated = content_type.partition(";")[0].strip().lower()
    media_type = stated or manifest.media_type or guess
    if manifest.media_type not in {"", media_type}:
        raise Refusal("MANIFEST_INVALID", f"Content-Type {stated}, but a {manifest.media_type[:100]}")
    if _PARTS.get(media_type) != present:
        raise Refusal("MANIFEST_INVALID", f"the fields {sorted(present)} make no {media_type[:100]}")
    version = 1 if media_type in media_types.SCHEMA1 else 2
    if media_type != media_types.OCI_ARTIFACT_MANIFEST and manifest.schema_version != version:
        raise Refusal("MANIFEST_INVALID", f"schemaVersion {manifest.schema_version}, not {version}")
    return msgspec.structs.replace(manifest, media_type=media_type)
