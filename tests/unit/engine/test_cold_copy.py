"""A first copy, to repositories that are new: nothing is asked that can be known."""

from syncer.demo.images import make_image, make_index, make_layer, noise
from tests.support.wire import kinds, paths, same

LAYERS = [make_layer({f"file{number}": noise(f"layer {number}", 2000)}) for number in range(4)]
LARGE = make_layer({"large": noise("large", 600_000)})


async def test_an_image_arrives_byte_for_byte(source, destination, net):
    make_image(source.store, "app", "1", layers=LAYERS)
    outcome = await net.sync({"source/app": "destination/app"})
    assert outcome.counts == (1, 0, 0)
    assert outcome.result.outcome == "success"
    assert same(source.store, destination.store, "app")


async def test_the_requests_of_a_small_image_are_few(source, destination, net):
    make_image(source.store, "app", "1", layers=LAYERS)
    await net.sync({"source/app": "destination/app"})
    assert kinds(source) == {"GET tags": 1, "GET manifest": 1, "GET blob": 5}
    assert kinds(destination) == {"GET tags": 1, "POST upload": 5, "PUT upload": 5, "PUT manifest": 1}


async def test_a_large_blob_costs_no_more_requests(source, destination, net):
    make_image(source.store, "app", "1", layers=[LARGE])
    await net.sync({"source/app": "destination/app"})
    assert kinds(source) == {"GET tags": 1, "GET manifest": 1, "GET blob": 2}
    assert kinds(destination) == {"GET tags": 1, "POST upload": 2, "PUT upload": 2, "PUT manifest": 1}
    assert same(source.store, destination.store, "app")


async def test_a_rule_that_names_its_tags_lists_none(source, destination, net):
    make_image(source.store, "app", "1", layers=LAYERS)
    await net.sync({"source/app:1": "destination/app:one"})
    assert "GET tags" not in kinds(source)
    assert destination.store.tags("app") == ["one"]


async def test_an_index_costs_one_request_for_each_child(source, destination, net):
    children = [
        make_image(source.store, "app", layers=LAYERS, platform=f"linux/{name}")
        for name in ("amd64", "arm64")
    ]
    make_index(source.store, "app", "1", children=children)
    await net.sync({"source/app": "destination/app"})
    assert kinds(source) == {"GET tags": 1, "GET manifest": 3, "GET blob": 6}
    assert kinds(destination) == {"GET tags": 1, "POST upload": 6, "PUT upload": 6, "PUT manifest": 3}
    assert same(source.store, destination.store, "app")


async def test_tags_of_one_digest_are_pushed_as_tags_only(source, destination, net):
    image = make_image(source.store, "app", "1", layers=LAYERS)
    for tag in ("1.0", "latest"):
        source.store.tag("app", tag, image.digest)
    await net.sync({"source/app": "destination/app"})
    assert kinds(source)["GET blob"] == kinds(destination)["PUT upload"] == 5
    assert kinds(destination)["PUT manifest"] == 3
    assert same(source.store, destination.store, "app")


async def test_a_digest_goes_where_the_rule_says(source, destination, net):
    image = make_image(source.store, "app", layers=LAYERS)
    rules = {
        f"source/app@{image.digest}": "destination/bare",
        f"source/app:1@{image.digest}": "destination/tagged",
    }
    outcome = await net.sync(rules)
    assert outcome.counts == (2, 0, 0)
    assert f"/v2/bare/manifests/{image.digest}" in paths(destination, "PUT manifest")
    assert destination.store.tags("bare") == []
    assert destination.store.manifest("bare", image.digest)
    assert destination.store.digest("tagged", "1") == image.digest


async def test_bytes_moved_equals_the_transferred_bytes(source, destination, net):
    make_image(source.store, "app", "1", layers=[*LAYERS, LARGE])
    outcome = await net.sync({"source/app": "destination/app"})
    pulled = sum(request.sent for request in source.requests if "tags" not in request.path)
    pushed = sum(request.received for request in destination.requests)
    assert outcome.moved == {("pulled", source.host): pulled, ("pushed", destination.host): pushed}
    assert outcome.synced[0].nbytes == pushed
