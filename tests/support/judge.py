"""Verifies copied images with skopeo and plain HTTP, without using the program under test."""

import json
import os
import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any, Protocol

import httpx

from tests.support.plain_http import NO_AUTHORITIES

MANIFEST_TYPES = ", ".join(
    (
        "application/vnd.oci.image.index.v1+json",
        "application/vnd.oci.image.manifest.v1+json",
        "application/vnd.docker.distribution.manifest.list.v2+json",
        "application/vnd.docker.distribution.manifest.v2+json",
    )
)


class Judged(Protocol):
    """A registry that can be looked into. `registries.Registry` is one, `Open` another."""

    @property
    def host(self) -> str: ...
    @property
    def skopeo_options(self) -> list[str]: ...
    def client(self) -> httpx.Client: ...


@dataclass(frozen=True, slots=True)
class Open:
    """Any registry that speaks HTTP and allows anonymous access."""

    host: str
    skopeo_options: list[str] = field(default_factory=lambda: ["--tls-verify=false"])

    def client(self) -> httpx.Client:
        return httpx.Client(
            base_url=f"http://{self.host}", trust_env=False, verify=NO_AUTHORITIES, timeout=60
        )


def judge(source: Judged, destination: Judged, mapping: Iterable[tuple[str, str]]) -> None:
    """Fail unless each image arrived whole, its manifests byte for byte.

    `mapping` pairs `repository:tag` at the source with `repository:tag` (or `@digest`) at the destination.
    skopeo reads one image of each media type at the destination. All that is wrong is told at once.
    """
    pairs = list(mapping)
    assert pairs, "nothing to judge"
    problems: list[str] = []
    read_by_skopeo: set[str] = set()
    with source.client() as here, destination.client() as there:
        walk = _Walk(there)
        for wanted, found in pairs:
            expected, actual = _get_manifest(here, wanted), _get_manifest(there, found)
            if expected.status_code != httpx.codes.OK:
                problems.append(f"{wanted} at {source.host}: {expected.status_code} {expected.text[:200]}")
            elif actual.status_code == httpx.codes.OK:
                problems += _compare(found, expected.content, actual.content)
                kind = actual.headers.get("content-type", "")
                if kind not in read_by_skopeo:
                    read_by_skopeo.add(kind)
                    problems += _read_by_skopeo(destination, found, expected.content)
            problems += walk.manifest(*_split(found))
    _fail_on(problems, destination)


def raw_manifest(registry: Judged, name: str) -> bytes:
    """The manifest of `repository:tag` as skopeo reads it."""
    command = ["skopeo", "inspect", "--raw", *registry.skopeo_options, f"docker://{registry.host}/{name}"]
    done = subprocess.run(command, capture_output=True, check=False)
    assert done.returncode == 0, f"{name} at {registry.host}: {done.stderr.decode().strip()}"
    return done.stdout


def whole(registry: Judged) -> int:
    """Fail unless every tag at this registry can be pulled completely. Returns how many there are.

    Repositories are those that `_catalog` lists; docker-registry leaves out one without any blob.
    """
    with registry.client() as client:
        walk = _Walk(client)
        names = list(_pages(client, "/v2/_catalog?n=100", "repositories"))
        tags = [
            (name, tag) for name in names for tag in _pages(client, f"/v2/{name}/tags/list?n=100", "tags")
        ]
        problems = [problem for name, tag in tags for problem in walk.manifest(name, tag)]
    _fail_on(problems, registry)
    return len(tags)


def whole_storage(storage: Path) -> int:
    """The same from a docker-registry's storage folder, fast enough to be asked while a run is going on.

    Sizes and links are checked, and the content of manifests; the content of blobs is docker-registry's own care.
    Returns how many tags there are.
    """
    base = storage / "docker/registry/v2"
    problems: list[str] = []
    tags = 0
    for link in _tag_links(base / "repositories"):
        # Written in place: empty for a moment. The tag is there once its link is.
        if digest := link.read_text():
            tags += 1
            repository = link.parents[4]
            name = f"{repository.relative_to(base / 'repositories')}:{link.parents[1].name}"
            problems += [f"{name}: {problem}" for problem in _stored_manifest(base, repository, digest)]
    assert not problems, f"not whole in {storage}:\n" + "\n".join(problems)
    return tags


def _tag_links(repositories: Path) -> Iterator[Path]:
    """The files that name tags. Uploads come and go while a run is going on: their folders are not entered."""
    for folder, names, _files in os.walk(repositories):
        if "_manifests" in names:
            yield from sorted(Path(folder, "_manifests/tags").glob("*/current/link"))
        names[:] = sorted(name for name in names if not name.startswith("_"))


def _compare(name: str, expected: bytes, actual: bytes) -> list[str]:
    if expected == actual:
        return []
    return [f"{name}: sha256:{sha256(actual).hexdigest()} arrived, not sha256:{sha256(expected).hexdigest()}"]


def _read_by_skopeo(registry: Judged, name: str, expected: bytes) -> list[str]:
    try:
        return _compare(name, expected, raw_manifest(registry, name))
    except AssertionError as error:
        return [str(error)]


def _get_manifest(client: httpx.Client, name: str) -> httpx.Response:
    repository, reference = _split(name)
    return client.get(f"/v2/{repository}/manifests/{reference}", headers={"accept": MANIFEST_TYPES})


@dataclass
class _Walk:
    """Reads manifests with all below them; a blob that was read in one repository is asked for by HEAD in others."""

    client: httpx.Client
    seen: set[tuple[str, str]] = field(default_factory=set)
    read: set[str] = field(default_factory=set)

    def manifest(self, repository: str, reference: str, size: int | None = None) -> list[str]:
        if (repository, reference) in self.seen:
            return []
        self.seen.add((repository, reference))
        name = f"{repository}{'@' if ':' in reference else ':'}{reference}"
        answer = _get_manifest(self.client, name)
        if answer.status_code != httpx.codes.OK:
            return [f"manifest {name}: {answer.status_code} {answer.text[:200]}"]
        raw = answer.content
        problems = []
        if ":" in reference and f"sha256:{sha256(raw).hexdigest()}" != reference:
            problems.append(f"manifest {name}: other bytes than its digest says")
        if size is not None and len(raw) != size:
            problems.append(f"manifest {name}: {len(raw)} bytes, not {size}")
        children, blobs = _references(json.loads(raw))
        for child in children:
            problems += self.manifest(repository, child["digest"], child["size"])
        for blob in blobs:
            problems += self.blob(repository, blob["digest"], blob["size"])
        return problems

    def blob(self, repository: str, digest: str, size: int) -> list[str]:
        if (repository, digest) in self.seen:
            return []
        self.seen.add((repository, digest))
        url = f"/v2/{repository}/blobs/{digest}"
        if digest in self.read:
            answer = self.client.head(url, follow_redirects=True)
            actual, length = digest, int(answer.headers.get("content-length", -1))
        else:
            hashed, length = sha256(), 0
            with self.client.stream("GET", url, follow_redirects=True) as answer:
                for chunk in answer.iter_raw(1 << 18):
                    hashed.update(chunk)
                    length += len(chunk)
            actual = f"sha256:{hashed.hexdigest()}"
        if answer.status_code != httpx.codes.OK:
            return [f"blob {repository}@{digest}: {answer.status_code}"]
        if (actual, length) != (digest, size):
            return [f"blob {repository}@{digest}: {length} bytes of {actual}, not {size}"]
        self.read.add(digest)
        return []


def _stored_manifest(base: Path, repository: Path, digest: str) -> Iterator[str]:
    if not _is_linked(repository / "_manifests/revisions", digest):
        yield f"manifest {digest} is not in the repository"
        return
    try:
        raw = _data(base, digest).read_bytes()
    except FileNotFoundError:
        yield f"manifest {digest} is missing"
        return
    if f"sha256:{sha256(raw).hexdigest()}" != digest:
        yield f"manifest {digest} has other bytes than its digest says"
        return
    children, blobs = _references(json.loads(raw))
    for child in children:
        yield from _stored_manifest(base, repository, child["digest"])
    for blob in blobs:
        if not _is_linked(repository / "_layers", blob["digest"]):
            yield f"blob {blob['digest']} is not in the repository"
        elif not (path := _data(base, blob["digest"])).exists():
            yield f"blob {blob['digest']} is missing"
        elif (size := path.stat().st_size) != blob["size"]:
            yield f"blob {blob['digest']} has {size} bytes, not {blob['size']}"


def _is_linked(folder: Path, digest: str) -> bool:
    return (folder / digest.replace(":", "/") / "link").exists()


def _data(base: Path, digest: str) -> Path:
    algorithm, _, encoded = digest.partition(":")
    return base / "blobs" / algorithm / encoded[:2] / encoded / "data"


def _references(document: dict[str, Any]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The children of an index, and the blobs of a manifest; not the layers that are kept elsewhere."""
    config = [document["config"]] if "config" in document else []
    blobs = [*config, *document.get("layers", []), *document.get("blobs", [])]
    return document.get("manifests", []), [blob for blob in blobs if not blob.get("urls")]


def _pages(client: httpx.Client, url: str, key: str) -> Iterator[str]:
    following: str | None = url
    while following:
        answer = client.get(following)
        if answer.status_code == httpx.codes.NOT_FOUND:
            return  # a repository that has only blobs yet
        answer.raise_for_status()
        yield from answer.json()[key] or []
        following = answer.links.get("next", {}).get("url")


def _split(name: str) -> tuple[str, str]:
    repository, _, digest = name.partition("@")
    if digest:
        return repository, digest
    repository, _, tag = name.rpartition(":")
    return repository, tag


def _fail_on(problems: list[str], registry: Judged) -> None:
    shown = problems[:20] + ([f"… and {len(problems) - 20} more"] if len(problems) > 20 else [])
    assert not problems, f"not whole at {registry.host}:\n" + "\n".join(shown)
