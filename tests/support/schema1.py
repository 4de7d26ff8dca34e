"""Signed manifests of schema 1, as docker made them (Docker Registry HTTP API V2, "Signed Manifests")."""

import base64
import json


def sign(payload: bytes, **protected: object) -> bytes:
    """The payload with one signature. `protected` replaces what its header says."""
    length = payload.rindex(b"}")
    header = {
        "formatLength": length,
        "formatTail": _base64url(payload[length:]),
        "time": "2015-01-01T00:00:00Z",
        **protected,
    }
    signature = {
        "header": {"alg": "ES256"},
        "signature": "c2lnbmF0dXJl",
        "protected": _base64url(json.dumps(header).encode()),
    }
    return payload[:length] + b',"signatures":' + json.dumps([signature]).encode() + payload[length:]


def _base64url(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")
