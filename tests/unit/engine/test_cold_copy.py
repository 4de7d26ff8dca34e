"""A first copy, to repositories that are new: nothing is asked that can be known."""

from syncer.demo.images import make_image, make_index, make_layer, noise
from tests.support.wire import kinds, paths, same

LAYERS = [make_layer({f"file{number}": noise(f"layer {number}", 2000)}) for number in range(4)]
LARGE = make_layer({"large": noise("large", 600_000)})


async def test_an_image_arrives_byte_for_byte(here, there, net):
    make_image(here.store, "app", "1", layers=LAYERS)
    outcome = await net.sync({"here/app": "there/app"})
    assert outcome.counts == (1, 0, 0)
    assert outcome.result.outcome == "success"
    assert same(here.store, there.store, "app")


async def test_the_requests_of_a_small_image_are_few(here, there, net):
    make_image(here.store, "app", "1", layers=LAYERS)
    await net.sync({"here/app": "there/app"})
    assert kinds(here) == {"GET tags": 1, "GET manifest": 1, "GET blob": 5}
    assert kinds(there) == {"GET tags": 1, "POST upload": 5, "PUT upload": 5, "PUT manifest": 1}


async def test_a_large_blob_costs_no_more_requests(here, there, net):
    make_image(here.store, "app", "1", layers=[LARGE])
    await net.sync({"here/app": "there/app"})
    assert kinds(here) == {"GET tags": 1, "GET manifest": 1, "GET blob": 2}
    assert kinds(there) == {"GET tags": 1, "POST upload": 2, "PUT upload": 2, "PUT manifest": 1}
    assert same(here.store, there.store, "app")


async def test_a_rule_that_names_its_tags_lists_none(here, there, net):
    make_image(here.store, "app", "1", layers=LAYERS)
    await net.sync({"here/app:1": "there/app:one"})
    assert "GET tags" not in kinds(here)
    assert there.store.tags("app") == ["one"]


async def test_an_index_costs_one_request_for_each_child(here, there, net):
    children = [
        make_image(here.store, "app", layers=LAYERS, platform=f"linux/{name}") for name in ("amd64", "arm64")
    ]
    make_index(here.store, "app", "1", children=children)
    await net.sync({"here/app": "there/app"})
    assert kinds(here) == {"GET tags": 1, "GET manifest": 3, "GET blob": 6}
    assert kinds(there) == {"GET tags": 1, "POST upload": 6, "PUT upload": 6, "PUT manifest": 3}
    assert same(here.store, there.store, "app")


async def test_tags_of_one_digest_are_pushed_as_tags_only(here, there, net):
    image = make_image(here.store, "app", "1", layers=LAYERS)
    for tag in ("1.0", "latest"):
        here.store.tag("app", tag, image.digest)
    await net.sync({"here/app": "there/app"})
    assert kinds(here)["GET blob"] == kinds(there)["PUT upload"] == 5
    assert kinds(there)["PUT manifest"] == 3
    assert same(here.store, there.store, "app")


async def test_a_digest_goes_where_the_rule_says(here, there, net):
    image = make_image(here.store, "app", layers=LAYERS)
    rules = {f"here/app@{image.digest}": "there/bare", f"here/app:1@{image.digest}": "there/tagged"}
    outcome = await net.sync(rules)
    assert outcome.counts == (2, 0, 0)
    assert f"/v2/bare/manifests/{image.digest}" in paths(there, "PUT manifest")
    assert there.store.tags("bare") == []
    assert there.store.manifest("bare", image.digest)
    assert there.store.digest("tagged", "1") == image.digest


async def test_bytes_are_told_as_they_went_over_the_wire(here, there, net):
    make_image(here.store, "app", "1", layers=[*LAYERS, LARGE])
    outcome = await net.sync({"here/app": "there/app"})
    pulled = sum(request.sent for request in here.requests if "tags" not in request.path)
    pushed = sum(request.received for request in there.requests)
    assert outcome.moved == {("pulled", here.host): pulled, ("pushed", there.host): pushed}
    assert outcome.synced[0].nbytes == pushed
