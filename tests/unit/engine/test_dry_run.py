"""`force` trusts nothing; a dry run changes nothing and foretells everything."""

import pytest

from syncer.demo import seed
from syncer.demo.images import make_image, make_index, make_layer, noise
from tests.support.wire import kinds, same

LAYER = make_layer({"layer": noise("layer", 3000)})
LARGE = make_layer({"large": noise("large", 700_000)})
NAMES = ("library/alpine", "library/nginx", "team/app")
RULES = {
    f"source/{name}": [f"destination/{name}", f"destination/copy/{name}", f"elsewhere/{name}"]
    for name in NAMES
}


async def test_force_asks_for_every_blob_and_pushes_every_manifest(source, destination, net):
    children = [
        make_image(source.store, "app", layers=[LAYER, LARGE], platform=f"linux/{name}") for name in "ab"
    ]
    make_index(source.store, "app", "1", children=children)
    await net.sync({"source/app": "destination/app"})
    net.forget()
    outcome = await net.sync({"source/app": "destination/app"}, force=True)
    assert outcome.counts == (1, 0, 0)
    assert kinds(destination)["HEAD blob"] == 4
    assert kinds(destination)["PUT manifest"] == 3
    assert "GET blob" not in kinds(source)


async def test_force_brings_back_what_was_lost(source, destination, net):
    make_image(source.store, "app", "1", layers=[LAYER, LARGE])
    await net.sync({"source/app": "destination/app"})
    destination.store._repositories["app"].blobs.clear()
    assert (await net.sync({"source/app": "destination/app"})).counts == (0, 1, 0)
    assert (await net.sync({"source/app": "destination/app"}, force=True)).counts == (1, 0, 0)
    assert same(source.store, destination.store, "app")


async def test_force_in_a_new_repository_asks_too(source, destination, net):
    make_image(source.store, "app", "1", layers=[LAYER])
    await net.sync({"source/app": "destination/app"}, force=True)
    assert kinds(destination)["HEAD blob"] == 2


@pytest.mark.parametrize("force", [False, True])
async def test_a_dry_run_writes_nothing(source, destination, elsewhere, net, force):
    seed(source.store)
    await net.sync(RULES, dry_run=True, force=force)
    for registry in (source, destination, elsewhere):
        assert {request.method for request in registry.requests} <= {"GET", "HEAD"}
    assert "GET blob" not in kinds(source)
    assert destination.store.repositories() == []


async def brought_before(source, destination, net):
    """Some of it is at the destination already: a tag, a child, blobs."""
    await net.sync({"source/library/alpine:3.19": "destination/library/alpine"})
    child = source.store.get_manifest("team/app", "v1.0").manifest.children[0].digest
    await net.sync({f"source/team/app@{child}": "destination/team/app"})


def record(outcome):
    """A blob that is there and could be mounted too is told as one or the other, by what is known first."""
    blobs = outcome.blobs
    return blobs["copied"], blobs["shared"], blobs["mounted"] + blobs["present"]


@pytest.mark.parametrize("transfers", [1, 4])
@pytest.mark.parametrize("before", [False, True], ids=["new", "partly there"])
async def test_dry_run_reports_the_same_as_the_following_run(source, destination, net, before, transfers):
    seed(source.store)
    if before:
        await brought_before(source, destination, net)
    plan = await net.sync(RULES, dry_run=True, transfers=transfers)
    run = await net.sync(RULES, transfers=transfers)
    assert plan.counts == run.counts
    assert plan.moved == run.moved
    assert record(plan) == record(run)
    told = {str(event.destination): (event.digest, event.previous) for event in plan.synced}
    assert told == {str(event.destination): (event.digest, event.previous) for event in run.synced}


async def test_a_dry_run_of_nothing_to_do_is_the_same_as_a_run(source, destination, net):
    make_image(source.store, "app", "1", layers=[LAYER])
    await net.sync({"source/app": "destination/app"})
    net.forget()
    assert (await net.sync({"source/app": "destination/app"}, dry_run=True)).counts == (0, 1, 0)
    assert kinds(source) == {"GET tags": 1, "HEAD manifest": 1}


async def test_dry_run_reports_missing_content(net):
    outcome = await net.sync({"source/gone:1": "destination/gone"}, dry_run=True)
    assert outcome.failed[0].failure.kind == "not_found"
