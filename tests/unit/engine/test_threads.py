"""Large blobs move in threads: no more than cores, and none where they do not help."""

import threading

import pytest

from syncer.demo.images import make_image, make_layer, noise
from syncer.events import BlobProgress, BytesMoved, ImageSynced
from syncer.http import wire
from syncer.http.splice import usable_cores
from tests.support.wire import same

LARGE = 600_000
COPY = {"source/app": "destination/app"}


@pytest.fixture(autouse=True)
def low_threshold(monkeypatch):
    monkeypatch.setattr(wire, "SPLICE_THRESHOLD", 300_000)
    monkeypatch.setattr(wire, "READ_SIZE", 16 * 1024)


class Watch:
    """Counts the threads at each event of a run."""

    def __init__(self):
        self.most = 0

    def __call__(self, event):
        if isinstance(event, BlobProgress | BytesMoved | ImageSynced):
            self.most = max(self.most, len(running()))


def running():
    return [thread for thread in threading.enumerate() if thread.name == "splice"]


def fill(source, images, nbytes):
    for number in range(images):
        layer = make_layer({"file": noise(f"layer {number}", nbytes)})
        make_image(source.store, "app", str(number), layers=[layer])


@pytest.mark.parametrize("images", [1, 8])
async def test_large_blobs_use_at_most_as_many_threads_as_cores(source, destination, net, images):
    fill(source, images, LARGE)
    watch = Watch()
    outcome = await net.sync(COPY, transfers=8, heard=watch)
    assert outcome.counts == (images, 0, 0)
    assert same(source.store, destination.store, "app")
    assert 1 <= watch.most <= usable_cores()
    assert running() == []


async def test_small_blobs_use_no_thread(source, destination, net):
    fill(source, 8, 100_000)
    watch = Watch()
    await net.sync(COPY, transfers=8, heard=watch)
    assert same(source.store, destination.store, "app")
    assert watch.most == 0


@pytest.mark.parametrize("limited", ["source", "destination"])
async def test_blobs_of_a_registry_with_a_bandwidth_use_no_thread(source, destination, net, limited):
    net.settings[limited] = {"bandwidth": "100MiB"}
    fill(source, 2, LARGE)
    watch = Watch()
    await net.sync(COPY, heard=watch)
    assert same(source.store, destination.store, "app")
    assert watch.most == 0


async def test_bytes_of_threads_are_counted(source, destination, net):
    fill(source, 1, LARGE)
    outcome = await net.sync(COPY)
    blob = max(source.store.blobs("app").values(), key=len)
    assert sum(event.nbytes for event in outcome.told.of(BlobProgress)) == len(blob)
    for direction in ("pulled", "pushed"):
        moved = [event.nbytes for event in outcome.told.of(BytesMoved) if event.direction == direction]
        assert max(moved) == len(blob)
