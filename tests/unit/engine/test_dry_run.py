"""`force` trusts nothing; a dry run changes nothing and foretells everything."""

import pytest

from syncer.demo import seed
from syncer.demo.images import make_image, make_index, make_layer, noise
from tests.support.wire import kinds, same

LAYER = make_layer({"layer": noise("layer", 3000)})
LARGE = make_layer({"large": noise("large", 700_000)})
NAMES = ("library/alpine", "library/nginx", "team/app")
RULES = {f"here/{name}": [f"there/{name}", f"there/copy/{name}", f"elsewhere/{name}"] for name in NAMES}


async def test_force_asks_for_every_blob_and_pushes_every_manifest(here, there, net):
    children = [
        make_image(here.store, "app", layers=[LAYER, LARGE], platform=f"linux/{name}") for name in "ab"
    ]
    make_index(here.store, "app", "1", children=children)
    await net.sync({"here/app": "there/app"})
    net.forget()
    outcome = await net.sync({"here/app": "there/app"}, force=True)
    assert outcome.counts == (1, 0, 0)
    assert kinds(there)["HEAD blob"] == 4
    assert kinds(there)["PUT manifest"] == 3
    assert "GET blob" not in kinds(here)


async def test_force_brings_back_what_was_lost(here, there, net):
    make_image(here.store, "app", "1", layers=[LAYER, LARGE])
    await net.sync({"here/app": "there/app"})
    there.store._repositories["app"].blobs.clear()
    assert (await net.sync({"here/app": "there/app"})).counts == (0, 1, 0)
    assert (await net.sync({"here/app": "there/app"}, force=True)).counts == (1, 0, 0)
    assert same(here.store, there.store, "app")


async def test_force_in_a_new_repository_asks_too(here, there, net):
    make_image(here.store, "app", "1", layers=[LAYER])
    await net.sync({"here/app": "there/app"}, force=True)
    assert kinds(there)["HEAD blob"] == 2


@pytest.mark.parametrize("force", [False, True])
async def test_a_dry_run_writes_nothing(here, there, elsewhere, net, force):
    seed(here.store)
    await net.sync(RULES, dry_run=True, force=force)
    for registry in (here, there, elsewhere):
        assert {request.method for request in registry.requests} <= {"GET", "HEAD"}
    assert "GET blob" not in kinds(here)
    assert there.store.repositories() == []


async def brought_before(here, there, net):
    """Some of it is at the destination already: a tag, a child, blobs."""
    await net.sync({"here/library/alpine:3.19": "there/library/alpine"})
    child = here.store.get_manifest("team/app", "v1.0").manifest.children[0].digest
    await net.sync({f"here/team/app@{child}": "there/team/app"})


def record(outcome):
    """A blob that is there and could be mounted too is told as one or the other, by what is known first."""
    blobs = outcome.blobs
    return blobs["copied"], blobs["shared"], blobs["mounted"] + blobs["present"]


@pytest.mark.parametrize("transfers", [1, 4])
@pytest.mark.parametrize("before", [False, True], ids=["new", "partly there"])
async def test_a_dry_run_tells_what_the_run_then_does(here, there, net, before, transfers):
    seed(here.store)
    if before:
        await brought_before(here, there, net)
    plan = await net.sync(RULES, dry_run=True, transfers=transfers)
    run = await net.sync(RULES, transfers=transfers)
    assert plan.counts == run.counts
    assert plan.moved == run.moved
    assert record(plan) == record(run)
    told = {str(event.destination): (event.digest, event.previous) for event in plan.synced}
    assert told == {str(event.destination): (event.digest, event.previous) for event in run.synced}


async def test_a_dry_run_of_nothing_to_do_is_the_same_as_a_run(here, there, net):
    make_image(here.store, "app", "1", layers=[LAYER])
    await net.sync({"here/app": "there/app"})
    net.forget()
    assert (await net.sync({"here/app": "there/app"}, dry_run=True)).counts == (0, 1, 0)
    assert kinds(here) == {"GET tags": 1, "HEAD manifest": 1}


async def test_a_dry_run_finds_what_is_missing(net):
    outcome = await net.sync({"here/gone:1": "there/gone"}, dry_run=True)
    assert outcome.failed[0].failure.kind == "not_found"
