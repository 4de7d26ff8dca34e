"""Signatures in the formats of cosign, made with keys of `cryptography`."""

import base64
import json
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from syncer.oci.signature_layers import SIMPLE_SIGNING

PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey
BUNDLE = "application/vnd.dev.sigstore.bundle.v0.3+json"
SIGN = "https://sigstore.dev/cosign/sign/v1"


def public_pem(key: PrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def sign(key: PrivateKey, message: bytes) -> bytes:
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return key.sign(message)
    if isinstance(key, rsa.RSAPrivateKey):
        return key.sign(message, padding.PKCS1v15(), SHA256())
    return key.sign(message, ec.ECDSA(SHA256()))


def payload(digest: str, kind: str = "cosign container image signature") -> bytes:
    """A payload of simple signing (cosign's specs/SIGNATURE_SPEC.md)."""
    identity = {"docker-reference": "example.com/app"}
    critical = {"identity": identity, "image": {"docker-manifest-digest": digest}, "type": kind}
    return json.dumps({"critical": critical, "optional": None}).encode()


def annotations(signature: bytes) -> dict[str, str]:
    return {"dev.cosignproject.cosign/signature": _text(signature)}


def simple_layer(digest: str, size: int, signature: bytes) -> dict[str, Any]:
    """The layer of a signature manifest."""
    return {
        "mediaType": SIMPLE_SIGNING,
        "digest": digest,
        "size": size,
        "annotations": annotations(signature),
    }


def envelope_bundle(key: PrivateKey, digest: str, *, predicate: str = SIGN, cut: int = 0) -> bytes:
    """A sigstore bundle with a DSSE envelope, as cosign 3 writes it. The signature lacks its last `cut` bytes."""
    subject = {"digest": {"sha256": digest.removeprefix("sha256:")}}
    statement = {"_type": "https://in-toto.io/Statement/v1", "subject": [subject], "predicateType": predicate}
    body = json.dumps({**statement, "predicate": {}}).encode()
    kind = b"application/vnd.in-toto+json"
    signature = sign(key, b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(body), body))
    envelope = {
        "payload": _text(body),
        "payloadType": kind.decode(),
        "signatures": [{"sig": _text(signature[: len(signature) - cut])}],
    }
    return json.dumps({"mediaType": BUNDLE, "verificationMaterial": {}, "dsseEnvelope": envelope}).encode()


def message_bundle(key: PrivateKey, content: bytes, digest: str) -> bytes:
    """A sigstore bundle with a signature of the manifest itself."""
    stated = bytes.fromhex(digest.removeprefix("sha256:"))
    message = {
        "messageDigest": {"algorithm": "SHA2_256", "digest": _text(stated)},
        "signature": _text(sign(key, content)),
    }
    return json.dumps({"mediaType": BUNDLE, "messageSignature": message}).encode()


def _text(content: bytes) -> str:
    return base64.b64encode(content).decode()
