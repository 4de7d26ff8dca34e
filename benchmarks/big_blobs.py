"""Images of one huge layer each, made at once: the layer is a tar of one file of zeros, a hole on the disk."""

import json
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from benchmarks.corpus import AMD64, OCI_CONFIG, OCI_MANIFEST, Corpus, CorpusSpec, TaggedImage
from benchmarks.stores import StorageFolder

LAYER = "application/vnd.oci.image.layer.v1.tar"
REPOSITORY = "corpus/big"
_ZEROS = bytes(1024 * 1024)


@dataclass(frozen=True, slots=True)
class BigBlobs:
    """So many images in one repository, each with a layer of about `nbytes` bytes."""

    images: int
    nbytes: int


def write_big_blobs(storage: Path, wanted: BigBlobs) -> Corpus:
    """Write them into the storage folder of a docker-registry. The same digests every time."""
    store = StorageFolder(storage)
    storage.mkdir(parents=True, exist_ok=True)
    blobs: dict[str, int] = {}
    manifests: dict[str, int] = {}
    images = []
    for number in range(wanted.images):
        path = storage / f"big-{number}.tmp"
        layer = _write_layer(path, f"file-{number}", wanted.nbytes)
        store.take_file(REPOSITORY, path, layer["digest"])
        config = json.dumps({**AMD64, "rootfs": {"type": "layers", "diff_ids": [layer["digest"]]}}).encode()
        config_digest = store.put_blob(REPOSITORY, config)
        described = {"mediaType": OCI_CONFIG, "size": len(config), "digest": config_digest}
        manifest = {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": described, "layers": [layer]}
        raw = json.dumps(manifest).encode()
        digest = store.put_manifest(REPOSITORY, raw, OCI_MANIFEST, f"1.{number}")
        manifests[digest] = len(raw)
        blobs |= {layer["digest"]: layer["size"], config_digest: len(config)}
        images.append(TaggedImage(REPOSITORY, f"1.{number}", digest, "oci"))
    spec = CorpusSpec(images=wanted.images, repositories=1, kinds=("oci",))
    return Corpus(spec, tuple(images), manifests, blobs)


def _write_layer(path: Path, name: str, nbytes: int) -> dict[str, Any]:
    member = tarfile.TarInfo(name)
    member.size = nbytes
    head = member.tobuf(tarfile.USTAR_FORMAT)
    # A tar ends with two empty blocks: its size is a whole number of them.
    size = len(head) + nbytes + -nbytes % tarfile.BLOCKSIZE + 2 * tarfile.BLOCKSIZE
    hashed = sha256(head)
    for zeros in _zeros(size - len(head)):
        hashed.update(zeros)
    with path.open("wb") as file:
        file.write(head)
        file.truncate(size)
    return {"mediaType": LAYER, "size": size, "digest": f"sha256:{hashed.hexdigest()}"}


def _zeros(nbytes: int) -> Iterator[bytes]:
    for _ in range(nbytes // len(_ZEROS)):
        yield _ZEROS
    yield _ZEROS[: nbytes % len(_ZEROS)]
