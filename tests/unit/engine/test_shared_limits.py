"""At the wire: a share asks a registry no more at once than its part of the limit."""

from itertools import count

import anyio
import pytest

from syncer.demo.images import make_image, make_layer
from syncer.rules.shard import Shard, share_of
from tests.support.wire import kind


@pytest.mark.parametrize(("index", "limit"), [(0, 3), (1, 2)])
async def test_a_share_keeps_to_its_part_of_the_connections(source, destination, net, index, limit):
    for tag in range(10):
        make_image(source.store, "app", str(tag), layers=[make_layer({"a": b"b"})])
    names = (f"copy-{number}" for number in count())
    own = (name for name in names if share_of(f"{destination.host}/{name}", 2) == index)
    rules = {f"source/app:{tag}": f"destination/{name}" for tag, name in zip(range(10), own, strict=False)}
    net.settings["source"] = {"max_connections": 5}
    seen = waiting = 0
    full = anyio.Event()

    @source.before
    async def gather(request):
        """Hold manifests back until as many are asked for as may be, and a little longer: for one too many."""
        nonlocal seen, waiting
        if kind(request) != "GET manifest":
            return
        waiting += 1
        seen = max(seen, waiting)
        if waiting == limit:
            full.set()
        await full.wait()
        await anyio.sleep(0.02)
        waiting -= 1

    outcome = await net.sync(rules, transfers=8, shard=Shard(index, 2))
    assert outcome.counts == (10, 0, 0)
    assert seen == limit
