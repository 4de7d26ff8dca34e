"""Large blobs are downloaded over several idle connections, in order and without corruption."""

import asyncio
from contextlib import asynccontextmanager
from typing import cast

import anyio
import pytest

from syncer.demo import Answer, DropConnection
from syncer.demo.images import make_image, make_layer, noise
from syncer.engine import download, ranges
from syncer.oci.descriptor import Descriptor
from syncer.oci.digest import Digest
from syncer.oci.reference import Repository
from syncer.places.content import BlobBody, Source
from tests.support.wire import same

SIZE = 1_500_000
PART = 100_000


@pytest.fixture(autouse=True)
def small_parts(monkeypatch):
    for module in (download, ranges):
        monkeypatch.setattr(module, "PART", PART)
    monkeypatch.setattr(ranges, "SPLIT_THRESHOLD", SIZE // 2)
    # Loopback is faster than the networks for which blobs are split.
    monkeypatch.setattr(ranges, "FAST", float("inf"))
    monkeypatch.setattr(ranges, "SLOW_SECONDS", -1.0)


def layer(name="large"):
    return make_layer({name: noise(name, SIZE)})


def ranged(registry):
    """Return the requests for ranges of blobs."""
    return [request for request in registry.requests if "Range" in request.headers]


@pytest.mark.usefixtures("relay_path")
async def test_large_blob_uses_several_connections(source, destination, net):
    make_image(source.store, "app", "1", layers=[layer()])
    outcome = await net.sync({"source/app": "destination/app"}, transfers=4)
    assert outcome.counts == (1, 0, 0)
    assert len(ranged(source)) >= 3
    assert same(source.store, destination.store, "app")


@pytest.mark.usefixtures("relay_path")
async def test_parts_do_not_overlap(source, destination, net):
    make_image(source.store, "app", "1", layers=[layer()])
    await net.sync({"source/app": "destination/app"}, transfers=4)
    starts = [
        int(request.headers["Range"].removeprefix("bytes=").split("-")[0]) for request in ranged(source)
    ]
    assert len(starts) == len(set(starts))
    assert sum(request.sent for request in ranged(source)) <= SIZE


async def test_one_transfer_lane_means_one_connection(source, destination, net):
    make_image(source.store, "app", "1", layers=[layer()])
    await net.sync({"source/app": "destination/app"}, transfers=1)
    assert ranged(source) == []


async def test_small_blob_is_not_split(source, destination, net, monkeypatch):
    monkeypatch.setattr(ranges, "SPLIT_THRESHOLD", SIZE * 2)
    make_image(source.store, "app", "1", layers=[layer()])
    await net.sync({"source/app": "destination/app"}, transfers=4)
    assert ranged(source) == []


async def test_download_over_a_fast_connection_is_not_split(source, destination, net, monkeypatch):
    monkeypatch.setattr(ranges, "FAST", 1)
    monkeypatch.setattr(ranges, "SLOW_SECONDS", 0.0)
    make_image(source.store, "app", "1", layers=[layer()])
    await net.sync({"source/app": "destination/app"}, transfers=4)
    assert ranged(source) == []


async def test_source_without_ranges_uses_one_connection(source, destination, net):
    make_image(source.store, "app", "1", layers=[layer("one")])
    make_image(source.store, "app", "2", layers=[layer("two")])

    async def ignore_ranges(request):
        if "range" in request.headers and "/blobs/" in request.path:
            digest = request.path.rpartition("/")[2]
            return Answer(200, {}, source.store.get_blob("app", digest))
        return None

    source.before(ignore_ranges)
    outcome = await net.sync({"source/app": "destination/app"}, transfers=3)
    assert outcome.counts == (2, 0, 0)
    assert len(ranged(source)) <= 3
    assert same(source.store, destination.store, "app")


@pytest.mark.usefixtures("relay_path")
async def test_interrupted_part_is_completed_by_the_download(source, destination, net):
    make_image(source.store, "app", "1", layers=[layer()])
    dropped: list[str] = []

    async def drop_some(request):
        if "range" in request.headers and len(dropped) < 3:
            dropped.append(request.headers["range"])
            raise DropConnection

    source.before(drop_some)
    outcome = await net.sync({"source/app": "destination/app"}, transfers=4)
    assert dropped
    assert outcome.counts == (1, 0, 0)
    assert same(source.store, destination.store, "app")


@pytest.mark.usefixtures("relay_path")
async def test_corrupted_part_is_not_copied(source, destination, net):
    make_image(source.store, "app", "1", layers=[layer()])

    async def lie(request):
        if request.headers.get("range", "").startswith(f"bytes={2 * PART}-"):
            end = 3 * PART - 1
            return Answer(206, {"content-range": f"bytes {2 * PART}-{end}/*"}, b"\0" * PART)
        return None

    source.before(lie)
    outcome = await net.sync({"source/app": "destination/app"}, transfers=4, retries=0)
    if outcome.counts != (1, 0, 0):
        assert outcome.failed[0].failure.kind == "digest_mismatch"
        assert destination.store.tags("app") == []
    else:
        assert same(source.store, destination.store, "app")


async def test_part_does_not_start_in_bytes_that_a_thread_is_reading():
    blob = Descriptor("application/octet-stream", Digest.of(b""), SIZE)
    body = Waits()
    async with ranges.RangePrefetcher(cast("Source", body), blob, ranges.IdleSlots(2)) as prefetcher:
        prefetcher.claim(8 * PART)
        # Another download has begun meanwhile, or the thread has moved less than it could.
        prefetcher.reached(PART)
        await anyio.wait_all_tasks_blocked()
        assert prefetcher.next_start() == 8 * PART


@pytest.mark.parametrize(("waited", "split"), [(2.0, True), (0.5, False)])
async def test_blob_is_split_by_the_time_that_its_download_waits_for_the_source(waited, split, monkeypatch):
    monkeypatch.setattr(ranges, "FAST", PART)
    monkeypatch.setattr(ranges, "SLOW_SECONDS", 0.0)
    blob = Descriptor("application/octet-stream", Digest.of(b""), SIZE)
    async with ranges.RangePrefetcher(cast("Source", Waits()), blob, ranges.IdleSlots(2)) as prefetcher:
        # However long the upload took.
        prefetcher.waited(waited, PART)
        prefetcher.reached(PART)
        await anyio.wait_all_tasks_blocked()
        assert (prefetcher.next_start() is not None) is split


async def test_prefetched_parts_do_not_make_the_own_connection_look_fast(monkeypatch):
    monkeypatch.setattr(ranges, "FAST", PART)
    monkeypatch.setattr(ranges, "SLOW_SECONDS", 0.0)
    blob = Descriptor("application/octet-stream", Digest.of(b""), SIZE)
    async with ranges.RangePrefetcher(cast("Source", Waits()), blob, ranges.IdleSlots(2)) as prefetcher:
        prefetcher.waited(1.1, PART)
        prefetcher.reached(SIZE - 2 * PART)
        await anyio.wait_all_tasks_blocked()
        assert prefetcher.next_start() == SIZE - PART


async def test_fetcher_that_never_started_returns_its_worker():
    blob = Descriptor("application/octet-stream", Digest.of(b""), SIZE)
    idle_slots = ranges.IdleSlots(2)
    async with ranges.RangePrefetcher(cast("Source", Waits()), blob, idle_slots) as prefetcher:
        prefetcher.reached(PART)
        assert not idle_slots.borrow()
    assert [idle_slots.borrow() for _ in range(3)] == [True, True, False]


async def test_part_is_not_fetched_to_its_end_after_the_download_restarts():
    blob = Descriptor("application/octet-stream", Digest.of(b""), SIZE)
    body, idle_slots = Slow(), ranges.IdleSlots(1)
    async with ranges.RangePrefetcher(cast("Source", body), blob, idle_slots) as prefetcher:
        prefetcher.reached(PART)
        await body.asked()
        part = prefetcher.at(prefetcher.next_start() or 0)
        assert part
        body.give(b"a" * 1000)
        await anyio.wait_all_tasks_blocked()
        prefetcher.forget()
        body.give(b"b" * 1000)
        await anyio.wait_all_tasks_blocked()
        await asyncio.sleep(0)
        assert idle_slots.borrow()
        assert [piece async for piece in part.pieces()] == []
    assert [idle_slots.take_room() for _ in range(ranges.MAX_PARTS + 1)].count(True) == ranges.MAX_PARTS


class Slow:
    """A source whose blobs arrive when a test says so."""

    name = Repository("reg.example", "app")

    def __init__(self):
        self._given: asyncio.Queue[bytes] = asyncio.Queue()
        self._asked = asyncio.Event()
        self.asked = self._asked.wait
        self.give = self._given.put_nowait

    @asynccontextmanager
    async def fetch_blob(self, blob, *, offset, length):
        self._asked.set()
        yield BlobBody(offset, blob.size, self._chunks())

    async def _chunks(self):
        while True:
            yield await self._given.get()


class Waits:
    """A source whose blobs never arrive."""

    name = Repository("reg.example", "app")

    @asynccontextmanager
    async def fetch_blob(self, _blob, **_part):
        await anyio.sleep_forever()
        yield


def test_only_idle_workers_are_borrowed():
    idle_slots = ranges.IdleSlots(3, lambda: 1)
    assert [idle_slots.borrow() for _ in range(3)] == [True, True, False]
    idle_slots.release()
    assert idle_slots.borrow()


def test_borrowed_worker_is_wanted_back_for_a_task():
    busy = 1
    idle_slots = ranges.IdleSlots(3, lambda: busy)
    assert idle_slots.borrow()
    assert idle_slots.borrow()
    assert not idle_slots.wanted_back
    busy = 2
    assert idle_slots.wanted_back


def test_parts_in_memory_are_limited_for_the_process():
    idle_slots = ranges.IdleSlots(3, lambda: 1)
    assert [idle_slots.take_room() for _ in range(ranges.MAX_PARTS + 1)] == [
        *[True] * ranges.MAX_PARTS,
        False,
    ]
    idle_slots.leave_room()
    assert idle_slots.take_room()
