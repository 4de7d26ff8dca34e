"""Runs that find something at the destination: what agrees is left alone, and only what lacks is brought."""

import anyio
import pytest

from syncer.demo.images import make_image, make_index, make_layer, noise
from syncer.events import SkipReason
from tests.support.wire import call_new_without_tags, kind, kinds, refuse, same

BASE = make_layer({"base": noise("base", 3000)})
TOP = make_layer({"top": noise("top", 1000)})
PLATFORMS = ("linux/amd64", "linux/arm64")


def index(store, tag="1", *, top=TOP):
    children = [make_image(store, "app", layers=[BASE, top], platform=platform) for platform in PLATFORMS]
    return make_index(store, "app", tag, children=children)


@pytest.fixture
async def copied(source, net):
    """Three tags of `app`, copied once, the records empty."""
    for number in range(3):
        make_image(source.store, "app", str(number), layers=[BASE, make_layer({"n": str(number).encode()})])
    await net.sync({"source/app": "destination/app"})
    net.forget()


async def test_nothing_to_do_is_one_head_for_each_tag_and_side(copied, source, destination, net):
    outcome = await net.sync({"source/app": "destination/app"})
    assert outcome.counts == (0, 3, 0)
    assert {event.reason for event in outcome.skipped} == {SkipReason.UP_TO_DATE}
    assert kinds(source) == {"GET tags": 1, "HEAD manifest": 3}
    assert kinds(destination) == {"GET tags": 1, "HEAD manifest": 3}


async def test_all_sides_are_asked_at_once(copied, source, destination, elsewhere, net):
    rule = {"source/app:0": ["destination/app", "elsewhere/app"]}
    await net.sync(rule)
    arrived = set()

    def wait_for_the_others(registry):
        @registry.before
        async def wait(request):
            if kind(request) == "HEAD manifest":
                arrived.add(registry.host)
                while len(arrived) < 3:  # noqa: ASYNC110 - a set tells nobody
                    await anyio.sleep(0.001)

    for registry in (source, destination, elsewhere):
        wait_for_the_others(registry)
    assert (await net.sync(rule)).counts == (0, 2, 0)


async def test_tags_that_are_named_need_no_list(copied, source, destination, net):
    await net.sync({"source/app:0,1": "destination/app"})
    assert kinds(source) == {"HEAD manifest": 2}
    assert kinds(destination) == {"GET tags": 1, "HEAD manifest": 2}


async def test_a_digest_is_not_asked_for_at_the_source(source, destination, net):
    image = make_image(source.store, "app", "1", layers=[BASE])
    rule = {f"source/app@{image.digest}": "destination/app"}
    await net.sync(rule)
    net.forget()
    assert (await net.sync(rule)).counts == (0, 1, 0)
    assert kinds(source) == {}
    assert kinds(destination) == {"GET tags": 1, "HEAD manifest": 1}


async def test_one_changed_tag_costs_only_what_changed(copied, source, destination, net):
    make_image(source.store, "app", "1", layers=[BASE, TOP])
    outcome = await net.sync({"source/app": "destination/app"})
    assert outcome.counts == (1, 2, 0)
    assert kinds(source) == {"GET tags": 1, "HEAD manifest": 3, "GET manifest": 1, "GET blob": 2}
    assert kinds(destination) == {
        "GET tags": 1,
        "HEAD manifest": 3,
        "HEAD blob": 3,
        "POST upload": 2,
        "PUT upload": 2,
        "PUT manifest": 1,
    }
    assert outcome.blobs == {"copied": 2, "present": 1}


async def test_previous_digest_of_the_tag_is_reported(copied, source, destination, net):
    before = destination.store.digest("app", "1")
    image = make_image(source.store, "app", "1", layers=[TOP])
    outcome = await net.sync({"source/app": "destination/app"})
    assert [(event.previous, event.digest) for event in outcome.synced] == [(before, image.digest)]


async def test_a_moved_tag_whose_manifest_is_there_moves_no_blob(copied, source, destination, net):
    source.store.tag("app", "latest", source.store.digest("app", "2"))
    outcome = await net.sync({"source/app:latest": "destination/app"})
    assert outcome.counts == (1, 0, 0)
    assert "GET blob" not in kinds(source)
    assert "POST upload" not in kinds(destination)
    assert same(source.store, destination.store, "app")


async def test_children_that_are_there_are_asked_for_once_and_left(source, destination, net):
    index(source.store)
    old = [make_image(destination.store, "app", "old", layers=[BASE, TOP], platform=PLATFORMS[0])]
    outcome = await net.sync({"source/app": "destination/app"})
    assert destination.store.manifest("app", old[0].digest)
    assert same(source.store, destination.store, "app")
    # The index, the child that lacks.
    assert kinds(source)["GET manifest"] == 2
    # The tag, two children.
    assert kinds(destination)["HEAD manifest"] == 3
    assert kinds(destination)["PUT manifest"] == 2
    assert outcome.blobs == {"present": 2, "copied": 1}


async def test_children_are_asked_for_once_for_all_tags(source, destination, net):
    destination.store.put_blob("app", b"so that it is not new")
    made = index(source.store)
    for tag in ("2", "3"):
        source.store.tag("app", tag, made.digest)
    await net.sync({"source/app": "destination/app"})
    assert kinds(destination)["HEAD manifest"] == 3 + 2
    assert kinds(destination)["HEAD blob"] == 4
    assert same(source.store, destination.store, "app")


async def test_an_index_of_the_same_children_in_other_bytes_is_replaced(source, destination, net):
    children = [make_image(source.store, "app", layers=[BASE], platform=platform) for platform in PLATFORMS]
    make_index(source.store, "app", "1", children=children)
    await net.sync({"source/app": "destination/app"})
    make_index(destination.store, "app", "1", children=children, annotations={"by": "an earlier tool"})
    net.forget()
    outcome = await net.sync({"source/app": "destination/app"})
    assert outcome.counts == (1, 0, 0)
    assert kinds(source).get("GET blob", 0) == 0
    assert same(source.store, destination.store, "app")


async def test_blobs_that_an_interrupted_run_left_are_found(source, destination, net):
    make_image(source.store, "app", "1", layers=[BASE, TOP])
    destination.store.put_blob("app", BASE.content)
    outcome = await net.sync({"source/app": "destination/app"})
    assert outcome.blobs == {"present": 1, "copied": 2}


async def test_a_registry_that_refuses_head_is_asked_with_get(copied, source, destination, net):
    refuse(destination, "HEAD manifest", 405)
    outcome = await net.sync({"source/app:0": "destination/app"})
    assert outcome.counts == (0, 1, 0)
    assert kinds(destination) == {"GET tags": 1, "HEAD manifest": 1, "GET manifest": 1}


async def test_a_second_run_of_a_digest_pushes_nothing(source, destination, net):
    call_new_without_tags(destination)
    digest = make_image(source.store, "app", layers=[BASE]).digest
    by_digest = {f"source/app@{digest}": "destination/app"}
    assert (await net.sync(by_digest)).counts == (1, 0, 0)
    net.forget()
    assert (await net.sync(by_digest)).counts == (0, 1, 0)
    assert kinds(source) == {}
    assert kinds(destination) == {"GET tags": 1, "HEAD manifest": 1}
