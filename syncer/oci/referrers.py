"""Names and lists of referrers: the referrers tag schema (distribution-spec 1.1) and the tags of cosign. Pure data."""

from collections.abc import Iterable, Sequence

import msgspec

from syncer.lazy_pattern import lazy_pattern
from syncer.oci import media_types
from syncer.oci.descriptor import Descriptor
from syncer.oci.digest import Digest, InvalidDigest
from syncer.oci.manifest import Manifest, parse_manifest

MAX_REFERRERS = 10_000
"""Referrers of one manifest."""
COSIGN_TYPES = {
    ".sig": "application/vnd.dev.cosign.artifact.sig.v1+json",
    ".att": "application/vnd.dev.cosign.artifact.att.v1+json",
    ".sbom": "application/vnd.dev.cosign.artifact.sbom.v1+json",
}
"""The suffixes of cosign's tags, and the artifact types that cosign gives to the same content if it is a referrer."""
_REFERRER_TAG = lazy_pattern(
    r"(?:sha256-[0-9a-f]{64}|sha384-[0-9a-f]{96}|sha512-[0-9a-f]{128})(?:\.(?:sig|att|sbom))?"
    r"|sha(?:384|512)-[0-9a-f]{64}"
)
"""Fallback tags have at most 64 hex digits. Those of cosign have all."""


class TooManyReferrers(ValueError):
    """A list of referrers that exceeds a limit."""


def fallback_tag(subject: Digest) -> str:
    """Return the tag that lists the referrers of a manifest (distribution-spec 1.1, "Referrers Tag Schema")."""
    return f"{subject.algorithm[:32]}-{subject.hex[:64]}"


def cosign_tags(subject: Digest) -> dict[str, str]:
    """Return the tags that cosign writes for a manifest, with the artifact type of each."""
    name = f"{subject.algorithm}-{subject.hex}"
    return {f"{name}{suffix}": artifact_type for suffix, artifact_type in COSIGN_TYPES.items()}


def is_referrer_tag(tag: str) -> bool:
    """Return whether a tag is a fallback tag or one of cosign's: its content belongs to another manifest."""
    return _REFERRER_TAG.fullmatch(tag) is not None


def is_fallback_tag(tag: str) -> bool:
    """Return whether a tag lists the referrers of a manifest."""
    return is_referrer_tag(tag) and "." not in tag


def subject_of(tag: str) -> Digest | None:
    """Return the digest of the manifest that a fallback tag is for; None if the tag has only a part of it."""
    try:
        return Digest.parse(tag.replace("-", ":", 1))
    except InvalidDigest:
        return None


def merge_referrers(listed: Manifest | None, added: Iterable[Descriptor]) -> Manifest:
    """Return the index of a fallback tag with all that it `listed`, followed by the `added` referrers that it lacks.

    The listed entries keep all their fields. Raises `TooManyReferrers` if the index exceeds a limit.
    """
    document = msgspec.json.decode(listed.raw, type=dict[str, object]) if listed else {}
    entries = document.get("manifests")
    merged: list[object] = list(entries) if isinstance(entries, list) else []
    known = {entry.digest for entry in listed.children} if listed else set()
    for descriptor in added:
        if descriptor.digest not in known:
            known.add(descriptor.digest)
            merged.append(_entry(descriptor))
    if len(merged) > MAX_REFERRERS:
        raise TooManyReferrers(f"more than {MAX_REFERRERS} referrers")
    document = {"schemaVersion": 2, "mediaType": media_types.OCI_INDEX} | document | {"manifests": merged}
    return parse_manifest(msgspec.json.encode(document), media_types.OCI_INDEX)


def lacks(listed: Sequence[Descriptor], wanted: Iterable[Descriptor]) -> list[Descriptor]:
    """Return the referrers of `wanted` that are not `listed`."""
    known = {descriptor.digest for descriptor in listed}
    return [descriptor for descriptor in wanted if descriptor.digest not in known]


def _entry(descriptor: Descriptor) -> dict[str, object]:
    entry: dict[str, object] = {
        "mediaType": descriptor.media_type,
        "digest": str(descriptor.digest),
        "size": descriptor.size,
    }
    if descriptor.artifact_type:
        entry["artifactType"] = descriptor.artifact_type
    if descriptor.annotations:
        entry["annotations"] = dict(descriptor.annotations)
    return entry
