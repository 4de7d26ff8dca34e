"""Images that must be signed: found in a tag or a referrer, checked before anything is written, with bounds."""

from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from syncer.demo.images import make_artifact, make_image, make_index, make_layer
from syncer.demo.store import Store
from syncer.engine import verification
from syncer.oci import media_types
from syncer.oci.descriptor import Descriptor
from syncer.oci.digest import Digest
from syncer.oci.referrers import cosign_tags
from tests.support.signing import BUNDLE, envelope_bundle, payload, public_pem, sign, simple_layer
from tests.support.wire import refuse

LAYER = make_layer({"a": b"b"})
KEY = ec.generate_private_key(ec.SECP256R1())
STRANGER = ec.generate_private_key(ec.SECP256R1())


@pytest.fixture
def image(source) -> Descriptor:
    return make_image(source.store, "app", "1", layers=[LAYER])


@pytest.fixture
def rule(tmp_path) -> dict[str, Any]:
    path = tmp_path / "cosign.pub"
    path.write_bytes(public_pem(KEY))
    return {"source/app:1": {"to": "destination/app", "verify": {"keys": [str(path)]}}}


def sign_in_tag(store: Store, image: Digest, signatures: Sequence[tuple[bytes, bytes]]) -> None:
    """Put the tag `.sig` of an image, with payloads and their signatures."""
    layers = [
        simple_layer(str(store.put_blob("app", content)), len(content), signature)
        for content, signature in signatures
    ]
    config = {"mediaType": media_types.OCI_CONFIG, "digest": str(store.put_blob("app", b"{}")), "size": 2}
    manifest = {"schemaVersion": 2, "mediaType": media_types.OCI_MANIFEST, "config": config, "layers": layers}
    tag = next(iter(cosign_tags(image)))
    store.put_manifest("app", msgspec.json.encode(manifest), media_types.OCI_MANIFEST, reference=tag)


def sign_in_referrer(store: Store, image: Descriptor, content: bytes) -> Descriptor:
    return make_artifact(
        store, "app", artifact_type=BUNDLE, content=content, media_type=BUNDLE, subject=image
    )


def is_untouched(registry) -> bool:
    return not [each for each in registry.requests if each.method not in {"GET", "HEAD"}]


async def is_rejected(net, rule, destination, reason: str) -> bool:
    outcome = await net.sync(rule)
    (failed,) = outcome.failed
    assert reason in failed.failure.message
    assert (failed.failure.kind, failed.failure.permanent) == ("untrusted", True)
    return is_untouched(destination)


async def test_an_image_signed_in_a_tag_is_copied(net, source, destination, image, rule):
    content = payload(image.digest)
    sign_in_tag(
        source.store, image.digest, [(content, sign(STRANGER, content)), (content, sign(KEY, content))]
    )
    assert (await net.sync(rule)).counts == (1, 0, 0)
    assert (await net.sync(rule)).counts == (0, 1, 0)


async def test_an_image_signed_in_a_referrer_is_copied(net, source, image, rule):
    sign_in_referrer(source.store, image, envelope_bundle(STRANGER, image.digest))
    sign_in_referrer(source.store, image, envelope_bundle(KEY, image.digest))
    assert (await net.sync(rule)).counts == (1, 0, 0)


async def test_the_digest_of_an_index_must_be_signed(net, source, destination, rule):
    child = make_image(source.store, "app", layers=[LAYER])
    index = make_index(source.store, "app", "1", children=[child])
    sign_in_referrer(source.store, index, envelope_bundle(KEY, child.digest))
    assert await is_rejected(net, rule, destination, "none of its signatures is valid")
    sign_in_referrer(source.store, index, envelope_bundle(KEY, index.digest))
    assert (await net.sync(rule)).counts == (1, 0, 0)


async def test_an_unsigned_image_is_not_copied(net, destination, image, rule):
    assert await is_rejected(net, rule, destination, "it has no signature for the keys of the rule (")


@pytest.mark.parametrize("kind", ["another digest", "another key", "truncated", "a changed payload"])
async def test_a_bad_signature_leaves_the_destination_as_it_is(
    net, source, destination, image, rule, *, kind
):
    other = Digest.of(b"another image")
    content = payload(other if kind == "another digest" else image.digest)
    signature = sign(STRANGER if kind == "another key" else KEY, content)
    if kind == "truncated":
        signature = signature[:-2]
    sign_in_tag(source.store, image.digest, [(content + b" " * (kind == "a changed payload"), signature)])
    named = other if kind == "another digest" else image.digest
    bundle = envelope_bundle(STRANGER if kind == "another key" else KEY, named, cut=2 * (kind == "truncated"))
    if kind != "a changed payload":
        sign_in_referrer(source.store, image, bundle)
    make_image(destination.store, "app", "1", layers=[make_layer({"old": b"image"})])
    before = destination.store.get_manifest("app", "1").digest
    assert await is_rejected(net, rule, destination, "none of its signatures is valid")
    assert destination.store.get_manifest("app", "1").digest == before


async def test_ten_thousand_signatures_are_rejected_with_few_requests(net, source, destination, image, rule):
    content = payload(image.digest)
    sign_in_tag(source.store, image.digest, [(content, b"%d" % number) for number in range(9_999)])
    assert await is_rejected(net, rule, destination, "more than 1000 signatures")
    assert len(source.requests) < 20


async def test_too_many_signed_referrers_are_rejected(net, source, destination, image, rule, *, monkeypatch):
    monkeypatch.setattr(verification, "MAX_SIGNATURES", 10)
    for number in range(30):
        sign_in_referrer(source.store, image, envelope_bundle(STRANGER, image.digest) + b" " * number)
    assert await is_rejected(net, rule, destination, "more than 10 signatures")
    assert len(source.requests) < 30


async def test_a_signature_that_is_too_large_or_missing_is_passed_over(net, source, destination, image, rule):
    sign_in_referrer(source.store, image, envelope_bundle(KEY, image.digest) + b" " * 2_000_000)
    lost = sign_in_referrer(source.store, image, envelope_bundle(KEY, image.digest))
    refuse(source, "GET manifest", 404, where=lost.digest)
    assert await is_rejected(net, rule, destination, "none of its signatures is valid")


async def test_an_unchanged_image_must_be_signed_too(net, source, destination, image, rule):
    await net.sync({"source/app:1": "destination/app"})
    net.forget()
    assert await is_rejected(net, rule, destination, "no signature")


async def test_what_the_source_names_now_must_be_signed(net, source, destination, image, rule):
    sign_in_referrer(source.store, image, envelope_bundle(KEY, image.digest))
    make_image(source.store, "app", "1", layers=[make_layer({"moved": b"tag"})])
    assert await is_rejected(net, rule, destination, "no signature")


async def test_a_source_that_fails_for_now_is_tried_again(net, source, image, rule):
    sign_in_referrer(source.store, image, envelope_bundle(KEY, image.digest))
    refuse(source, "GET blob", 503, times=4)
    assert (await net.sync(rule)).counts == (1, 0, 0)


async def test_tags_that_hold_signatures_need_none(net, source, destination, image, rule):
    content = payload(image.digest)
    sign_in_tag(source.store, image.digest, [(content, sign(KEY, content))])
    outcome = await net.sync({"source/app": {**rule["source/app:1"], "referrers": True}})
    assert outcome.counts == (1, 0, 0)
    assert set(destination.store.tags("app")) == {"1", next(iter(cosign_tags(image.digest)))}
