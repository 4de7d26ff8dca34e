"""Nothing refers to what is not there: in which order things are written, and what a stop leaves behind."""

import anyio
import pytest

from syncer.demo import Answer, DropConnection, seed
from syncer.demo.images import make_image, make_index, make_layer, noise
from syncer.events import BlobStarted
from syncer.oci.digest import Digest
from tests.support.wire import hold, is_whole, kind, kinds, same

LAYER = make_layer({"layer": noise("layer", 3000)})
LARGE = make_layer({"large": noise("large", 700_000)})
DEMO = {f"source/{name}": f"destination/{name}" for name in ("library/alpine", "library/nginx", "team/app")}


def all_tags(store):
    return [(name, tag) for name in store.repositories() for tag in store.tags(name)]


@pytest.mark.parametrize("transfers", [1, 5])
async def test_a_manifest_is_put_when_all_it_refers_to_is_there(source, destination, net, transfers):
    seed(source.store)
    outcome = await net.sync(DEMO, transfers=transfers)
    assert outcome.counts == (9, 0, 0)
    # The registry refuses a manifest whose parts it has not.
    assert {request.status for request in destination.requests if kind(request) == "PUT manifest"} == {201}
    assert all(same(source.store, destination.store, name) for name in destination.store.repositories())


async def test_the_tag_is_written_last(source, destination, net):
    seed(source.store)
    await net.sync({"source/team/app:v2.0": "destination/team/app"})
    log = [request for request in destination.requests if kind(request) in {"PUT manifest", "PUT upload"}]
    assert log[-1].path.endswith("/manifests/v2.0")
    assert not any(request.path.endswith("/v2.0") for request in log[:-1])


async def test_children_wait_for_their_own_blobs_only(source, destination, net):
    children = [
        make_image(source.store, "app", layers=[layer], platform=platform)
        for layer, platform in ((LAYER, "linux/amd64"), (LARGE, "linux/arm64"))
    ]
    make_index(source.store, "app", "1", children=children)
    quick = children[0].digest
    large = max(source.store.blobs("app"), key=lambda digest: len(source.store.blobs("app")[digest]))
    hold(source, "GET blob", lambda: destination.store.manifest("app", quick) is not None, where=large)
    assert (await net.sync({"source/app": "destination/app"})).counts == (1, 0, 0)


@pytest.mark.parametrize("moment", [*range(1, 12), 15, 20, 30, 45, 60])
@pytest.mark.parametrize("drain_seconds", [0.0, 5.0], ids=["cut off", "drained"])
async def test_stop_leaves_only_complete_images(source, destination, net, moment, drain_seconds):
    seed(source.store)
    run, recorder = net.run(DEMO, drain_seconds=drain_seconds)
    seen = 0

    @destination.before
    async def stop(_request):
        nonlocal seen
        seen += 1
        if seen == moment:
            run.stop()

    outcome = await net.finish(run, recorder)
    assert outcome.result.outcome == "interrupted"
    assert sum(outcome.counts) >= 9 or {event.source.tag for event in outcome.failed} >= {None}
    assert {event.failure.kind for event in outcome.failed} == {"interrupted"}
    assert all(is_whole(destination.store, name, tag) for name, tag in all_tags(destination.store))
    assert len(all_tags(destination.store)) == outcome.result.synced
    reschedule = await net.sync(DEMO)
    assert reschedule.counts == (9 - outcome.result.synced, outcome.result.synced, 0)
    assert all(same(source.store, destination.store, name) for name in destination.store.repositories())


@pytest.mark.parametrize("transfers", [1, 3])
async def test_stop_cancels_interrupted_uploads(source, destination, net, transfers):
    layers = [make_layer({"l": noise(str(number), 700_000)}) for number in range(9)]
    for number, layer in enumerate(layers):
        make_image(source.store, "app", str(number), layers=[layer])
    run, recorder = net.run({"source/app": "destination/app"}, drain_seconds=0.3, transfers=transfers)

    def opened() -> int:
        asked = {request.path.rpartition("/")[2] for request in source.requests}
        return sum(Digest.of(layer.content) in asked for layer in layers)

    @destination.before
    async def take_nothing_large(request):
        if kind(request) == "PUT upload" and int(request.headers["Content-Length"]) > 100_000:
            while opened() <= transfers:  # noqa: ASYNC110 - one more is opened ahead
                await anyio.sleep(0.001)
            run.stop()
            await anyio.sleep(0.6)
            raise DropConnection

    await net.finish(run, recorder)
    assert kinds(destination)["DELETE upload"] >= transfers + 1
    assert destination.open_uploads == 0


async def test_after_a_stop_what_is_under_way_arrives(source, destination, net):
    make_image(source.store, "app", "1", layers=[LARGE])

    def stop_at_a_transfer(event):
        if isinstance(event, BlobStarted):
            run.stop()

    run, recorder = net.run({"source/app": "destination/app"}, heard=stop_at_a_transfer)
    outcome = await net.finish(run, recorder)
    assert LARGE.content in destination.store.blobs("app").values()
    assert outcome.counts == (0, 0, 1)


async def test_a_stop_after_the_last_task_changes_nothing(source, destination, net):
    make_image(source.store, "app", "1", layers=[LAYER])
    run, recorder = net.run({"source/app": "destination/app"})

    @destination.before
    async def stop(request):
        if kind(request) == "PUT manifest":
            run.stop()

    outcome = await net.finish(run, recorder)
    assert outcome.counts == (1, 0, 0)
    assert outcome.result.outcome == "success"


async def test_a_stop_before_the_start_leaves_everything(source, destination, net):
    make_image(source.store, "app", "1", layers=[LAYER])
    run, recorder = net.run({"source/app": "destination/app"})
    run.stop()
    outcome = await net.finish(run, recorder)
    assert outcome.result.outcome == "interrupted"
    assert kinds(source) == kinds(destination) == {}


async def test_everything_is_pushed_before_the_tag_to_a_registry_without_checks(source, destination, net):
    seed(source.store)
    children = source.store.get_manifest("team/app", "v2.0").manifest.children

    @destination.before
    async def take_manifests_blindly(request):
        return Answer(201) if kind(request) == "PUT manifest" else None

    await net.sync({"source/team/app:v2.0": "destination/team/app"})
    order = [
        request.path.rpartition("/")[2] for request in destination.requests if kind(request) == "PUT manifest"
    ]
    assert set(order[:-1]) == {child.digest for child in children}
    for child in children:
        sent = [
            request.query.partition("digest=")[2]
            for request in list(destination.requests)[: position(destination, child.digest)]
        ]
        manifest = source.store.get_manifest("team/app", child.digest).manifest
        assert {blob.digest for blob in manifest.blobs} <= {text.replace("%3A", ":") for text in sent}


def position(registry, reference):
    return next(
        number for number, request in enumerate(registry.requests) if request.path.endswith(reference)
    )
