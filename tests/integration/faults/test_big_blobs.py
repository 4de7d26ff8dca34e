"""Transfers of a large blob over an unreliable connection: they are resumed and need little memory."""

import json
import os
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

import anyio
import pytest

from benchmarks.stores import StorageFolder
from syncer.demo import Answer, MemoryRegistry, Request
from syncer.demo.errors import Refusal
from tests.support.faults import Faults

SIZE = int(os.environ.get("FAULTS_BLOB_MIB", "128")) << 20
"""Set `FAULTS_BLOB_MIB=1024` for the full size; each test then takes half a minute."""
LOST = 20_000_000
"""Maximum bytes lost per cut: the socket buffers on the path. Five cuts lose less than a tenth of 1 GiB."""
MAX_MEMORY = 150 * 1024
"""Memory limit in KiB."""
BLOB = "/v2/big/blobs/sha256:*"
UPLOADS = "/v2/*/blobs/uploads/*"
# The peak memory of the process, as reported by the kernel at exit.
MEASURED = """
import sys
from syncer.cli.main import cli
try:
    cli()
finally:
    status = open("/proc/self/status").read()
    print("VmHWM", status.split("VmHWM:")[1].split()[0], file=sys.stderr)
"""


@pytest.fixture(scope="module")
def zeros() -> str:
    hashed, piece = sha256(), bytes(1 << 20)
    for _ in range(SIZE // len(piece)):
        hashed.update(piece)
    return f"sha256:{hashed.hexdigest()}"


@pytest.fixture
async def big(registry, zeros) -> AsyncIterator[Faults]:
    """A docker-registry with an image that has one large layer of zeros in a sparse file."""
    started = registry()
    store = StorageFolder(started.storage)
    data = store._data(zeros)
    data.parent.mkdir(parents=True)
    with data.open("wb") as file:
        file.truncate(SIZE)
    store._link(store._base / "repositories/big/_layers", zeros)
    config = store.put_blob("big", b"{}")
    kind = "application/vnd.oci.image.manifest.v1+json"
    document = {
        "schemaVersion": 2,
        "mediaType": kind,
        "config": {"mediaType": "application/vnd.oci.empty.v1+json", "digest": config, "size": 2},
        "layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": zeros, "size": SIZE}],
    }
    store.put_manifest("big", json.dumps(document).encode(), kind, "1")
    async with Faults(started.host) as faults:
        yield faults


@pytest.fixture
async def copied(tmp_path, big):
    """Run the program to copy the image. Return the exit code and the peak memory in KiB."""

    async def copy(host: str, *options: str) -> tuple[int, int]:
        (tmp_path / "images.json").write_text(json.dumps({f"{big.host}/big:1": f"{host}/big"}))
        entries = {big.host: {"plain_http": True}, host: {"plain_http": True}}
        (tmp_path / "auth.json").write_text(json.dumps(entries))
        done = await anyio.run_process(
            [
                sys.executable,
                "-c",
                MEASURED,
                "--images",
                "images.json",
                "--auth",
                "auth.json",
                "--retries",
                "0",
                *options,
            ],
            cwd=tmp_path,
            env={"HOME": str(tmp_path), "PYTHONPATH": ":".join(sys.path)},
            check=False,
        )
        return done.returncode, int(done.stderr.decode().rpartition("VmHWM ")[2])

    return copy


@dataclass
class Session:
    """The received part of an upload. It is complete when the lock is free."""

    size: int = 0
    hashed: Any = field(default_factory=sha256)
    lock: anyio.Lock = field(default_factory=anyio.Lock)


class Keeping:
    """A registry that keeps upload sessions when a connection breaks. It stores digests only."""

    def __init__(self) -> None:
        self.stored: dict[str, int] = {}
        self._sessions: dict[str, Session] = {}

    async def answer(self, request: Request) -> Answer:
        last = request.path.rpartition("/")[2]
        if "/uploads/" not in request.path:
            known = last in self.stored or request.method == "PUT"
            return Answer(201 if request.method == "PUT" else 200 if known else 404)
        if request.method == "POST":
            number = str(len(self._sessions))
            self._sessions[number] = Session()
            return Answer(202, {"Location": request.path + number})
        session = self._sessions[last]
        # A client may reconnect before the data from its broken connection is read.
        async with session.lock:
            async for piece in request.chunks():
                session.size += len(piece)
                session.hashed.update(piece)
        headers = {"Location": request.path, "Range": f"0-{max(0, session.size - 1)}"}
        if request.method == "PUT":
            digest = f"sha256:{session.hashed.hexdigest()}"
            if digest != request.query["digest"]:
                return Answer.refusal(Refusal("DIGEST_INVALID", digest))
            self.stored[digest] = session.size
            return Answer(201)
        return Answer(202 if request.method == "PATCH" else 204, headers)


@pytest.fixture
async def keeping():
    kept = Keeping()
    async with MemoryRegistry() as registry, Faults(registry.host) as faults:
        registry.before(kept.answer)
        yield kept, faults


async def test_large_download_cut_five_times_is_resumed(big, keeping, copied, zeros):
    kept, there = keeping
    for _ in range(5):
        big.on("GET", BLOB, cut=SIZE // 7, times=1)
    code, memory = await copied(there.host)
    assert code == 0
    assert kept.stored[zeros] == SIZE
    assert big.sent < SIZE + 5 * LOST
    assert there.received < SIZE + LOST
    assert memory < MAX_MEMORY


async def test_large_upload_cut_twice_is_resumed(big, keeping, copied, zeros):
    kept, there = keeping
    there.on("PUT", UPLOADS, cut_upload=SIZE // 3, over=1_000_000, times=1)
    there.on("PATCH", UPLOADS, cut_upload=SIZE // 3, times=1)
    # A slow download is fetched over idle connections too, and each cut drops what is on its way over all of them.
    code, memory = await copied(there.host, "--proc", "1")
    assert code == 0
    assert kept.stored[zeros] == SIZE
    assert there.received < SIZE + 2 * LOST
    assert big.sent < SIZE + 2 * LOST
    assert memory < MAX_MEMORY


async def test_large_upload_restarts_if_registry_loses_session(registry, big, copied, zeros):
    started = registry()
    async with Faults(started.host) as there:
        there.on("PUT", UPLOADS, cut_upload=50_000_000, over=1_000_000, times=2)
        code, memory = await copied(there.host)
    assert code == 0
    assert memory < MAX_MEMORY
    assert StorageFolder(started.storage)._data(zeros).stat().st_size == SIZE
