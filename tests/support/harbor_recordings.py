"""Recordings of a real Harbor, and the bytes for the blobs and manifests in them.

Digests of blobs whose bytes were not recorded are replaced by those of blobs of the same size.
"""

import hashlib
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import httpx

from syncer.demo.images import noise
from syncer.oci.digest import Digest

EMPTY = b"{}"
_HEX = re.compile(r"(?<![0-9a-f])[0-9a-f]{64}(?![0-9a-f])")
_TARGET = re.compile(
    r"/v2/(?P<repository>[^?]+?)/(?P<kind>manifests|blobs/uploads|blobs|tags|referrers)/(?P<reference>[^?]*)"
)


@dataclass(frozen=True, slots=True)
class Exchange:
    """A recorded request and its response."""

    request: dict[str, Any]
    response: dict[str, Any]

    @property
    def method(self) -> str:
        return str(self.request["method"])

    @property
    def path(self) -> str:
        return str(self.request["path"])

    @property
    def status(self) -> int:
        return int(self.response["status"])

    @property
    def target(self) -> tuple[str, str, str]:
        """Repository, kind and reference; empty for what is not of a repository."""
        match = _TARGET.match(self.path)
        return (match["repository"], match["kind"], match["reference"]) if match else ("", "", "")

    @property
    def query(self) -> httpx.QueryParams:
        return httpx.QueryParams(self.path.partition("?")[2])

    @property
    def user(self) -> str:
        """Of a request with a name and a password."""
        authorization = self.request["headers"].get("Authorization", "")
        is_basic = isinstance(authorization, str) and authorization.startswith("Basic ")
        return authorization.removeprefix("Basic ").rpartition(":")[0] if is_basic else ""

    @property
    def length(self) -> int:
        return int(self.response["headers"].get("Content-Length", 0))


def exchanges_of(document: dict[str, Any]) -> list[Exchange]:
    """In the order in which the answers can be given one after the other.

    Where several uploads ended at once, Harbor refused one for the bytes of another that was answered later.
    """
    found = [Exchange(each["request"], each["response"]) for each in document.get("exchanges", ())]
    ordered: list[Exchange] = []
    refused: list[Exchange] = []
    for exchange in found:
        is_upload = exchange.method == "PUT" and exchange.target[1] == "blobs/uploads"
        if is_upload and exchange.status == httpx.codes.FORBIDDEN:
            refused.append(exchange)
            continue
        if not is_upload:
            ordered += refused
            refused = []
        ordered.append(exchange)
    return ordered + refused


class Contents:
    """Blobs and manifests of a recording, with bytes: `names` are the digests in use by those recorded, as hex."""

    def __init__(self, exchanges: Iterable[Exchange]) -> None:
        self.names: dict[str, str] = {}
        self.blobs: dict[str, bytes] = {}
        self.manifests: dict[str, tuple[bytes, str]] = {}
        self._raw: dict[str, tuple[bytes, str]] = {}
        self._sizes: dict[str, int] = {}
        self._given: dict[str, bytes] = {}
        for exchange in exchanges:
            self._learn(exchange)

    def _learn(self, exchange: Exchange) -> None:
        _, kind, reference = exchange.target
        body = exchange.response.get("body")
        if kind == "manifests" and exchange.method == "PUT":
            raw = json.dumps(exchange.request["body"]).encode()
            self._keep(raw, exchange.request["headers"]["Content-Type"])
        elif kind == "manifests" and exchange.method == "GET" and exchange.status == httpx.codes.OK:
            headers = exchange.response["headers"]
            self._keep(_serialized(body, headers["Docker-Content-Digest"]), headers["Content-Type"])
        elif kind == "blobs" and exchange.status == httpx.codes.OK:
            self._sizes[hex_of(reference)] = exchange.length
            if isinstance(body, dict):
                self._given[hex_of(reference)] = json.dumps(body).encode()
            elif exchange.response["headers"]["Content-Type"] == "application/x-gzip":
                self._given[hex_of(reference)] = b"\x1f\x8b" + noise(reference, exchange.length - 2)
        elif kind == "blobs/uploads" and exchange.method in {"PUT", "PATCH"}:
            length = int(exchange.request["headers"]["Content-Length"])
            if length and "digest" in exchange.query:
                self._sizes[hex_of(exchange.query["digest"])] = length

    def _keep(self, raw: bytes, media_type: str) -> None:
        self._raw[hashlib.sha256(raw).hexdigest()] = (raw, media_type)
        for descriptor in _descriptors(json.loads(raw)):
            self._sizes.setdefault(hex_of(descriptor["digest"]), descriptor["size"])

    def find(self, digest: str) -> tuple[bytes, str]:
        """The bytes of a digest in use, and the type of a manifest."""
        manifests = {hashlib.sha256(raw).hexdigest(): (raw, kind) for raw, kind in self.manifests.values()}
        blobs = {hashlib.sha256(raw).hexdigest(): (raw, "") for raw in (EMPTY, *self.blobs.values())}
        return (manifests | blobs)[hex_of(digest)]

    def in_use(self, text: str) -> str:
        """A text with the digests in use in place of those recorded."""
        return _HEX.sub(lambda match: self.names.get(match[0], match[0]), text)

    def blob(self, digest: str) -> bytes:
        """The bytes in use for a recorded blob."""
        name = hex_of(digest)
        if name not in self.blobs:
            content = self._given.get(name) or noise(name, self._sizes.get(name, 16))
            self.blobs[name] = content
            self.names[name] = hashlib.sha256(content).hexdigest()
        return self.blobs[name]

    def manifest(self, digest: str, size: int = 0, media_type: str = "", **extra: Any) -> tuple[bytes, str]:
        """The bytes in use for a recorded manifest, and its type: without a recorded body, one of that size."""
        name = hex_of(digest)
        if name not in self.manifests:
            raw, kind = self._raw.get(name) or (_padded(size, media_type, extra, name), media_type)
            for part in _descriptors(json.loads(raw)):
                self.part(part)
            self.manifests[name] = (self.in_use(raw.decode()).encode(), kind)
            self.names[name] = hashlib.sha256(self.manifests[name][0]).hexdigest()
        return self.manifests[name]

    def part(self, descriptor: dict[str, Any]) -> bytes:
        if is_manifest(descriptor):
            return self.manifest(descriptor["digest"], descriptor["size"], descriptor["mediaType"])[0]
        return self.blob(descriptor["digest"])


def hex_of(digest: str) -> str:
    return digest.rpartition(":")[2]


def _descriptors(document: dict[str, Any]) -> list[dict[str, Any]]:
    subject = [document["subject"]] if "subject" in document else []
    return [*parts_of(document), *subject]


def parts_of(document: dict[str, Any]) -> list[dict[str, Any]]:
    """The descriptors of what has to be there before a manifest is pushed."""
    config = [document["config"]] if "config" in document else []
    return [*config, *document.get("layers", ()), *document.get("manifests", ())]


def is_manifest(descriptor: dict[str, Any]) -> bool:
    return bool(re.search(r"manifest\.|image\.index", descriptor["mediaType"]))


def _serialized(body: Any, digest: str) -> bytes:
    """The bytes of a manifest that was recorded as JSON."""
    for options in ({}, {"separators": (",", ":")}, *({"indent": width} for width in range(5))):
        raw = json.dumps(body, **options).encode()  # type: ignore[arg-type]
        if hashlib.sha256(raw).hexdigest() == hex_of(digest):
            return raw
    raise AssertionError(f"no way of writing it has the digest {digest}")


def _padded(size: int, media_type: str, extra: dict[str, Any], name: str) -> bytes:
    """A manifest of so many bytes."""
    document: dict[str, Any] = {"schemaVersion": 2, "mediaType": media_type, **extra}
    padding = {"name": name[:8], "padding": ""}
    if "index" in media_type or "list" in media_type:
        document |= {"manifests": [], "annotations": padding}
    else:
        kind = "docker.container.image.v1" if "docker" in media_type else "oci.image.config.v1"
        config = {
            "mediaType": f"application/vnd.{kind}+json",
            "digest": str(Digest.of(EMPTY)),
            "size": len(EMPTY),
        }
        document |= {"config": {**config, "annotations": padding}, "layers": []}
    padding["padding"] = "x" * (size - len(json.dumps(document)))
    return json.dumps(document).encode()
