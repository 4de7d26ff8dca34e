"""A host that some rules need and others do not gets half of the metadata lane at most."""

import anyio

from syncer.demo.images import make_image, make_layer, noise
from syncer.engine.pool import METADATA_WIDTH
from tests.support.wire import hold, kind

LAYER = make_layer({"file": noise("shares", 1000)})
BOTH = {"source/app": "destination/app", "elsewhere/app": "destination/other"}


async def test_one_host_does_not_get_the_whole_lane_where_others_wait(source, destination, elsewhere, net):
    for registry in (source, elsewhere):
        for number in range(40):
            make_image(registry.store, "app", str(number), layers=[LAYER])
    # Whatever is asked of the first source is answered only when the second rule is done.
    hold(source, "GET manifest", lambda: len(destination.store.tags("other")) == 40)
    hold(source, "HEAD manifest", lambda: len(destination.store.tags("other")) == 40)
    outcome = await net.sync(BOTH, transfers=1)
    assert outcome.counts == (80, 0, 0)


async def test_a_host_that_all_rules_need_gets_the_whole_lane(source, destination, net):
    for number in range(20):
        make_image(source.store, "a", str(number), layers=[LAYER])
        make_image(source.store, "b", str(number), layers=[LAYER])
    come = 0

    @source.before
    async def wait(request):
        nonlocal come
        if kind(request) == "GET manifest":
            come += 1
            while come < METADATA_WIDTH * 2:  # noqa: ASYNC110 - a number tells nobody
                await anyio.sleep(0.001)

    rules = {"source/a": "destination/a", "source/b": "destination/b"}
    assert (await net.sync(rules, transfers=2)).counts == (40, 0, 0)
