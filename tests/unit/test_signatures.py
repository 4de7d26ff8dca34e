"""Which signatures count: by the key, the digest that they name, and the format."""

import json

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa, x25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from syncer.oci.digest import Digest
from syncer.oci.signature_layers import SIMPLE_SIGNING, SignatureLayer, signature_layers
from syncer.rules.referrers import VerificationKey
from syncer.signatures import InvalidKey, Verifier
from tests.support.signing import (
    BUNDLE,
    PrivateKey,
    envelope_bundle,
    message_bundle,
    payload,
    public_pem,
    sign,
    simple_layer,
)

MANIFEST = b'{"schemaVersion": 2}'
IMAGE = Digest.of(MANIFEST)
OTHER = Digest.of(b"another image")
KEYS: dict[str, PrivateKey] = {
    "p256": ec.generate_private_key(ec.SECP256R1()),
    "p384": ec.generate_private_key(ec.SECP384R1()),
    "rsa": rsa.generate_private_key(65537, 2048),
    "ed25519": ed25519.Ed25519PrivateKey.generate(),
}
STRANGER = ec.generate_private_key(ec.SECP256R1())


def verifier(*names):
    return Verifier([VerificationKey(name, public_pem(KEYS[name])) for name in names])


def simple(signature, media_type=SIMPLE_SIGNING):
    return SignatureLayer(media_type, IMAGE, 1, signature)


def bundle():
    return SignatureLayer(BUNDLE, IMAGE, 1)


@pytest.mark.parametrize("name", KEYS)
def test_signatures_by_each_kind_of_key_are_accepted(name):
    key, content = KEYS[name], payload(IMAGE)
    assert verifier(name).accepts(simple(sign(key, content)), content, IMAGE)
    assert verifier(name).accepts(bundle(), envelope_bundle(key, IMAGE), IMAGE)


@pytest.mark.parametrize("name", ["p256", "rsa"])
def test_a_signature_of_the_manifest_itself_is_accepted(name):
    content = message_bundle(KEYS[name], MANIFEST, IMAGE)
    assert verifier(name).accepts(bundle(), content, IMAGE)
    assert not verifier(name).accepts(bundle(), content, OTHER)
    assert not verifier(name).accepts(bundle(), message_bundle(KEYS[name], b"other content", IMAGE), IMAGE)


def test_one_of_several_keys_is_enough():
    content = payload(IMAGE)
    assert verifier(*KEYS).accepts(simple(sign(KEYS["rsa"], content)), content, IMAGE)


@pytest.mark.parametrize("name", KEYS)
def test_signatures_of_another_image_key_or_length_are_rejected(name):
    key, check = KEYS[name], verifier(name)
    content, other = payload(IMAGE), payload(OTHER)
    signature = sign(key, content)
    rejected = [
        (simple(sign(key, other)), other),  # the payload names another image
        (simple(sign(key, other)), content),  # the signature is that of another payload
        (simple(sign(STRANGER, content)), content),
        (simple(signature[:-1]), content),
        (simple(b""), content),
        (simple(signature), content + b" "),
        (bundle(), envelope_bundle(key, OTHER)),
        (bundle(), envelope_bundle(STRANGER, IMAGE)),
        (bundle(), envelope_bundle(key, IMAGE, cut=1)),
    ]
    assert [check.accepts(layer, body, IMAGE) for layer, body in rejected] == [False] * len(rejected)


def test_an_attestation_is_no_signature():
    content = envelope_bundle(
        KEYS["p256"], IMAGE, predicate="https://cosign.sigstore.dev/attestation/vuln/v1"
    )
    assert not verifier("p256").accepts(bundle(), content, IMAGE)


def test_a_payload_of_another_kind_is_no_signature():
    content = payload(IMAGE, "atomic container signature")
    assert not verifier("p256").accepts(simple(sign(KEYS["p256"], content)), content, IMAGE)


@pytest.mark.parametrize(
    "content", [b"", b"[]", b"{}", b"\xff", b"[" * 100_000, b'{"critical": 1}', b'{"dsseEnvelope": {}}']
)
def test_content_that_is_no_signature_is_rejected(content):
    check = verifier("p256")
    assert not check.accepts(simple(sign(KEYS["p256"], content)), content, IMAGE)
    assert not check.accepts(bundle(), content, IMAGE)


def test_signatures_that_share_a_payload_are_all_found():
    layers = [simple_layer(IMAGE, 3, each) for each in (b"one", b"two")]
    layers += [
        {"mediaType": BUNDLE, "digest": OTHER, "size": 4},
        {"mediaType": "text/plain", "digest": OTHER},
    ]
    layers += [{"mediaType": SIMPLE_SIGNING, "digest": "sha256:short"}, simple_layer(IMAGE, 3, b"")]
    found = list(signature_layers(json.dumps({"layers": layers}).encode()))
    assert [(each.media_type, each.signature) for each in found] == [
        (SIMPLE_SIGNING, b"one"),
        (SIMPLE_SIGNING, b"two"),
        (BUNDLE, b""),
    ]


@pytest.mark.parametrize("manifest", [b"", b"{}", b'{"layers": 1}', b'{"layers": [{"digest": 1}]}', b"\xff"])
def test_a_manifest_that_cannot_be_parsed_holds_no_signatures(manifest):
    assert list(signature_layers(manifest)) == []


@pytest.mark.parametrize(
    "pem",
    [
        b"",
        b"PEM",
        x25519.X25519PrivateKey.generate()
        .public_key()
        .public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
        public_pem(rsa.generate_private_key(65537, 1024)),
    ],
    ids=["empty", "text", "x25519", "rsa-1024"],
)
def test_keys_that_cannot_be_used_are_refused_by_name(pem):
    with pytest.raises(InvalidKey, match=r"cosign\.pub"):
        Verifier([VerificationKey("cosign.pub", pem)])
