"""Whether one of some public keys has signed an image, in the formats of cosign. Pure functions, no requests.

- Simple signing: a payload that names the image's digest, with its signature in an annotation (cosign's
  specs/SIGNATURE_SPEC.md). It is in the tag `sha256-<hex>.sig`, or in a referrer.
- A sigstore bundle in a referrer: a DSSE envelope with an in-toto statement, or a signature of the image's manifest.

Only signatures count. An attestation that the same key has signed says something about the image, and may say that it
must not be used. Needs the package `cryptography` (the extra `verify`).
"""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import msgspec

from syncer.oci.digest import Digest
from syncer.oci.signature_layers import SIMPLE_SIGNING, SignatureLayer, decode, from_base64
from syncer.rules.referrers import VerificationKey

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

    PublicKey = ec.EllipticCurvePublicKey | rsa.RSAPublicKey | ed25519.Ed25519PublicKey

EXTRA = "image-syncer[verify]"
SIGNATURE_TYPES = frozenset({"cosign container image signature", "https://sigstore.dev/cosign/sign/v1"})
"""What a simple signing payload, or the predicate of a statement, says that it is."""
IN_TOTO = "application/vnd.in-toto+json"
MAX_SIGNATURE = 16 * 1024
"""Bytes. The signature of an RSA key of 16,384 bits has 2,048."""
MIN_RSA_BITS = 2048
MAX_RSA_BITS = 16_384


class InvalidKey(ValueError):
    """A public key that cannot be used."""


class MissingExtra(ValueError):
    """The package that checks signatures is not installed."""


class _Image(msgspec.Struct, rename="kebab"):
    docker_manifest_digest: str


class _Critical(msgspec.Struct):
    image: _Image
    type: str


class _Payload(msgspec.Struct):
    critical: _Critical


class _Signature(msgspec.Struct):
    sig: str


class _Envelope(msgspec.Struct, rename="camel"):
    payload: str
    payload_type: str
    signatures: list[_Signature]


class _MessageDigest(msgspec.Struct):
    algorithm: str
    digest: str


class _MessageSignature(msgspec.Struct, rename="camel"):
    message_digest: _MessageDigest
    signature: str


class _Bundle(msgspec.Struct, rename="camel"):
    dsse_envelope: _Envelope | None = None
    message_signature: _MessageSignature | None = None


class _Subject(msgspec.Struct):
    digest: dict[str, str]


class _Statement(msgspec.Struct, rename="camel"):
    predicate_type: str
    subject: list[_Subject]


class Verifier:
    """Checks signatures with some public keys (PEM: ECDSA, RSA or Ed25519).

    Raises `InvalidKey`, and `MissingExtra` if the package for it is not installed.
    """

    def __init__(self, keys: Iterable[VerificationKey]) -> None:
        self._keys = [_load(key) for key in keys]

    def accepts(self, layer: SignatureLayer, content: bytes, image: Digest) -> bool:
        """Return whether the content of a layer proves that one of the keys has signed the image."""
        if layer.media_type == SIMPLE_SIGNING:
            return self._accepts_payload(content, layer.signature, image)
        bundle = decode(content, _Bundle)
        if bundle is None:
            return False
        if bundle.dsse_envelope is not None:
            return self._accepts_envelope(bundle.dsse_envelope, image)
        return bundle.message_signature is not None and self._accepts_message(bundle.message_signature, image)

    def _accepts_payload(self, content: bytes, signature: bytes, image: Digest) -> bool:
        payload = decode(content, _Payload)
        return (
            payload is not None
            and payload.critical.type in SIGNATURE_TYPES
            and payload.critical.image.docker_manifest_digest == image
            and any(_has_signed(key, signature, content) for key in self._keys)
        )

    def _accepts_envelope(self, envelope: _Envelope, image: Digest) -> bool:
        """Check a DSSE envelope (secure-systems-lab/dsse, protocol.md)."""
        content = from_base64(envelope.payload)
        statement = decode(content, _Statement)
        if (
            envelope.payload_type != IN_TOTO
            or statement is None
            or statement.predicate_type not in SIGNATURE_TYPES
            or not any(subject.digest.get(image.algorithm) == image.hex for subject in statement.subject)
        ):
            return False
        kind = envelope.payload_type.encode()
        signed = b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(content), content)
        # The format allows several. cosign writes one, and refuses more.
        signatures = [from_base64(each.sig) for each in envelope.signatures[:10]]
        return any(_has_signed(key, each, signed) for key in self._keys for each in signatures)

    def _accepts_message(self, message: _MessageSignature, image: Digest) -> bool:
        """Check a signature of the manifest itself, of which only the digest is known here."""
        stated = from_base64(message.message_digest.digest)
        signature = from_base64(message.signature)
        if message.message_digest.algorithm != "SHA2_256" or image.algorithm != "sha256":
            return False
        if stated.hex() != image.hex:
            return False
        return any(_has_signed_digest(key, signature, stated) for key in self._keys)


def _load(key: VerificationKey) -> "PublicKey":
    try:
        from cryptography.exceptions import UnsupportedAlgorithm  # an optional dependency
        from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
        from cryptography.hazmat.primitives.serialization import load_pem_public_key
    except ImportError as error:
        raise MissingExtra(f"verify needs the package cryptography: install {EXTRA}") from error
    try:
        loaded = load_pem_public_key(key.pem)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise InvalidKey(f"expected a public key in PEM format, found none in {key.name}") from error
    if isinstance(loaded, rsa.RSAPublicKey) and not MIN_RSA_BITS <= loaded.key_size <= MAX_RSA_BITS:
        raise InvalidKey(
            f"expected an RSA key of {MIN_RSA_BITS} to {MAX_RSA_BITS} bits, found {loaded.key_size} in {key.name}"
        )
    if not isinstance(loaded, ec.EllipticCurvePublicKey | rsa.RSAPublicKey | ed25519.Ed25519PublicKey):
        raise InvalidKey(f"expected an ECDSA, RSA or Ed25519 key, found another in {key.name}")
    return loaded


def _has_signed(key: "PublicKey", signature: bytes, message: bytes) -> bool:
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding

    if not 0 < len(signature) <= MAX_SIGNATURE:
        return False
    if isinstance(key, ed25519.Ed25519PublicKey):
        return _holds(key.verify, signature, message)
    if isinstance(key, ec.EllipticCurvePublicKey):
        return any(_holds(key.verify, signature, message, ec.ECDSA(each)) for each in _hashes())
    return any(_holds(key.verify, signature, message, padding.PKCS1v15(), each) for each in _hashes())


def _has_signed_digest(key: "PublicKey", signature: bytes, digest: bytes) -> bool:
    """Return whether the key has signed content with this SHA-256. Ed25519 signs content, never a digest."""
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding
    from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
    from cryptography.hazmat.primitives.hashes import SHA256

    if isinstance(key, ed25519.Ed25519PublicKey) or not 0 < len(signature) <= MAX_SIGNATURE:
        return False
    hashed = Prehashed(SHA256())
    if isinstance(key, ec.EllipticCurvePublicKey):
        return _holds(key.verify, signature, digest, ec.ECDSA(hashed))
    return _holds(key.verify, signature, digest, padding.PKCS1v15(), hashed)


def _hashes() -> "tuple[Any, ...]":
    """Cosign hashes with SHA-256 for every key; other tools choose the hash by the size of the key."""
    from cryptography.hazmat.primitives.hashes import SHA256, SHA384, SHA512

    return SHA256(), SHA384(), SHA512()


def _holds(verify: Callable[..., None], *arguments: object) -> bool:
    from cryptography.exceptions import InvalidSignature

    try:
        verify(*arguments)
    except (InvalidSignature, ValueError):
        return False
    return True
