"""Attestations in an index: the entries of platform `unknown/unknown` in which BuildKit keeps provenance and SBOMs.

See BuildKit's docs/attestations/attestation-storage.md. What follows the image-spec instead is a referrer, and no entry of
the index.
"""

from syncer.oci.descriptor import Descriptor
from syncer.oci.manifest import Manifest

_IMAGE = "vnd.docker.reference.digest"
_TYPE = "vnd.docker.reference.type"
_ATTESTATION = "attestation-manifest"
_ARTIFACT_TYPE = "application/vnd.docker.attestation.manifest.v1+json"
_IN_TOTO = "application/vnd.in-toto+json"


def is_attestation(entry: Descriptor) -> bool:
    """Whether an entry of an index is an attestation."""
    annotations = dict(entry.annotations)
    return (
        _IMAGE in annotations
        or annotations.get(_TYPE) == _ATTESTATION
        or entry.artifact_type == _ARTIFACT_TYPE
    )


def attested_digest(entry: Descriptor) -> str | None:
    """The digest of the image that an attestation belongs to; None if it names none."""
    return dict(entry.annotations).get(_IMAGE)


def has_attestations(manifest: Manifest) -> bool:
    """Whether a manifest is an index with attestations, or an attestation itself."""
    return (
        manifest.artifact_type == _ARTIFACT_TYPE
        or any(map(is_attestation, manifest.children))
        or any(blob.media_type == _IN_TOTO for blob in manifest.blobs)
    )
