"""Which layers of a manifest may hold signatures of an image, in the formats of cosign. Pure data."""

import base64
import binascii
from collections.abc import Iterator
from typing import Any, TypeVar

import msgspec

from syncer.oci.digest import Digest, InvalidDigest
from syncer.oci.referrers import COSIGN_TYPES

SIMPLE_SIGNING = "application/vnd.dev.cosign.simplesigning.v1+json"
BUNDLE_PREFIX = "application/vnd.dev.sigstore.bundle"
SIGNATURE_ANNOTATION = "dev.cosignproject.cosign/signature"
SIGNATURE_TAG_TYPE = COSIGN_TYPES[".sig"]

T = TypeVar("T")


def may_be_signature(artifact_type: str) -> bool:
    """Return whether a referrer of this artifact type may hold a signature. It may if it has no type."""
    return artifact_type in {"", SIGNATURE_TAG_TYPE} or artifact_type.startswith(BUNDLE_PREFIX)


class SignatureLayer(msgspec.Struct, frozen=True):
    """A layer that may hold a signature. `signature` is set if it is not in the content of the layer."""

    media_type: str
    digest: Digest
    size: int
    signature: bytes = b""


class _Layer(msgspec.Struct, rename="camel"):
    media_type: str = ""
    digest: str = ""
    size: int = -1
    annotations: dict[str, Any] | None = None


class _Manifest(msgspec.Struct):
    layers: list[_Layer] | None = None


def signature_layers(manifest: bytes) -> Iterator[SignatureLayer]:
    """Yield the layers of a manifest that may hold a signature. Yield nothing if the manifest cannot be parsed."""
    parsed = decode(manifest, _Manifest)
    for layer in (parsed.layers or ()) if parsed else ():
        try:
            digest = Digest.parse(layer.digest)
        except InvalidDigest:
            continue
        if layer.media_type == SIMPLE_SIGNING:
            signature = from_base64((layer.annotations or {}).get(SIGNATURE_ANNOTATION))
            if signature:
                yield SignatureLayer(layer.media_type, digest, layer.size, signature)
        elif layer.media_type.startswith(BUNDLE_PREFIX):
            yield SignatureLayer(layer.media_type, digest, layer.size)


def decode(content: bytes, kind: type[T]) -> T | None:
    """Return a JSON document as `kind`, or None if it is none."""
    try:
        return msgspec.json.decode(content, type=kind)
    except (msgspec.MsgspecError, RecursionError, ValueError):
        return None


def from_base64(text: object) -> bytes:
    """Return the bytes of a base64 text; none if it is not valid."""
    if not isinstance(text, str):
        return b""
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return b""
