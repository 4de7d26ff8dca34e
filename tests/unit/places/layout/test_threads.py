"""A layout uses threads for its files. A transfer that is cancelled closes a file only when its thread has ended."""

import asyncio
import os
import threading
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from syncer.oci.descriptor import Descriptor
from syncer.oci.digest import Digest
from syncer.oci.reference import Repository
from syncer.places.layout.contents import Earlier
from syncer.places.layout.destination import LayoutDestination, WritableLayout
from syncer.places.layout.folder import FolderStore
from syncer.places.layout.stored import BlobWriter, StoredBlob
from syncer.places.layout.threads import in_thread

CONTENT = b"content" * 100
BLOB = Descriptor("", Digest.of(CONTENT), len(CONTENT))


class Gate:
    """Where a thread waits until `leave` is called."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.reached = asyncio.Event()
        self._open = threading.Event()
        self.passed = threading.Event()

    def enter(self) -> None:
        self._loop.call_soon_threadsafe(self.reached.set)
        assert self._open.wait(20)

    def leave(self) -> None:
        self._open.set()


class SlowStore(FolderStore):
    """A folder on a disk that does one thing slowly."""

    gate: Gate
    slow: str

    def begin(self, digest: Digest, size: int, repository: str = "") -> BlobWriter:
        writer = super().begin(digest, size, repository)
        if self.slow == "begin":
            self.gate.enter()
            return writer
        method: Callable[..., object] = getattr(writer, self.slow)

        def slowly(*arguments: object) -> object:
            self.gate.enter()
            try:
                return method(*arguments)
            finally:
                self.gate.passed.set()

        setattr(writer, self.slow, slowly)
        return writer

    def open(self, digest: Digest) -> StoredBlob:
        blob = super().open(digest)
        if self.slow == "open":
            self.gate.enter()
        return blob


def open_files() -> set[str]:
    return {each.name for each in Path("/proc/self/fd").iterdir()}


async def started(
    store: SlowStore, name: str, transfer: Callable[[LayoutDestination], Coroutine[Any, Any, None]]
) -> asyncio.Task[None]:
    """Start a transfer, and return when its thread waits."""
    store.gate, store.slow = Gate(), name
    destination = LayoutDestination(
        WritableLayout(Repository("oci:/x", ""), store, Earlier()), Repository("oci:/x", "library/a")
    )
    task = asyncio.ensure_future(transfer(destination))
    await store.gate.reached.wait()
    return task


async def push(destination: LayoutDestination) -> None:
    await (await destination.start_upload()).put(BLOB, CONTENT)


async def pull(destination: LayoutDestination) -> None:
    async with destination.fetch_blob(BLOB) as body:
        async for _ in body.chunks:
            pass


@pytest.fixture
def store(tmp_path):
    store = SlowStore(tmp_path / "layout", "")
    store.slow = ""
    return store


@pytest.mark.parametrize("name", ["restart", "write", "commit"])
@pytest.mark.parametrize("times", [1, 3])
async def test_cancelled_upload_writes_to_no_other_file(store, tmp_path, name, times):
    task = await started(store, name, push)
    for _ in range(times):
        task.cancel()
        await asyncio.sleep(0)
    # A file that is opened now would get the descriptor of a file that is closed too early.
    with (tmp_path / "other").open("w+b") as other:
        os.write(other.fileno(), b"other content")
        store.gate.leave()
        await asyncio.wait([task])
        assert await asyncio.to_thread(store.gate.passed.wait, 20)
        assert os.pread(other.fileno(), 1000, 0) == b"other content"
    assert task.cancelled()


@pytest.mark.parametrize(("name", "transfer"), [("begin", push), ("write", push), ("open", pull)])
async def test_cancelled_transfer_leaves_no_file_open(store, name, transfer):
    assert store_blob(store)
    await in_thread(int)  # threads have no files of their own, but the first one may open some
    before = open_files()
    task = await started(store, name, transfer)
    task.cancel()
    store.gate.leave()
    await asyncio.wait([task])
    assert task.cancelled()
    assert open_files() == before


def store_blob(store: FolderStore) -> bool:
    writer = FolderStore.begin(store, BLOB.digest, BLOB.size)
    writer.write([CONTENT])
    try:
        return writer.commit()
    finally:
        writer.close()


async def test_time_limit_around_a_thread_expires_when_the_thread_has_ended():
    gate = Gate()

    async def limited() -> str:
        try:
            async with asyncio.timeout(0):
                await in_thread(gate.enter)
                await asyncio.sleep(0)
        except TimeoutError:
            return "timed out"
        return "ended"

    task = asyncio.ensure_future(limited())
    await gate.reached.wait()
    await asyncio.sleep(0)
    assert not task.done()
    gate.leave()
    assert await task == "timed out"


async def test_error_of_a_cancelled_thread_is_replaced_by_the_cancellation():
    gate = Gate()

    def fail() -> None:
        gate.enter()
        raise OSError

    async def tolerant() -> None:
        try:
            await in_thread(fail)
        except OSError:
            await asyncio.sleep(0)

    task = asyncio.ensure_future(tolerant())
    await gate.reached.wait()
    task.cancel()
    await asyncio.sleep(0)
    gate.leave()
    await asyncio.wait([task])
    assert task.cancelled()
