"""Rules with several destinations: one download for all, and a failure at one is not the others'."""

import pytest

from syncer.demo.images import make_image, make_index, make_layer, noise
from tests.support.wire import kinds, refuse, same

SIZES = pytest.mark.parametrize("size", [3000, 700_000], ids=["small", "large"])
BOTH = {"source/app": ["destination/app", "elsewhere/app"]}


def image(store, tag="1", *, size=3000, **options):
    return make_image(store, "app", tag, layers=[make_layer({"layer": noise(tag, size)})], **options)


def index(store, *, size=3000):
    children = [image(store, "", size=size, platform=f"linux/{name}") for name in ("amd64", "arm64")]
    return make_index(store, "app", "1", children=children)


def to(outcome, events) -> list[str]:
    return [event.destination.repository.host for event in getattr(outcome, events)]


@SIZES
async def test_one_download_feeds_all_uploads(source, destination, elsewhere, net, size):
    index(source.store, size=size)
    outcome = await net.sync(BOTH)
    assert outcome.counts == (2, 0, 0)
    assert kinds(source) == {"GET tags": 1, "GET manifest": 3, "GET blob": 3}
    for registry in (destination, elsewhere):
        assert kinds(registry)["PUT upload"] == 3
        assert same(source.store, registry.store, "app")


async def test_the_source_is_asked_once_for_all(source, destination, elsewhere, net):
    image(source.store)
    await net.sync(BOTH)
    net.forget()
    assert (await net.sync(BOTH)).counts == (0, 2, 0)
    assert kinds(source) == {"GET tags": 1, "HEAD manifest": 1}


async def test_only_where_it_lacks_is_it_brought(source, destination, elsewhere, net):
    image(source.store)
    await net.sync({"source/app": "destination/app"})
    net.forget()
    outcome = await net.sync(BOTH)
    assert outcome.counts == (1, 1, 0)
    assert set(kinds(destination)) == {"GET tags", "HEAD manifest"}
    assert same(source.store, elsewhere.store, "app")


async def test_two_tags_at_one_destination(source, destination, net):
    image(source.store)
    outcome = await net.sync({"source/app:1": ["destination/app:one", "destination/app:uno"]})
    assert outcome.counts == (2, 0, 0)
    assert destination.store.tags("app") == ["one", "uno"]
    assert kinds(destination)["PUT upload"] == 2


@SIZES
async def test_two_repositories_of_one_registry_get_one_upload(source, destination, net, size):
    image(source.store, size=size)
    outcome = await net.sync({"source/app": ["destination/app", "destination/copy"]})
    assert (
        kinds(source)["GET blob"] == kinds(destination)["PUT upload"] == kinds(destination)["POST mount"] == 2
    )
    assert outcome.blobs == {"copied": 2, "mounted": 2}


@SIZES
@pytest.mark.parametrize(
    "broken",
    ["HEAD manifest", "HEAD child", "HEAD blob", "POST upload", "PUT upload", "PUT manifest", "POST mount"],
)
@pytest.mark.parametrize("status", [0, 403, 500])
async def test_a_destination_that_fails_is_alone_in_it(net, broken, status, size):
    source, destination, elsewhere = net.registries.values()
    index(source.store, size=size)
    for registry in (destination, elsewhere):
        registry.store.put_blob("app", b"so that it is not new")
    refuse(
        destination, broken.replace("child", "manifest"), status, where="sha256" if "child" in broken else ""
    )
    images = {"source/app": ["destination/app", "destination/copy", "elsewhere/app", "elsewhere/copy"]}
    outcome = await net.sync(images)
    assert same(source.store, elsewhere.store, "app")
    assert same(source.store, elsewhere.store, "copy")
    assert set(to(outcome, "failed")) <= {destination.host}
    assert {event.failure.registry for event in outcome.failed} <= {destination.host}


@pytest.mark.parametrize("broken", ["HEAD manifest", "HEAD blob", "PUT upload", "PUT manifest"])
async def test_only_what_failed_is_tried_again(source, destination, elsewhere, net, broken):
    image(source.store)
    for registry in (destination, elsewhere):
        registry.store.put_blob("app", b"so that it is not new")
    refuse(destination, broken, 500, times=8)
    outcome = await net.sync(BOTH, retries=3)
    assert outcome.counts == (2, 0, 0)
    assert len(outcome.synced) == 2
    assert kinds(elsewhere) == {
        "GET tags": 1,
        "HEAD manifest": 1,
        "HEAD blob": 2,
        "POST upload": 2,
        "PUT upload": 2,
        "PUT manifest": 1,
    }


async def test_each_destination_fails_for_its_own_reason(source, destination, elsewhere, net):
    image(source.store)
    for registry, status in ((destination, 500), (elsewhere, 502)):
        registry.store.put_blob("app", b"so that it is not new")
        refuse(registry, "PUT manifest", status)
    outcome = await net.sync(BOTH)
    reasons = {event.destination.repository.host: event.failure for event in outcome.failed}
    assert {host: (failure.registry, failure.status) for host, failure in reasons.items()} == {
        destination.host: (destination.host, 500),
        elsewhere.host: (elsewhere.host, 502),
    }


async def test_an_image_that_is_up_to_date_is_told_once(source, destination, elsewhere, net):
    image(source.store)
    await net.sync({"source/app": "destination/app"})
    refuse(source, "GET manifest", 500, times=4)
    outcome = await net.sync(BOTH)
    assert outcome.counts == (1, 1, 0)


async def test_a_dead_destination_leaves_the_other_alone(source, destination, net):
    image(source.store)
    net.dead["nowhere"] = "127.0.0.1:1"
    outcome = await net.sync({"source/app": ["nowhere/app", "destination/app"]})
    assert outcome.counts == (1, 0, 1)
    assert outcome.result.outcome == "partial"
    assert outcome.failed[0].failure.kind == "connection"
    assert same(source.store, destination.store, "app")
