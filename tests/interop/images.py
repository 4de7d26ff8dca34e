"""One image of each kind that registries hold, pushed over HTTP without the program under test."""

import hashlib
import json
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from benchmarks.corpus import (
    AMD64,
    ARM64,
    DOCKER_CONFIG,
    DOCKER_LAYER,
    DOCKER_LIST,
    DOCKER_MANIFEST,
    OCI_CONFIG,
    OCI_INDEX,
    OCI_LAYER,
    OCI_MANIFEST,
    make_layer,
)
from benchmarks.stores import Store, digest_of

REPOSITORY = "team/app"
ARTIFACT_TYPE = "application/spdx+json"
EMPTY = "application/vnd.oci.empty.v1+json"
IN_TOTO = "application/vnd.in-toto+json"
LARGE = 40 << 20  # bytes; what is over 32 MiB is fetched in parts

IMAGES = ("multi-platform", "docker", "docker-list", "attested", "large")
"""Tags that hold images or indexes of images."""
ARTIFACT = "bill-of-materials"
"""The tag of an artifact whose subject is `multi-platform`."""


@dataclass
class ImageSet:
    """Pushes all of it into `REPOSITORY` of a store; `digests` has the digest of each tag. The same bytes each time."""

    store: Store
    digests: dict[str, str] = field(default_factory=dict)

    def push(self) -> None:
        both = [self._image("app", AMD64), self._image("app", ARM64)]
        multi_platform = self._index("multi-platform", OCI_INDEX, both)
        self._image("docker app", AMD64, tag="docker", docker=True)
        listed = [self._image("docker app", at, docker=True) for at in (AMD64, ARM64)]
        self._index("docker-list", DOCKER_LIST, listed)
        attested = self._image("attested app", AMD64)
        self._index("attested", OCI_INDEX, [attested, self._attestation(attested)])
        self._image("large app", AMD64, tag="large", size=LARGE)
        self._artifact(multi_platform)

    def _image(
        self,
        name: str,
        platform: dict[str, str],
        *,
        tag: str | None = None,
        docker: bool = False,
        size: int = 300_000,
    ) -> dict[str, Any]:
        own = f"{name} {platform['architecture']}"
        layers = [self._base, make_layer("app", hashlib.shake_128(own.encode()).digest(size))]
        config = {
            "created": "2026-01-01T00:00:00Z",
            **platform,
            "config": {"Cmd": ["/app"]},
            "rootfs": {"type": "layers", "diff_ids": [diff_id for _, diff_id in layers]},
        }
        manifest_type = DOCKER_MANIFEST if docker else OCI_MANIFEST
        manifest = {
            "schemaVersion": 2,
            "mediaType": manifest_type,
            "config": self._blob(json.dumps(config).encode(), DOCKER_CONFIG if docker else OCI_CONFIG),
            "layers": [self._blob(content, DOCKER_LAYER if docker else OCI_LAYER) for content, _ in layers],
        }
        return self._manifest(manifest, tag) | {"platform": platform}

    @cached_property
    def _base(self) -> tuple[bytes, str]:
        return make_layer("base", hashlib.shake_128(b"base").digest(500_000))

    def _attestation(self, image: dict[str, Any]) -> dict[str, Any]:
        """What BuildKit puts beside an image that it built with `--provenance`."""
        statement = json.dumps(
            {
                "_type": "https://in-toto.io/Statement/v0.1",
                "predicateType": "https://slsa.dev/provenance/v0.2",
                "subject": [{"name": "app", "digest": {"sha256": image["digest"].partition(":")[2]}}],
                "predicate": {"buildType": "https://mobyproject.org/buildkit@v1"},
            }
        ).encode()
        unknown = {"architecture": "unknown", "os": "unknown"}
        config = unknown | {"config": {}, "rootfs": {"type": "layers", "diff_ids": [digest_of(statement)]}}
        predicate = {"in-toto.io/predicate-type": "https://slsa.dev/provenance/v0.2"}
        manifest = {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": self._blob(json.dumps(config).encode(), OCI_CONFIG),
            "layers": [self._blob(statement, IN_TOTO) | {"annotations": predicate}],
        }
        annotations = {
            "vnd.docker.reference.digest": image["digest"],
            "vnd.docker.reference.type": "attestation-manifest",
        }
        return self._manifest(manifest) | {"annotations": annotations, "platform": unknown}

    def _artifact(self, subject: dict[str, Any]) -> None:
        manifest = {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "artifactType": ARTIFACT_TYPE,
            "config": self._blob(b"{}", EMPTY),
            "layers": [self._blob(b'{"spdxVersion": "SPDX-2.3"}', ARTIFACT_TYPE)],
            "subject": subject,
        }
        self._manifest(manifest, ARTIFACT)

    def _index(self, tag: str, media_type: str, children: list[dict[str, Any]]) -> dict[str, Any]:
        index = {"schemaVersion": 2, "mediaType": media_type, "manifests": children}
        return self._manifest(index, tag)

    def _blob(self, content: bytes, media_type: str) -> dict[str, Any]:
        digest = self.store.put_blob(REPOSITORY, content)
        return {"mediaType": media_type, "digest": digest, "size": len(content)}

    def _manifest(self, document: dict[str, Any], tag: str | None = None) -> dict[str, Any]:
        content = json.dumps(document, indent=3).encode()
        digest = self.store.put_manifest(REPOSITORY, content, document["mediaType"], tag)
        if tag:
            self.digests[tag] = digest
        return {"mediaType": document["mediaType"], "digest": digest, "size": len(content)}
