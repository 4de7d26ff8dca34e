"""Blobs that several images want: downloaded once, uploaded once, mounted elsewhere."""

from collections import Counter

import pytest

from syncer.demo import Answer
from syncer.demo.images import make_image, make_index, make_layer, noise
from syncer.events import BlobCompleted, BytesMoved
from syncer.oci.digest import Digest
from tests.support.wire import hold, is_whole, kind, kinds, paths, refuse, same

SMALL = make_layer({"layer": noise("layer", 3000)})
LARGE = make_layer({"large": noise("large", 700_000)})
LAYERS = pytest.mark.parametrize("layer", [SMALL, LARGE], ids=["small", "large"])
SIZES = pytest.mark.parametrize("size", [3000, 400_000], ids=["small", "large"])
TOP = make_layer({"top": b"top"})


def base(size):
    return make_layer({"base": noise("base", size)})


def says_unknown(registry) -> None:
    """docker-registry 2.8 and registry 3 answer so for a repository that has blobs and no tag."""

    @registry.before
    async def answer(request):
        if kind(request) != "GET tags":
            return None
        return Answer(
            404, body=b'{"errors": [{"code": "NAME_UNKNOWN", "message": "repository name not known"}]}'
        )


def downloads(registry) -> int:
    """The most often that one blob was asked for."""
    return max(Counter(paths(registry, "GET blob")).values())


@SIZES
async def test_images_of_one_repository_share_a_blob(source, destination, net, size):
    for number in range(8):
        make_image(source.store, "app", str(number), layers=[base(size), make_layer({"n": bytes([number])})])
    outcome = await net.sync({"source/app": "destination/app"})
    assert downloads(source) == 1
    assert kinds(destination)["PUT upload"] == 1 + 2 * 8
    assert outcome.blobs == {"copied": 17, "shared": 7}
    assert same(source.store, destination.store, "app")


@SIZES
async def test_other_repositories_mount_what_one_uploaded(source, destination, net, size):
    names = ["a", "b", "c", "d"]
    for name in names:
        make_image(source.store, name, "1", layers=[base(size)])
    outcome = await net.sync({f"source/{name}": f"destination/{name}" for name in names})
    assert kinds(source)["GET blob"] == 2
    assert kinds(destination) == {
        "GET tags": 4,
        "POST upload": 2,
        "PUT upload": 2,
        "POST mount": 6,
        "PUT manifest": 4,
    }
    assert outcome.blobs == {"copied": 2, "mounted": 6}
    assert all(same(source.store, destination.store, name) for name in names)


async def test_a_mount_is_tried_without_asking_before(source, destination, net):
    for name in ("a", "b"):
        make_image(source.store, name, "1", layers=[TOP])
        destination.store.put_blob(name, b"so that it is not new")
    hold(source, "GET manifest", lambda: destination.store.tags("a") == ["1"], where="/b/")
    await net.sync({"source/a": "destination/a", "source/b": "destination/b"})
    assert kinds(destination)["HEAD blob"] == 2
    assert kinds(destination)["POST mount"] == 2


async def test_blob_found_at_the_destination_is_mounted(source, destination, net):
    for name in ("a", "b"):
        make_image(source.store, name, "1", layers=[TOP])
    for blob in source.store.blobs("a").values():
        destination.store.put_blob("a", blob)
    hold(destination, "HEAD blob", lambda: destination.store.tags("a") == ["1"], where="/b/")
    destination.store.put_blob("b", b"so that it is not new")
    outcome = await net.sync({"source/a": "destination/a", "source/b": "destination/b"})
    assert outcome.blobs == {"present": 2, "mounted": 2}
    assert "GET blob" not in kinds(source)


@SIZES
@pytest.mark.parametrize("status", [202, 401, 403, 404, 405, 409, 422, 500, 501])
async def test_a_refused_mount_becomes_an_upload(source, destination, net, size, status):
    for name in ("a", "b"):
        make_image(source.store, name, "1", layers=[base(size)])

    @destination.before
    async def refuse_mounts(request):
        if kind(request) != "POST mount" or status == 202:
            request.query = {key: value for key, value in request.query.items() if key != "mount"}
            return None
        return Answer(status)

    outcome = await net.sync({"source/a": "destination/a", "source/b": "destination/b"})
    assert outcome.counts == (2, 0, 0)
    assert outcome.blobs == {"copied": 4}
    # A session that came with the refusal is used: none is opened beside it.
    assert kinds(destination)["POST upload"] == (2 if status == 202 else 4)
    assert same(source.store, destination.store, "b")
    assert destination.open_uploads == 0


async def test_a_mount_from_what_is_gone_becomes_an_upload(source, destination, net):
    for name in ("a", "b"):
        make_image(source.store, name, "1", layers=[TOP])
    hold(source, "GET manifest", lambda: destination.store.tags("a") == ["1"], where="/b/")

    @destination.before
    async def lose_it_first(request):
        if kind(request) == "POST mount":
            destination.store._repositories["a"].blobs.clear()

    outcome = await net.sync({"source/a": "destination/a", "source/b": "destination/b"})
    assert outcome.blobs == {"copied": 4}
    assert same(source.store, destination.store, "b")


@SIZES
async def test_a_mount_waits_for_the_upload_that_it_mounts_from(source, destination, net, size):
    for name in ("a", "b"):
        make_image(source.store, name, "1", layers=[base(size)])
    await net.sync({"source/a": "destination/a", "source/b": "destination/b"})
    log = [(kind(request), request.status) for request in destination.requests]
    assert ("POST mount", 202) not in log
    assert log.count(("POST mount", 201)) == 2


@SIZES
async def test_failed_upload_is_replaced_by_the_waiting_task(source, destination, net, size):
    for name in ("a", "b"):
        make_image(source.store, name, "1", layers=[base(size)])
    refuse(destination, "PUT upload", 403, where="/a/")
    outcome = await net.sync({"source/a": "destination/a", "source/b": "destination/b"})
    assert outcome.counts == (1, 0, 1)
    assert [str(event.destination) for event in outcome.failed] == [f"{destination.host}/a:1"]
    assert same(source.store, destination.store, "b")


@SIZES
async def test_temporarily_failed_upload_is_replaced_before_the_next_round(source, destination, net, size):
    for name in ("a", "b"):
        make_image(source.store, name, "1", layers=[base(size)])
    refuse(destination, "POST upload", 500, where="/a/", times=10)
    outcome = await net.sync({"source/a": "destination/a", "source/b": "destination/b"}, retries=3)
    assert outcome.counts == (2, 0, 0)
    assert [event.destination.repository.path for event in outcome.synced] == ["b", "a"]


async def test_a_layer_named_twice_goes_once(source, destination, net):
    make_image(source.store, "app", "1", layers=[TOP, TOP])
    await net.sync({"source/app": "destination/app"})
    assert kinds(source)["GET blob"] == kinds(destination)["PUT upload"] == 2
    assert same(source.store, destination.store, "app")


async def test_a_child_named_twice_goes_once(source, destination, net):
    child = make_image(source.store, "app", layers=[TOP])
    make_index(source.store, "app", "1", children=[child, child])
    await net.sync({"source/app": "destination/app"})
    assert kinds(source)["GET manifest"] == kinds(destination)["PUT manifest"] == 2
    assert same(source.store, destination.store, "app")


async def test_children_of_several_indexes_go_once(source, destination, net):
    child = make_image(source.store, "app", layers=[TOP])
    for tag in ("1", "2", "3"):
        make_index(source.store, "app", tag, children=[child], annotations={"tag": tag})
    await net.sync({"source/app": "destination/app"})
    assert kinds(source)["GET manifest"] == kinds(destination)["PUT manifest"] == 4
    assert same(source.store, destination.store, "app")


@LAYERS
async def test_blob_missing_at_one_source_comes_from_another_images_source(
    source, destination, elsewhere, net, layer
):
    """Two images of one destination want the same layer, and only the second one's source has it."""
    for registry, tag in ((source, "1"), (elsewhere, "2")):
        make_image(registry.store, "app", tag, layers=[layer], annotations={"tag": tag})
    forget = Digest.of(layer.content)
    source.store.delete_blob("app", forget)
    rules = {"source/app:1": "destination/app", "elsewhere/app:2": "destination/app"}
    run, told = net.run(rules, retries=0)
    hold(
        source,
        "GET blob",
        lambda: any(event.outcome == "shared" for event in told.of(BlobCompleted)),
        where=forget,
    )
    outcome = await net.finish(run, told)
    assert outcome.counts == (2, 0, 0)
    assert paths(elsewhere, "GET blob") == [f"/v2/app/blobs/{forget}"]
    assert sorted(destination.store.tags("app")) == ["1", "2"]
    assert is_whole(destination.store, "app", "1")
    assert is_whole(destination.store, "app", "2")
    assert destination.open_uploads == 0


async def test_child_missing_at_one_source_comes_from_another_images_source(
    source, destination, elsewhere, net
):
    for registry, tag in ((source, "1"), (elsewhere, "2")):
        child = make_image(registry.store, "app", "", layers=[SMALL])
        make_index(registry.store, "app", tag, children=[child], annotations={"tag": tag})
    del source.store._repositories["app"].manifests[child.digest]
    run, told = net.run({"source/app:1": "destination/app", "elsewhere/app:2": "destination/app"}, retries=0)
    hold(
        source,
        "GET manifest",
        lambda: any(event.registry == elsewhere.host for event in told.of(BytesMoved)),
        where=child.digest,
    )
    outcome = await net.finish(run, told)
    assert outcome.counts == (2, 0, 0)
    assert is_whole(destination.store, "app", "1")
    assert is_whole(destination.store, "app", "2")


@SIZES
async def test_blobs_that_an_interrupted_run_left_without_a_tag_are_not_sent_again(
    source, destination, net, size
):
    image = make_image(source.store, "app", "1", layers=[base(size), TOP])
    for blob in source.store.blobs("app").values():
        destination.store.put_blob("app", blob)
    says_unknown(destination)
    outcome = await net.sync({"source/app": "destination/app"})
    assert kinds(destination) == {"GET tags": 1, "POST upload": 3, "PUT manifest": 1}
    assert outcome.blobs == {"present": 3}
    assert destination.store.digest("app", "1") == image.digest
    assert destination.open_uploads == 0


async def test_some_blobs_left_by_an_interrupted_run_are_completed(source, destination, net):
    make_image(source.store, "app", "1", layers=[SMALL, LARGE, TOP])
    destination.store.put_blob("app", SMALL.content)
    says_unknown(destination)
    outcome = await net.sync({"source/app": ["destination/app", "destination/other"]})
    assert outcome.blobs == {"present": 1, "copied": 3, "mounted": 4}
    assert same(source.store, destination.store, "app")
    assert same(source.store, destination.store, "other")


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 409, 422, 500, 501])
async def test_registry_that_refuses_to_mount_from_the_repository_itself_is_soon_not_asked(
    source, destination, net, status
):
    for number in range(10):
        make_image(source.store, "app", str(number), layers=[make_layer({"n": bytes([number])})])

    @destination.before
    async def refuse_mounts(request):
        return Answer(status) if "mount" in request.query else None

    outcome = await net.sync({"source/app": "destination/app"}, transfers=1)
    assert outcome.counts == (10, 0, 0)
    mounts = [request for request in destination.requests if "mount" in request.query]
    # Five are sent at once, before the first answer. After a 401, each is sent with a new token.
    assert 1 <= len(mounts) <= (10 if status == 401 else 5)
    assert same(source.store, destination.store, "app")
