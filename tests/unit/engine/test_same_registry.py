"""Copies within one registry: what is read and what is written share its limits, and never wait for each other."""

import anyio
import pytest

from syncer.demo import MemoryRegistry
from syncer.demo.images import make_image, make_index, make_layer, noise
from syncer.oci.digest import Digest
from tests.support.wire import is_whole, kind, kinds


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


SMALL = make_layer({"small": noise("small", 3000)})
LARGE = make_layer({"large": noise("large", 700_000)})


async def test_blobs_are_mounted_from_the_source_at_the_same_registry(source, net):
    make_image(source.store, "app", "1", layers=[SMALL, LARGE])
    outcome = await net.sync({"source/app": "source/copy"})
    assert outcome.blobs == {"mounted": 3}
    assert "GET blob" not in kinds(source)
    assert "PUT upload" not in kinds(source)
    assert source.store.digest("copy", "1") == source.store.digest("app", "1")
    assert is_whole(source.store, "copy", "1")


async def test_blobs_of_an_index_are_mounted_from_the_source_at_the_same_registry(source, net):
    children = [
        make_image(source.store, "app", layers=[SMALL, LARGE], platform=platform)
        for platform in ("linux/amd64", "linux/arm64")
    ]
    make_index(source.store, "app", "1", children=children)
    outcome = await net.sync({"source/app": "source/copy"})
    assert outcome.blobs == {"mounted": 4, "shared": 2}
    assert is_whole(source.store, "copy", "1")


async def test_a_plan_mounts_from_the_source_at_the_same_registry(source, net):
    make_image(source.store, "app", "1", layers=[SMALL, LARGE])
    outcome = await net.sync({"source/app": "source/copy"}, dry_run=True)
    assert outcome.blobs == {"mounted": 3}
    assert source.store.repositories() == ["app"]


@pytest.mark.parametrize("new", [True, False], ids=["new", "known"])
async def test_a_registry_that_refuses_mounts_gets_each_blob_once(source, net, new):
    make_image(source.store, "app", "1", layers=[SMALL, LARGE])
    if not new:
        make_image(source.store, "copy", "other", layers=[])

    @source.before
    async def open_an_upload_instead(request):
        request.query.pop("mount", None)

    outcome = await net.sync({"source/app": "source/copy"})
    assert outcome.blobs == {"copied": 3}
    assert kinds(source)["POST mount"] == kinds(source)["PUT upload"] == 3
    assert source.open_uploads == 0
    assert is_whole(source.store, "copy", "1")


async def test_another_account_at_the_same_registry_mounts_nothing(net):
    async with MemoryRegistry(username="me", password="secret") as origin:
        make_image(origin.store, "app", "1", layers=[SMALL, LARGE])
        net.registries["origin"] = origin
        net.dead["copies"] = f"{origin.host}/copies"
        net.settings["origin"] = net.settings["copies"] = {"username": "me", "password": "secret"}
        outcome = await net.sync({"origin/app": "copies/app"})
        assert outcome.blobs == {"copied": 3}
        assert is_whole(origin.store, "copies/app", "1")


async def test_a_source_that_lost_a_blob_fails_its_image(source, net):
    make_image(source.store, "app", "1", layers=[SMALL, LARGE])
    source.store.delete_blob("app", Digest.of(LARGE.content))
    outcome = await net.sync({"source/app": "source/copy"})
    assert outcome.counts == (0, 0, 1)
    assert outcome.failed[0].failure.kind == "not_found"
    assert source.open_uploads == 0
