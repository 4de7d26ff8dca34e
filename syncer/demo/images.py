"""Creates small images for the demo's source, and for tests.

The same call always creates the same bytes. Layers are real tarballs and configs are real image configs, so that other
tools can use the images.
"""

import gzip
import hashlib
import io
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import msgspec

from syncer.demo.store import Store
from syncer.oci import media_types
from syncer.oci.descriptor import Descriptor, Platform
from syncer.oci.digest import Digest

OCI_LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"
IN_TOTO = "application/vnd.in-toto+json"
SPDX = "application/spdx+json"
PLATFORMS = ("linux/amd64", "linux/arm64")

_CREATED = "2024-06-01T00:00:00Z"
_UNKNOWN = Platform("unknown", "unknown")


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer: the tarball compressed with gzip, and the digest of the uncompressed tarball."""

    content: bytes
    diff_id: Digest


def make_layer(files: Mapping[str, bytes]) -> Layer:
    """Return a layer with these files, by path."""
    tarball = io.BytesIO()
    with tarfile.open(fileobj=tarball, mode="w") as archive:
        for path, content in files.items():
            entry = tarfile.TarInfo(path)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    plain = tarball.getvalue()
    return Layer(gzip.compress(plain, compresslevel=1, mtime=0), Digest.of(plain))


def noise(name: str, size: int) -> bytes:
    """Return `size` incompressible bytes, which only depend on `name`."""
    return hashlib.shake_128(name.encode()).digest(size)


def make_image(
    store: Store,
    repository: str,
    tag: str = "",
    *,
    layers: Sequence[Layer],
    platform: str = "linux/amd64",
    docker: bool = False,
    annotations: Mapping[str, str] | None = None,
) -> Descriptor:
    """Put an image of one platform (`os/architecture[/variant]`) into a repository, with all its blobs."""
    at = _platform(platform)
    config = {
        "created": _CREATED,
        "architecture": at.architecture,
        "os": at.os,
        **({"variant": at.variant} if at.variant else {}),
        "config": {"Env": ["PATH=/usr/local/bin:/usr/bin:/bin"], "Cmd": ["/bin/sh"]},
        "rootfs": {"type": "layers", "diff_ids": [str(layer.diff_id) for layer in layers]},
    }
    config_type = media_types.DOCKER_CONFIG if docker else media_types.OCI_CONFIG
    layer_type = DOCKER_LAYER if docker else OCI_LAYER
    manifest = {
        "schemaVersion": 2,
        "mediaType": media_types.DOCKER_MANIFEST if docker else media_types.OCI_MANIFEST,
        "config": _put_blob(store, repository, msgspec.json.encode(config), config_type),
        "layers": [_put_blob(store, repository, layer.content, layer_type) for layer in layers],
        **({"annotations": dict(annotations)} if annotations else {}),
    }
    return _put_manifest(store, repository, tag, manifest, platform=at)


def make_index(
    store: Store,
    repository: str,
    tag: str = "",
    *,
    children: Sequence[Descriptor],
    docker: bool = False,
    annotations: Mapping[str, str] | None = None,
) -> Descriptor:
    """Put an index (for Docker, a manifest list) of existing manifests."""
    index = {
        "schemaVersion": 2,
        "mediaType": media_types.DOCKER_INDEX if docker else media_types.OCI_INDEX,
        "manifests": [_entry(child) for child in children],
        **({"annotations": dict(annotations)} if annotations else {}),
    }
    return _put_manifest(store, repository, tag, index)


def make_artifact(
    store: Store,
    repository: str,
    tag: str = "",
    *,
    artifact_type: str,
    content: bytes,
    media_type: str = "application/octet-stream",
    subject: Descriptor | None = None,
    annotations: Mapping[str, str] | None = None,
) -> Descriptor:
    """Put an artifact with the empty config. If `subject` is given, the artifact is its referrer."""
    manifest = {
        "schemaVersion": 2,
        "mediaType": media_types.OCI_MANIFEST,
        "artifactType": artifact_type,
        "config": _put_blob(store, repository, b"{}", media_types.OCI_EMPTY),
        "layers": [_put_blob(store, repository, content, media_type)],
        **({"subject": _bare_entry(subject)} if subject else {}),
        **({"annotations": dict(annotations)} if annotations else {}),
    }
    return _put_manifest(store, repository, tag, manifest)


def make_attestation(store: Store, repository: str, *, image: Descriptor) -> Descriptor:
    """Put a provenance attestation in BuildKit's format: a child for the index of `image`."""
    statement = msgspec.json.encode(
        {
            "_type": "https://in-toto.io/Statement/v0.1",
            "predicateType": "https://slsa.dev/provenance/v0.2",
            "subject": [{"name": repository, "digest": {image.digest.algorithm: image.digest.hex}}],
            "predicate": {"builder": {"id": ""}, "buildType": "https://mobyproject.org/buildkit@v1"},
        }
    )
    config = {
        "architecture": "unknown",
        "os": "unknown",
        "config": {},
        "rootfs": {"type": "layers", "diff_ids": [str(Digest.of(statement))]},
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": media_types.OCI_MANIFEST,
        "config": _put_blob(store, repository, msgspec.json.encode(config), media_types.OCI_CONFIG),
        "layers": [
            {
                **_put_blob(store, repository, statement, IN_TOTO),
                "annotations": {"in-toto.io/predicate-type": "https://slsa.dev/provenance/v0.2"},
            }
        ],
    }
    annotations = {
        "vnd.docker.reference.digest": str(image.digest),
        "vnd.docker.reference.type": "attestation-manifest",
    }
    return _put_manifest(store, repository, "", manifest, platform=_UNKNOWN, annotations=annotations)


def seed(store: Store) -> None:
    """Fill a store with the demo's repositories: about 3 MB, two platforms for each image, shared base layers."""
    for version in ("3.19", "3.20"):
        images = [
            make_image(store, "library/alpine", layers=[_alpine(version, at)], platform=at)
            for at in PLATFORMS
        ]
        make_index(store, "library/alpine", version, children=images)
    make_index(store, "library/alpine", "latest", children=images)

    for version, base in (("1.26", "3.19"), ("1.27", "3.20")):
        images = [
            make_image(
                store,
                "library/nginx",
                layers=[_alpine(base, at), _program("nginx", version, at, 280_000)],
                platform=at,
                docker=True,
            )
            for at in PLATFORMS
        ]
        make_index(store, "library/nginx", version, children=images, docker=True)
    make_index(store, "library/nginx", "latest", children=images, docker=True)

    for version in ("v1.0", "v1.1", "v2.0"):
        images = [
            make_image(
                store,
                "team/app",
                layers=[
                    _alpine("3.20", at),
                    _program("runtime", "1", at, 120_000),
                    _program("app", version, at, 30_000),
                ],
                platform=at,
            )
            for at in PLATFORMS
        ]
        # The newest image has attestations.
        attested = [make_attestation(store, "team/app", image=image) for image in images if version == "v2.0"]
        index = make_index(store, "team/app", version, children=[*images, *attested])
    bill = {"spdxVersion": "SPDX-2.3", "name": "team/app:v2.0", "packages": [{"name": "alpine-baselayout"}]}
    make_artifact(
        store,
        "team/app",
        artifact_type=SPDX,
        content=msgspec.json.encode(bill),
        media_type=SPDX,
        subject=index,
        annotations={"org.opencontainers.image.created": _CREATED},
    )


@cache
def _alpine(version: str, platform: str) -> Layer:
    return make_layer(
        {
            "etc/alpine-release": f"{version}.0\n".encode(),
            "bin/busybox": noise(f"busybox {version} {platform}", 300_000),
        }
    )


@cache
def _program(name: str, version: str, platform: str, size: int) -> Layer:
    return make_layer({f"usr/local/bin/{name}": noise(f"{name} {version} {platform}", size)})


def _platform(text: str) -> Platform:
    system, _, rest = text.partition("/")
    architecture, _, variant = rest.partition("/")
    return Platform(system, architecture, variant)


def _put_blob(store: Store, repository: str, content: bytes, media_type: str) -> dict[str, Any]:
    digest = store.put_blob(repository, content)
    return {"mediaType": media_type, "digest": str(digest), "size": len(content)}


def _put_manifest(
    store: Store,
    repository: str,
    tag: str,
    document: dict[str, Any],
    *,
    platform: Platform | None = None,
    annotations: Mapping[str, str] | None = None,
) -> Descriptor:
    raw = msgspec.json.encode(document)
    stored = store.put_manifest(repository, raw, document["mediaType"], reference=tag)
    return Descriptor(
        media_type=stored.media_type,
        digest=stored.digest,
        size=len(raw),
        platform=platform,
        artifact_type=document.get("artifactType", ""),
        annotations=tuple((annotations or {}).items()),
    )


def _bare_entry(descriptor: Descriptor) -> dict[str, Any]:
    return {"mediaType": descriptor.media_type, "digest": str(descriptor.digest), "size": descriptor.size}


def _entry(descriptor: Descriptor) -> dict[str, Any]:
    entry = _bare_entry(descriptor)
    if at := descriptor.platform:
        entry["platform"] = {"architecture": at.architecture, "os": at.os}
        if at.variant:
            entry["platform"]["variant"] = at.variant
    if descriptor.artifact_type:
        entry["artifactType"] = descriptor.artifact_type
    if descriptor.annotations:
        entry["annotations"] = dict(descriptor.annotations)
    return entry
