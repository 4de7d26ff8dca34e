"""Manifests: read in one way only, with a digest that is always of their own bytes."""

import json

import pytest

from syncer.oci import media_types
from syncer.oci.digest import Digest
from syncer.oci.manifest import InvalidManifest, parse_manifest
from tests.support.schema1 import sign

DIGEST = f"sha256:{'1' * 64}"
OTHER = f"sha256:{'2' * 64}"
DESCRIPTOR = {"mediaType": "a/b", "digest": DIGEST, "size": 5}
MANIFEST = {"schemaVersion": 2, "config": DESCRIPTOR, "layers": [{**DESCRIPTOR, "digest": OTHER}]}
INDEX = {"schemaVersion": 2, "manifests": [DESCRIPTOR]}
SCHEMA1 = {"schemaVersion": 1, "fsLayers": [{"blobSum": DIGEST}], "history": []}
SIGNED = media_types.DOCKER_SCHEMA1_SIGNED
PAYLOAD = json.dumps(SCHEMA1, indent=3).encode()


def raw(document, **more) -> bytes:
    return json.dumps({**document, **more}).encode()


@pytest.mark.parametrize("algorithm", ["sha256", "sha384", "sha512"])
def test_the_digest_is_computed_in_the_algorithm_of_the_expected_one(algorithm):
    content = raw(MANIFEST)
    expected = Digest.of(b"something else", algorithm)
    assert parse_manifest(content, expected=expected).digest == Digest.of(content, algorithm)


@pytest.mark.parametrize("algorithm", ["sha256", "sha384", "sha512"])
@pytest.mark.parametrize("kind", [SIGNED, media_types.DOCKER_SCHEMA1, "application/json"])
def test_the_digest_of_a_signed_manifest_is_that_of_its_payload(algorithm, kind):
    expected = Digest.of(PAYLOAD, algorithm)
    manifest = parse_manifest(sign(PAYLOAD), kind, expected=expected)
    assert (manifest.digest, manifest.media_type) == (expected, SIGNED)
    assert manifest.is_named_by(Digest.of(PAYLOAD))
    assert not manifest.is_named_by(Digest.of(b"", algorithm))


def test_a_registry_may_know_a_signed_manifest_by_all_of_its_bytes():
    content = sign(PAYLOAD)
    assert parse_manifest(content, SIGNED, expected=Digest.of(content)).digest == Digest.of(content)
    assert parse_manifest(content, SIGNED).digest == Digest.of(PAYLOAD)


HOSTILE = {
    "no signatures": PAYLOAD,
    "an image called signed": raw(MANIFEST),
    "no signature": raw(SCHEMA1, signatures=[]),
    "nothing in the signature": raw(SCHEMA1, signatures=[{}]),
    "a length beyond the text": sign(PAYLOAD, formatLength=10_000),
    "no length": sign(PAYLOAD, formatLength=0),
    "a negative length": sign(PAYLOAD, formatLength=-5),
    "a tail with members": sign(PAYLOAD, formatTail="LCAiYSI6IDF9"),
    "a tail that is no text": sign(PAYLOAD, formatTail="***"),
    "layers behind the payload": sign(PAYLOAD)[:-2] + b',"fsLayers":[{"blobSum":"' + OTHER.encode() + b'"}]}',
    "members behind the payload": sign(PAYLOAD)[:-2] + b',"name":"x"}',
    "two lists of signatures": sign(sign(PAYLOAD)),
}


@pytest.mark.parametrize("content", HOSTILE.values(), ids=HOSTILE.keys())
@pytest.mark.parametrize("expected", [None, Digest.of(PAYLOAD)], ids=["unknown", "pinned"])
def test_a_signed_manifest_that_says_more_than_its_payload_is_refused(content, expected):
    with pytest.raises(InvalidManifest):
        parse_manifest(content, SIGNED, expected=expected)


AMBIGUOUS = {
    "layers in an index": (raw(INDEX, layers=[DESCRIPTOR]), ""),
    "a config in an index": (raw(INDEX, config=DESCRIPTOR), media_types.OCI_INDEX),
    "no layers in an index": (raw(INDEX, layers=[]), media_types.DOCKER_INDEX),
    "blobs in an index": (raw(INDEX, blobs=[DESCRIPTOR]), media_types.OCI_INDEX),
    "children in an image": (raw(MANIFEST, manifests=[DESCRIPTOR]), media_types.OCI_MANIFEST),
    "an index that came as an image": (raw(INDEX), media_types.OCI_MANIFEST),
    "an image that came as an index": (raw(MANIFEST), media_types.DOCKER_INDEX),
    "an image that came as schema 1": (raw(MANIFEST), media_types.DOCKER_SCHEMA1),
    "schema 1 that came as an image": (raw(SCHEMA1), media_types.DOCKER_MANIFEST),
    "schema 1 layers in an image": (raw(MANIFEST, fsLayers=[]), media_types.OCI_MANIFEST),
    "it says image and came as an index": (
        raw(MANIFEST, mediaType=media_types.OCI_MANIFEST),
        media_types.OCI_INDEX,
    ),
    "it says OCI and came as Docker's": (
        raw(MANIFEST, mediaType=media_types.OCI_MANIFEST),
        media_types.DOCKER_MANIFEST,
    ),
    "layers twice": (raw(MANIFEST)[:-1] + b', "layers": []}', media_types.OCI_MANIFEST),
    "a digest twice": (raw(MANIFEST).replace(b'"size": 5', b'"size": 5, "size": 6'), ""),
    "a name in another case": (raw(MANIFEST, Layers=[]), media_types.OCI_MANIFEST),
}


@pytest.mark.parametrize(("content", "kind"), AMBIGUOUS.values(), ids=AMBIGUOUS.keys())
def test_a_document_that_can_be_read_in_two_ways_is_refused(content, kind):
    with pytest.raises(InvalidManifest, match=r"ambiguous|one name"):
        parse_manifest(content, kind)


@pytest.mark.parametrize(
    "kind", ["", "application/json", "text/plain; charset=utf-8", "application/octet-stream"]
)
@pytest.mark.parametrize("stated", [media_types.OCI_MANIFEST, media_types.DOCKER_MANIFEST, None])
def test_a_content_type_that_says_nothing_contradicts_nothing(kind, stated):
    manifest = parse_manifest(raw(MANIFEST, mediaType=stated), kind)
    assert manifest.media_type == (stated or media_types.OCI_MANIFEST)


def test_what_is_null_is_as_what_is_absent():
    nothing = dict.fromkeys(["manifests", "blobs", "subject", "artifactType", "fsLayers", "signatures"])
    sparse = dict.fromkeys(["mediaType", "platform", "urls", "annotations", "artifactType"])
    document = {**MANIFEST, **nothing, "layers": [{**DESCRIPTOR, **sparse}]}
    assert parse_manifest(raw(document)).blobs[0].media_type in {"", "a/b"}
    assert parse_manifest(raw({**INDEX, "config": None, "layers": None})).is_index


@pytest.mark.parametrize("size", [-1, None, "absent"])
@pytest.mark.parametrize("where", ["config", "layers", "manifests"])
def test_a_size_that_is_not_stated_is_unknown(size, where):
    entry = {**DESCRIPTOR, "size": size}
    if size == "absent":
        del entry["size"]
    document = {**INDEX, where: [entry]} if where == "manifests" else {**MANIFEST, where: entry}
    document |= {"layers": [entry]} if where == "layers" else {}
    manifest = parse_manifest(raw(document))
    assert -1 in {part.size for part in (*manifest.blobs, *manifest.children)}


@pytest.mark.parametrize("size", [-2, 2**60])
def test_a_size_that_is_none_is_told(size):
    with pytest.raises(InvalidManifest, match=f"a size of {size} bytes"):
        parse_manifest(raw({**INDEX, "manifests": [{**DESCRIPTOR, "size": size}]}))
