"""`save` and `load` with an archive of some GiB: memory, disk space, and time in comparison to `cp`.

    python -m benchmarks.archives --gib 10 --folder /var/tmp/bench --registry /dev/shm/bench

`--folder` is on the disk that is measured. `--registry` has the storage of the registries and needs the same space again.
"""

import argparse
import json
import os
import shutil
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from benchmarks.contenders import PYTHON
from tests.support.processes import Process
from tests.support.registries import Registry

LAYER = 128 * 1024 * 1024
LAYERS_PER_IMAGE = 4
_POLL = 0.1


@dataclass(frozen=True)
class Measured:
    """Seconds, peak memory in bytes, and the most space on the disk in bytes beyond what was there before."""

    seconds: float
    memory: int
    disk: int


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gib", type=float, default=10)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--registry", type=Path, required=True)
    options = parser.parse_args()
    folder: Path = options.folder
    folder.mkdir(parents=True)
    options.registry.mkdir(parents=True)
    try:
        measure(folder, options.registry, options.gib)
    finally:
        shutil.rmtree(folder)
        shutil.rmtree(options.registry)
    return 0


def measure(folder: Path, storage: Path, gib: float) -> None:
    written = write_layout(storage / "layout", int(gib * 1024**3))
    first = Registry(storage / "one", storage / "one/data")
    first.start()
    try:
        run(folder, first, "load", storage / "layout", "--to", f"{first.host}/{{path}}")
        shutil.rmtree(storage / "layout")
        archive = folder / "images.tar"
        (folder / "images.json").write_text(
            json.dumps({f"{first.host}/app{number}": "" for number in range(written)})
        )
        saved = run(folder, first, "save", "--output", archive, "--images", folder / "images.json",
                    "--registry", "x.test", "--namespace", "x")  # fmt: skip
    finally:
        first.close()
    shutil.rmtree(first.folder)
    size = archive.stat().st_size
    second = Registry(storage / "two", storage / "two/data")
    second.start()
    try:
        loaded = run(folder, second, "load", archive, "--to", f"{second.host}/{{name}}")
    finally:
        second.close()
    shutil.rmtree(second.folder)
    copied = copy(archive, folder / "copy.tar")
    print(f"archive: {size / 1024**3:.2f} GiB; cp and sync: {copied:.1f} s, {size / copied / 1e6:.0f} MB/s")
    for name, each in (("save", saved), ("load", loaded)):
        print(
            f"{name}: {each.seconds:.1f} s, {size / each.seconds / 1e6:.0f} MB/s, {copied / each.seconds:.2f} of cp; "
            f"memory {each.memory / 1e6:.0f} MB; disk {each.disk / size:.3f} of the archive"
        )


def write_layout(layout: Path, nbytes: int) -> int:
    """Write a layout with layers of random bytes. Return the number of its images."""
    blobs = layout / "blobs/sha256"
    blobs.mkdir(parents=True)

    def put(content: bytes, media_type: str) -> dict[str, object]:
        name = sha256(content).hexdigest()
        (blobs / name).write_bytes(content)
        return {"mediaType": media_type, "digest": f"sha256:{name}", "size": len(content)}

    entries = []
    for number in range(max(1, nbytes // (LAYER * LAYERS_PER_IMAGE))):
        manifest = {
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": put(b'{"architecture":"amd64","os":"linux","n":%d}' % number,
                          "application/vnd.oci.image.config.v1+json"),
            "layers": [put(os.urandom(LAYER), "application/vnd.oci.image.layer.v1.tar")
                       for _ in range(LAYERS_PER_IMAGE)],
        }  # fmt: skip
        entry = put(json.dumps(manifest).encode(), "application/vnd.oci.image.manifest.v1+json")
        entry["annotations"] = {"org.opencontainers.image.ref.name": f"quay.io/app{number}:1"}
        entries.append(entry)
    (layout / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
    (layout / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": entries}))
    return len(entries)


def run(folder: Path, registry: Registry, *arguments: str | Path) -> Measured:
    auth = folder / "auth.json"
    auth.write_text(json.dumps({registry.host: registry.auth_entry}))
    before, started = used(folder), time.monotonic()
    process = Process(
        [PYTHON, "-m", "syncer", *map(str, arguments), "--auth", str(auth), "--progress", "none"],
        stdout=folder / "out", stderr=folder / "err", env=environment(folder), cwd=Path.cwd(),
    )  # fmt: skip
    memory = disk = 0
    while process.poll() is None:
        with suppress(OSError, StopIteration):
            status = Path(f"/proc/{process.pid}/status").read_text()
            memory = max(
                memory, int(next(line for line in status.splitlines() if "VmHWM" in line).split()[1])
            )
        disk = max(disk, used(folder) - before)
        time.sleep(_POLL)
    seconds = time.monotonic() - started
    if process.poll():
        raise SystemExit((folder / "err").read_text())
    return Measured(seconds, memory * 1024, disk)


def environment(folder: Path) -> Mapping[str, str]:
    return {"PATH": os.environ["PATH"], "HOME": str(folder), "TMPDIR": str(folder)}


def used(folder: Path) -> int:
    """Return the space that the files of a folder use, those without a name included."""
    total = 0
    for path in folder.rglob("*"):
        with suppress(FileNotFoundError):
            total += path.stat().st_blocks * 512
    return total


def copy(source: Path, destination: Path) -> float:
    started = time.monotonic()
    commands: Sequence[Sequence[str]] = (["cp", str(source), str(destination)], ["sync", str(destination)])
    for command in commands:
        if os.spawnvp(os.P_WAIT, command[0], list(command)):
            raise SystemExit(f"{command} failed")
    return time.monotonic() - started


if __name__ == "__main__":
    raise SystemExit(main())
