"""Copies within one registry: what is read and what is written share its limits, and never wait for each other."""

import anyio
import pytest

from syncer.demo.images import make_image, make_layer, noise
from tests.support.wire import kind


@pytest.mark.parametrize("limit", [0, 1, 2, 4])
async def test_reading_never_keeps_the_last_place_from_writing(source, net, limit):
    if limit:
        net.settings["source"] = {"max_connections": limit}
    for number in range(15):
        layers = [make_layer({"small": noise(f"{number} {each}", 3000)}) for each in range(6)]
        layers.append(make_layer({"large": noise(f"large {number}", 400_000)}))
        make_image(source.store, "app", str(number), layers=layers)

    @source.before
    async def slowly(request):
        if kind(request) == "GET blob":
            await anyio.sleep(0.02)

    outcome = await net.sync({"source/app": "source/copy"}, transfers=1)
    assert outcome.counts == (15, 0, 0)
