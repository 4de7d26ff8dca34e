"""A corpus of images to copy: the same bytes every time, with layers shared as in real registries."""

import gzip
import io
import json
import math
import random
import struct
import tarfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx

from benchmarks.stores import Pushed, StorageFolder, Store

OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"

AMD64 = {"architecture": "amd64", "os": "linux"}
ARM64 = {"architecture": "arm64", "os": "linux", "variant": "v8"}

BASE_LAYERS, REPOSITORY_LAYERS, OWN_LAYERS = 4, 2, 2
SMALL_SHARE = 0.3
"""Of the layers. With the configs, half of all blobs are small then."""


@dataclass(frozen=True, slots=True)
class CorpusSpec:
    """What to make. `smallest` and `largest` are bytes of a layer, before tar and gzip add theirs.

    Tag n of a repository is of kind `kinds[n % len(kinds)]`: `oci-index` and `docker-list` have two platforms,
    `oci` and `docker` are single manifests. Each image has four layers of one of `bases` base images, two that
    its repository's tags share, and two of its own. `change` is the share of tags, from 0 to 1, that have moved
    to new images since the same spec without it.
    """

    images: int = 60
    repositories: int = 10
    bases: int = 3
    kinds: tuple[str, ...] = ("oci-index", "docker")
    smallest: int = 60
    largest: int = 15_000_000
    change: float = 0.0
    seed: str = "corpus"
    prefix: str = "corpus/"


FULL = CorpusSpec()
"""The corpus of the measurements: 120 manifests, 334 blobs, 300 MB."""
MANY_SMALL = CorpusSpec(images=2_000, repositories=50, smallest=60, largest=250, seed="many small")
"""2,000 images: 4,000 manifests, over 9,000 blobs of half a kilobyte."""
FOR_TESTS = CorpusSpec(
    images=12,
    repositories=3,
    bases=2,
    kinds=("oci-index", "docker", "docker-list", "oci"),
    largest=600_000,
    seed="tests",
)
"""All kinds of images in 3 MB, with a few blobs over 256 KiB."""


@dataclass(frozen=True, slots=True)
class TaggedImage:
    repository: str
    tag: str
    digest: str
    kind: str

    @property
    def name(self) -> str:
        return f"{self.repository}:{self.tag}"


@dataclass(frozen=True, slots=True)
class Corpus:
    """What was made: the tagged images, and the size in bytes of each unique manifest and blob by its digest."""

    spec: CorpusSpec
    images: tuple[TaggedImage, ...]
    manifests: dict[str, int]
    blobs: dict[str, int]

    @property
    def repositories(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(image.repository for image in self.images))

    def rules(self, source: str, destination: str) -> dict[str, str]:
        """The images file that copies all of it from one host to another, a rule for each repository."""
        return {f"{source}/{name}": f"{destination}/{name}" for name in self.repositories}

    def summary(self) -> str:
        return (
            f"{len(self.images)} images in {len(self.repositories)} repositories: {len(self.manifests)} manifests, "
            f"{len(self.blobs)} unique blobs, {sum(self.blobs.values()) / 1e6:.1f} MB"
        )


@dataclass(frozen=True, slots=True)
class _Layer:
    digest: str
    size: int
    diff_id: str


@dataclass
class _Writer:
    spec: CorpusSpec
    store: Store
    manifests: dict[str, int] = field(default_factory=dict)
    blobs: dict[str, int] = field(default_factory=dict)
    layers: dict[str, _Layer] = field(default_factory=dict)
    homes: dict[str, str] = field(default_factory=dict)  # digest: the repository that got the bytes
    linked: set[tuple[str, str]] = field(default_factory=set)

    def write(self) -> Corpus:
        images = tuple(self._write_image(number) for number in range(self.spec.images))
        return Corpus(self.spec, images, self.manifests, self.blobs)

    @cached_property
    def _changed(self) -> frozenset[int]:
        numbers = range(self.spec.images)
        return frozenset(_random(self.spec, "change").sample(numbers, round(self.spec.change * len(numbers))))

    @cached_property
    def _sizes(self) -> dict[str, int]:
        """Of each layer's payload. Dealt, not drawn: so the whole has the same size with any seed."""
        names = list(
            dict.fromkeys(
                name for number in range(self.spec.images) for name in self._layer_names_of_image(number)
            )
        )
        _random(self.spec, "sizes").shuffle(names)
        return {name: _payload_size(self.spec, place / len(names)) for place, name in enumerate(names)}

    def _layer_names_of_image(self, number: int) -> Iterator[str]:
        for platform in _platforms(self._kind(number)):
            yield from self._layer_names(number, platform["architecture"])

    def _layer_names(self, number: int, architecture: str) -> Iterator[str]:
        repository = number % self.spec.repositories
        for part in range(BASE_LAYERS):
            yield f"base {repository % self.spec.bases} {architecture} {part}"
        for part in range(REPOSITORY_LAYERS):
            yield f"repository {repository} {architecture} {part}"
        for part in range(OWN_LAYERS):
            yield f"image {number} {architecture} {part}"

    def _kind(self, number: int) -> str:
        return self.spec.kinds[number // self.spec.repositories % len(self.spec.kinds)]

    def _write_image(self, number: int) -> TaggedImage:
        repository = f"{self.spec.prefix}app-{number % self.spec.repositories:02}"
        tag = f"1.{number // self.spec.repositories}"
        kind = self._kind(number)
        platforms = _platforms(kind)
        if len(platforms) == 1:
            descriptor = self._write_manifest(number, repository, kind, platforms[0], tag)
            return TaggedImage(repository, tag, descriptor["digest"], kind)
        children = [
            self._write_manifest(number, repository, kind, platform) | {"platform": platform}
            for platform in platforms
        ]
        media_type = OCI_INDEX if kind == "oci-index" else DOCKER_LIST
        index = {"schemaVersion": 2, "mediaType": media_type, "manifests": children}
        descriptor = self._put_manifest(repository, index, media_type, tag)
        return TaggedImage(repository, tag, descriptor["digest"], kind)

    def _write_manifest(
        self, number: int, repository: str, kind: str, platform: dict[str, str], tag: str | None = None
    ) -> dict[str, Any]:
        layers = [
            self._write_layer(repository, name, changed=name.startswith("image ") and number in self._changed)
            for name in self._layer_names(number, platform["architecture"])
        ]
        config = self._config(number, platform, layers)
        oci = kind.startswith("oci")
        manifest = {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST if oci else DOCKER_MANIFEST,
            "config": self._put_config(repository, config, OCI_CONFIG if oci else DOCKER_CONFIG),
            "layers": [
                {
                    "mediaType": OCI_LAYER if oci else DOCKER_LAYER,
                    "size": layer.size,
                    "digest": layer.digest,
                }
                for layer in layers
            ],
        }
        return self._put_manifest(repository, manifest, OCI_MANIFEST if oci else DOCKER_MANIFEST, tag)

    def _config(self, number: int, platform: dict[str, str], layers: list[_Layer]) -> bytes:
        day = "2026-01-01T00:00:00Z"
        document = {
            "created": day,
            **platform,
            "config": {
                "Env": ["PATH=/usr/bin:/bin"],
                "Cmd": ["/app"],
                "Labels": {"corpus.image": str(number)},
            },
            "rootfs": {"type": "layers", "diff_ids": [layer.diff_id for layer in layers]},
            "history": [{"created": day, "created_by": "corpus"} for _ in layers],
        }
        return json.dumps(document, separators=(",", ":")).encode()

    def _put_config(self, repository: str, config: bytes, media_type: str) -> dict[str, Any]:
        digest = self.store.put_blob(repository, config)
        self.blobs[digest] = len(config)
        return {"mediaType": media_type, "size": len(config), "digest": digest}

    def _put_manifest(
        self, repository: str, document: dict[str, Any], media_type: str, tag: str | None
    ) -> dict[str, Any]:
        # Docker writes three blanks of indent, others write one line: copies must keep either.
        docker = media_type in {DOCKER_LIST, DOCKER_MANIFEST}
        content = json.dumps(document, indent=3 if docker else None).encode()
        digest = self.store.put_manifest(repository, content, media_type, tag)
        self.manifests[digest] = len(content)
        return {"mediaType": media_type, "size": len(content), "digest": digest}

    def _write_layer(self, repository: str, name: str, *, changed: bool) -> _Layer:
        key = f"{name} changed" if changed else name
        layer = self.layers.get(key)
        if layer is None:
            payload = _random(self.spec, key).randbytes(self._sizes[name])
            content, diff_id = make_layer(name.replace(" ", "-"), payload)
            layer = _Layer(self.store.put_blob(repository, content), len(content), diff_id)
            self.layers[key] = layer
            self.blobs[layer.digest] = layer.size
            self.homes[layer.digest] = repository
        elif repository != self.homes[layer.digest] and (repository, layer.digest) not in self.linked:
            self.store.link_blob(repository, layer.digest, self.homes[layer.digest])
            self.linked.add((repository, layer.digest))
        return layer


def make_corpus(store: Store, spec: CorpusSpec = FULL) -> Corpus:
    """Put the whole corpus into a store. The same spec gives the same digests, always."""
    return _Writer(spec, store).write()


def write_corpus(storage: Path, spec: CorpusSpec = FULL) -> Corpus:
    """Write the corpus into the storage folder of a docker-registry, which may be running."""
    return make_corpus(StorageFolder(storage), spec)


def push_corpus(client: httpx.Client, spec: CorpusSpec = FULL) -> Corpus:
    """Push the corpus to the registry that is the client's base URL."""
    return make_corpus(Pushed(client), spec)


def make_layer(name: str, payload: bytes) -> tuple[bytes, str]:
    """A layer, gzip over tar, with one file of this name and content. Returns it and its diff ID."""
    member = tarfile.TarInfo(name)
    member.size = len(payload)
    member.mtime = 1_767_225_600
    tar = b"".join(
        (member.tobuf(tarfile.PAX_FORMAT), payload, bytes(-len(payload) % tarfile.BLOCKSIZE), bytes(1024))
    )
    return _compressed(tar), f"sha256:{sha256(tar).hexdigest()}"


def _compressed(content: bytes) -> bytes:
    """Gzip: really packed where it is little, stored where random bytes would only cost time."""
    if len(content) <= 65_536:
        return gzip.compress(content, compresslevel=9, mtime=0)
    out = io.BytesIO()
    out.write(b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff")
    for start in range(0, len(content), 65_535):
        block = content[start : start + 65_535]
        last = start + len(block) == len(content)
        out.write(struct.pack("<BHH", last, len(block), len(block) ^ 0xFFFF))
        out.write(block)
    out.write(struct.pack("<II", zlib.crc32(content), len(content)))
    return out.getvalue()


def _random(spec: CorpusSpec, name: str) -> random.Random:
    return random.Random(f"{spec.seed}/{name}")


def _platforms(kind: str) -> tuple[dict[str, str], ...]:
    return (AMD64, ARM64) if kind in {"oci-index", "docker-list"} else (AMD64,)


def _payload_size(spec: CorpusSpec, place: float) -> int:
    """The size at `place` (from 0 to 1) of all layers in order: few large ones, as in real registries."""
    border = max(spec.smallest, spec.largest // 60)
    if place < SMALL_SHARE:
        return _between(spec.smallest, border, place / SMALL_SHARE)
    return _between(border, spec.largest, ((place - SMALL_SHARE) / (1 - SMALL_SHARE)) ** 2.6)


def _between(low: int, high: int, place: float) -> int:
    return round(low * math.exp(math.log(high / low) * place))
