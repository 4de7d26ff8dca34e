"""Names of referrer tags, and the index of a fallback tag."""

from typing import Any

import msgspec
import pytest

from syncer.oci import media_types, referrers
from syncer.oci.descriptor import Descriptor
from syncer.oci.digest import Digest
from syncer.oci.manifest import parse_manifest
from syncer.oci.referrers import (
    TooManyReferrers,
    cosign_tags,
    fallback_tag,
    is_fallback_tag,
    is_referrer_tag,
    merge_referrers,
)

SUBJECTS = [Digest.of(b"subject", algorithm) for algorithm in ("sha256", "sha384", "sha512")]


def entry(content: bytes) -> Descriptor:
    return Descriptor(media_types.OCI_MANIFEST, Digest.of(content), len(content), artifact_type="text/plain")


def test_the_fallback_tag_has_at_most_64_hex_digits():
    assert [fallback_tag(each) for each in SUBJECTS] == [
        f"{each.algorithm}-{each.hex[:64]}" for each in SUBJECTS
    ]


@pytest.mark.parametrize("subject", SUBJECTS)
def test_tags_of_referrers_are_recognized(subject):
    assert is_fallback_tag(fallback_tag(subject))
    assert all(is_referrer_tag(tag) and not is_fallback_tag(tag) for tag in cosign_tags(subject))


@pytest.mark.parametrize(
    "tag", ["latest", "sha256-abc", f"sha256-{'a' * 65}", f"sha256-{'a' * 64}.txt", f"v{'a' * 64}"]
)
def test_other_tags_are_no_tags_of_referrers(tag):
    assert not is_referrer_tag(tag)


def test_merging_keeps_all_fields_of_listed_entries():
    written: dict[str, Any] = {
        "schemaVersion": 2,
        "mediaType": media_types.OCI_INDEX,
        "manifests": [
            {"mediaType": media_types.OCI_MANIFEST, "digest": str(Digest.of(b"1")), "size": 1, "x": "y"}
        ],
        "annotations": {"a": "b"},
    }
    listed = parse_manifest(msgspec.json.encode(written))
    merged = merge_referrers(listed, [entry(b"1"), entry(b"2"), entry(b"2")])
    document = msgspec.json.decode(merged.raw)
    assert document["manifests"][0] == written["manifests"][0]
    assert [child.digest for child in merged.children] == [Digest.of(b"1"), Digest.of(b"2")]
    assert document["annotations"] == written["annotations"]


def test_too_many_entries_are_refused(monkeypatch):
    monkeypatch.setattr(referrers, "MAX_REFERRERS", 1)
    with pytest.raises(TooManyReferrers):
        merge_referrers(None, [entry(b"1"), entry(b"2")])
