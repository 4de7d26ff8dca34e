"""Rules with several destinations: one download for all, and a failure at one is not the others'."""

import pytest

from syncer.demo.images import make_image, make_index, make_layer, noise
from tests.support.wire import kinds, refuse, same

SIZES = pytest.mark.parametrize("size", [3000, 700_000], ids=["small", "large"])
BOTH = {"here/app": ["there/app", "elsewhere/app"]}


def image(store, tag="1", *, size=3000, **options):
    return make_image(store, "app", tag, layers=[make_layer({"layer": noise(tag, size)})], **options)


def index(store, *, size=3000):
    children = [image(store, "", size=size, platform=f"linux/{name}") for name in ("amd64", "arm64")]
    return make_index(store, "app", "1", children=children)


def to(outcome, events) -> list[str]:
    return [event.destination.repository.host for event in getattr(outcome, events)]


@SIZES
async def test_one_download_feeds_all_uploads(here, there, elsewhere, net, size):
    index(here.store, size=size)
    outcome = await net.sync(BOTH)
    assert outcome.counts == (2, 0, 0)
    assert kinds(here) == {"GET tags": 1, "GET manifest": 3, "GET blob": 3}
    for registry in (there, elsewhere):
        assert kinds(registry)["PUT upload"] == 3
        assert same(here.store, registry.store, "app")


async def test_the_source_is_asked_once_for_all(here, there, elsewhere, net):
    image(here.store)
    await net.sync(BOTH)
    net.forget()
    assert (await net.sync(BOTH)).counts == (0, 2, 0)
    assert kinds(here) == {"GET tags": 1, "HEAD manifest": 1}


async def test_only_where_it_lacks_is_it_brought(here, there, elsewhere, net):
    image(here.store)
    await net.sync({"here/app": "there/app"})
    net.forget()
    outcome = await net.sync(BOTH)
    assert outcome.counts == (1, 1, 0)
    assert set(kinds(there)) == {"GET tags", "HEAD manifest"}
    assert same(here.store, elsewhere.store, "app")


async def test_two_tags_at_one_destination(here, there, net):
    image(here.store)
    outcome = await net.sync({"here/app:1": ["there/app:one", "there/app:uno"]})
    assert outcome.counts == (2, 0, 0)
    assert there.store.tags("app") == ["one", "uno"]
    assert kinds(there)["PUT upload"] == 2


@SIZES
async def test_two_repositories_of_one_registry_get_one_upload(here, there, net, size):
    image(here.store, size=size)
    outcome = await net.sync({"here/app": ["there/app", "there/copy"]})
    assert kinds(here)["GET blob"] == kinds(there)["PUT upload"] == kinds(there)["POST mount"] == 2
    assert outcome.blobs == {"copied": 2, "mounted": 2}


@SIZES
@pytest.mark.parametrize(
    "broken",
    ["HEAD manifest", "HEAD child", "HEAD blob", "POST upload", "PUT upload", "PUT manifest", "POST mount"],
)
@pytest.mark.parametrize("status", [0, 403, 500])
async def test_a_destination_that_fails_is_alone_in_it(net, broken, status, size):
    here, there, elsewhere = net.registries.values()
    index(here.store, size=size)
    for registry in (there, elsewhere):
        registry.store.put_blob("app", b"so that it is not new")
    refuse(there, broken.replace("child", "manifest"), status, where="sha256" if "child" in broken else "")
    images = {"here/app": ["there/app", "there/copy", "elsewhere/app", "elsewhere/copy"]}
    outcome = await net.sync(images)
    assert same(here.store, elsewhere.store, "app")
    assert same(here.store, elsewhere.store, "copy")
    assert set(to(outcome, "failed")) <= {there.host}
    assert {event.failure.registry for event in outcome.failed} <= {there.host}


@pytest.mark.parametrize("broken", ["HEAD manifest", "HEAD blob", "PUT upload", "PUT manifest"])
async def test_only_what_failed_is_tried_again(here, there, elsewhere, net, broken):
    image(here.store)
    for registry in (there, elsewhere):
        registry.store.put_blob("app", b"so that it is not new")
    refuse(there, broken, 500, times=8)
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


async def test_each_destination_fails_for_its_own_reason(here, there, elsewhere, net):
    image(here.store)
    for registry, status in ((there, 500), (elsewhere, 502)):
        registry.store.put_blob("app", b"so that it is not new")
        refuse(registry, "HEAD manifest", status)
    outcome = await net.sync(BOTH)
    reasons = {event.destination.repository.host: event.failure for event in outcome.failed}
    assert {host: (failure.registry, failure.status) for host, failure in reasons.items()} == {
        there.host: (there.host, 500),
        elsewhere.host: (elsewhere.host, 502),
    }


async def test_an_image_that_is_up_to_date_is_told_once(here, there, elsewhere, net):
    image(here.store)
    await net.sync({"here/app": "there/app"})
    refuse(here, "GET manifest", 500, times=4)
    outcome = await net.sync(BOTH)
    assert outcome.counts == (1, 1, 0)


async def test_a_dead_destination_leaves_the_other_alone(here, there, net):
    image(here.store)
    net.dead["nowhere"] = "127.0.0.1:1"
    outcome = await net.sync({"here/app": ["nowhere/app", "there/app"]})
    assert outcome.counts == (1, 0, 1)
    assert outcome.result.outcome == "partial"
    assert outcome.failed[0].failure.kind == "connection"
    assert same(here.store, there.store, "app")
