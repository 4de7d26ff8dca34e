"""Two ways to put images into a registry without the program under test: its storage folder, and plain HTTP."""

from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Protocol

import httpx


class Store(Protocol):
    """Takes blobs and manifests; what a manifest refers to is put before it."""

    def put_blob(self, repository: str, content: bytes) -> str:
        """Put one blob into a repository. Returns its digest."""

    def put_manifest(self, repository: str, content: bytes, media_type: str, tag: str | None = None) -> str:
        """Put one manifest or index, under a tag or by its digest only. Returns its digest."""

    def link_blob(self, repository: str, digest: str, from_repository: str) -> None:
        """Make a blob that another repository has known in this one."""


def digest_of(content: bytes) -> str:
    return f"sha256:{sha256(content).hexdigest()}"


@dataclass(frozen=True, slots=True)
class StorageFolder:
    """The filesystem storage of a docker-registry, running or not: by far the fastest way in.

    `root` is the registry's `rootdirectory`.
    """

    root: Path

    @property
    def _base(self) -> Path:
        return self.root / "docker/registry/v2"

    def put_blob(self, repository: str, content: bytes) -> str:
        digest = self._put_content(content)
        self._link(self._base / "repositories" / repository / "_layers", digest)
        return digest

    def take_file(self, repository: str, path: Path, digest: str) -> None:
        """Put a blob too large for memory: moves the file, which has to be on the same filesystem."""
        target = self._data(digest)
        target.parent.mkdir(parents=True, exist_ok=True)
        path.rename(target)
        self._link(self._base / "repositories" / repository / "_layers", digest)

    def link_blob(self, repository: str, digest: str, from_repository: str) -> None:  # noqa: ARG002  # one blob store for all
        self._link(self._base / "repositories" / repository / "_layers", digest)

    def put_manifest(
        self,
        repository: str,
        content: bytes,
        media_type: str,  # noqa: ARG002  # this storage keeps none
        tag: str | None = None,
    ) -> str:
        digest = self._put_content(content)
        manifests = self._base / "repositories" / repository / "_manifests"
        self._link(manifests / "revisions", digest)
        if tag is not None:
            self._link(manifests / "tags" / tag / "index", digest)
            _write(manifests / "tags" / tag / "current/link", digest.encode())
        return digest

    def _put_content(self, content: bytes) -> str:
        digest = digest_of(content)
        path = self._data(digest)
        if not path.exists():
            _write(path, content)
        return digest

    def _data(self, digest: str) -> Path:
        hexadecimal = digest.removeprefix("sha256:")
        return self._base / "blobs/sha256" / hexadecimal[:2] / hexadecimal / "data"

    @staticmethod
    def _link(folder: Path, digest: str) -> None:
        _write(folder / "sha256" / digest.removeprefix("sha256:") / "link", digest.encode())


@dataclass(frozen=True, slots=True)
class Pushed:
    """A registry over HTTP. `client` has the registry as its base URL, and sends the credentials."""

    client: httpx.Client

    def put_blob(self, repository: str, content: bytes) -> str:
        digest = digest_of(content)
        if self.client.head(f"/v2/{repository}/blobs/{digest}").status_code == httpx.codes.OK:
            return digest
        upload = self.client.post(f"/v2/{repository}/blobs/uploads/").raise_for_status()
        where = httpx.URL(upload.headers["location"]).copy_add_param("digest", digest)
        self.client.put(
            where, content=content, headers={"content-type": "application/octet-stream"}
        ).raise_for_status()
        return digest

    def link_blob(self, repository: str, digest: str, from_repository: str) -> None:
        mount = {"mount": digest, "from": from_repository}
        answer = self.client.post(f"/v2/{repository}/blobs/uploads/", params=mount)
        if answer.status_code != httpx.codes.CREATED:
            raise RuntimeError(f"no mount of {digest} from {from_repository}: {answer.status_code}")

    def put_manifest(self, repository: str, content: bytes, media_type: str, tag: str | None = None) -> str:
        digest = digest_of(content)
        self.client.put(
            f"/v2/{repository}/manifests/{tag or digest}",
            content=content,
            headers={"content-type": media_type},
        ).raise_for_status()
        return digest


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
