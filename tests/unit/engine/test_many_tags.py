"""Thousands of tags: what is open at once stays bounded, and so does what is remembered."""

import gc
import tracemalloc
from collections import deque

import anyio

from syncer.demo.images import make_image, make_layer
from syncer.engine.pool import METADATA_WIDTH
from syncer.engine.task import KINDS
from syncer.events import TaskEnded
from tests.support.wire import Recorder, kind, kinds

TAGS = 2000
LAYER = make_layer({"layer": b"small"})


def tag_both(source, destination, count):
    """As many tags at both sides, of one image."""
    for registry in (source, destination):
        image = make_image(registry.store, "app", "0", layers=[LAYER])
        for number in range(1, count):
            registry.store.tag("app", str(number), image.digest)


async def test_number_of_live_tasks_is_bounded(source, destination, net):
    tag_both(source, destination, TAGS)
    limit = 0

    def look(event):
        nonlocal limit
        if not isinstance(event, TaskEnded):
            return
        counts = [run._graph.counts(kind) for kind in KINDS]
        limit = max(limit, sum(each.waiting + each.ready + each.running for each in counts))

    run, recorder = net.run({"source/app": "destination/app"}, heard=look)
    assert (await net.finish(run, recorder)).counts == (0, TAGS, 0)
    assert limit <= 2 + 4 * 2
    # Two pages, and a look behind the last full one.
    assert kinds(source) == {"GET tags": 3, "HEAD manifest": TAGS}
    assert kinds(destination) == {"GET tags": 1, "HEAD manifest": TAGS}


async def test_finished_images_keep_little_memory(source, destination, net):
    count = 500
    tag_both(source, destination, count)
    for registry in (source, destination):
        registry.requests = deque(maxlen=0)
    recorder: Recorder
    run, recorder = net.run({"source/app": "destination/app"}, heard=lambda _event: recorder.events.clear())
    tracemalloc.start()
    try:
        outcome = await net.finish(run, recorder)
        gc.collect()
        kept, limit = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert outcome.counts == (0, count, 0)
    assert kept < 1500 * count
    assert limit < 1500 * count + 5_000_000


def hold_back(registry, what, limit):
    """Answer requests of a kind only when `limit` of them have come: with fewer at once, none is ever answered."""
    come = 0

    @registry.before
    async def wait(request):
        nonlocal come
        if kind(request) == what:
            come += 1
            while come < limit:  # noqa: ASYNC110 - a number tells nobody
                await anyio.sleep(0.001)


async def test_one_rule_fills_the_lane_before_the_first_answer_comes(source, destination, net):
    """Workers wake each other: else a long line would be used by two of them until its first answer."""
    for number in range(20):
        make_image(source.store, "app", str(number), layers=[LAYER])
    hold_back(source, "GET manifest", METADATA_WIDTH * 2)
    assert (await net.sync({"source/app": "destination/app"}, transfers=2)).counts == (20, 0, 0)


async def test_idle_transfer_workers_open_images(source, destination, net):
    for store in (source.store, destination.store):
        for number in range(30):
            make_image(store, "app", str(number), layers=[LAYER])
    hold_back(source, "HEAD manifest", (METADATA_WIDTH + 1) * 2)
    assert (await net.sync({"source/app": "destination/app"}, transfers=2)).counts == (0, 30, 0)
