"""A host that some rules need and others do not gets half of the metadata lane at most."""

import anyio

from syncer.demo.images import make_image, make_layer, noise
from syncer.engine.pool import METADATA_WIDTH
from tests.support.wire import hold, kind

LAYER = make_layer({"file": noise("shares", 1000)})
BOTH = {"here/app": "there/app", "elsewhere/app": "there/other"}


async def test_one_host_does_not_get_the_whole_lane_where_others_wait(here, there, elsewhere, net):
    for registry in (here, elsewhere):
        for number in range(40):
            make_image(registry.store, "app", str(number), layers=[LAYER])
    # Whatever is asked of the first source is answered only when the second rule is done.
    hold(here, "GET manifest", lambda: len(there.store.tags("other")) == 40)
    hold(here, "HEAD manifest", lambda: len(there.store.tags("other")) == 40)
    outcome = await net.sync(BOTH, transfers=1)
    assert outcome.counts == (80, 0, 0)


async def test_a_host_that_all_rules_need_gets_the_whole_lane(here, there, net):
    for number in range(20):
        make_image(here.store, "a", str(number), layers=[LAYER])
        make_image(here.store, "b", str(number), layers=[LAYER])
    come = 0

    @here.before
    async def wait(request):
        nonlocal come
        if kind(request) == "GET manifest":
            come += 1
            while come < METADATA_WIDTH * 2:  # noqa: ASYNC110 - a number tells nobody
                await anyio.sleep(0.001)

    rules = {"here/a": "there/a", "here/b": "there/b"}
    assert (await net.sync(rules, transfers=2)).counts == (40, 0, 0)
