"""A registry that says that content is there, and then does not know it: the content is pushed without asking again."""

import json

import pytest

from syncer.demo import Answer
from syncer.demo.images import make_image, make_index, make_layer, noise
from syncer.oci.digest import Digest
from tests.support.wire import is_whole, kind, kinds, paths

LAYER = make_layer({"layer": noise("layer", 3000)})
LARGE = make_layer({"large": noise("large", 700_000)})
LAYERS = pytest.mark.parametrize("layer", [LAYER, LARGE], ids=["small", "large"])
CODES = pytest.mark.parametrize("code", ["MANIFEST_BLOB_UNKNOWN", "BLOB_UNKNOWN", "MANIFEST_UNKNOWN"])


def claim_to_have(registry, digest):
    """Answer HEAD of a blob with 200, whatever is there."""

    @registry.before
    async def answer(request):
        if kind(request) == "HEAD blob" and digest in request.path:
            return Answer(200, {"Content-Length": "3000"})
        return None


def refuse_manifests(registry, code, *, times, where=""):
    left = times

    @registry.before
    async def answer(request):
        nonlocal left
        if kind(request) != "PUT manifest" or where not in request.path or not left:
            return None
        left -= 1
        return Answer(
            404, {"Content-Type": "application/json"}, json.dumps({"errors": [{"code": code}]}).encode()
        )


@LAYERS
@pytest.mark.parametrize("force", [False, True])
async def test_a_blob_that_is_only_said_to_be_there_is_uploaded(source, destination, net, layer, force):
    make_image(source.store, "app", "1", layers=[layer])
    make_image(destination.store, "app", "other", layers=[])
    claim_to_have(destination, Digest.of(layer.content))
    outcome = await net.sync({"source/app": "destination/app"}, force=force, retries=0)
    assert outcome.counts == (1, 0, 0)
    assert is_whole(destination.store, "app", "1")
    assert len([path for path in paths(destination, "HEAD blob") if Digest.of(layer.content) in path]) == 1


@LAYERS
async def test_a_blob_that_is_only_said_to_be_mounted_is_uploaded(source, destination, net, layer):
    make_image(source.store, "app", "1", layers=[layer])

    @destination.before
    async def pretend_to_mount(request):
        return Answer(201) if kind(request) == "POST mount" and "/two/" in request.path else None

    outcome = await net.sync({"source/app": ["destination/one", "destination/two"]}, retries=0)
    assert outcome.counts == (2, 0, 0)
    assert is_whole(destination.store, "two", "1")
    assert kinds(destination)["POST mount"] == 2


@CODES
@pytest.mark.parametrize("force", [False, True])
async def test_neither_head_nor_mount_is_asked_after_a_blob_is_unknown(source, destination, net, code, force):
    make_image(source.store, "app", "1", layers=[LAYER, LARGE])
    make_image(destination.store, "app", "other", layers=[])
    refuse_manifests(destination, code, times=1)
    outcome = await net.sync({"source/app": "destination/app"}, force=force, retries=0)
    assert outcome.counts == (1, 0, 0)
    assert kinds(destination)["HEAD blob"] == 3
    assert kinds(destination)["PUT upload"] == 6
    assert "POST mount" not in kinds(destination)


@CODES
async def test_children_are_pushed_again_without_asking(source, destination, net, code):
    children = [
        make_image(source.store, "app", layers=[LAYER], platform=platform)
        for platform in ("linux/amd64", "linux/arm64")
    ]
    made = make_index(source.store, "app", "1", children=children)
    for child in children:
        stored = source.store.get_manifest("app", child.digest)
        for blob in stored.manifest.blobs:
            destination.store.put_blob("app", source.store.blob("app", blob.digest))
        destination.store.put_manifest("app", stored.raw)
    refuse_manifests(destination, code, times=1, where="/1")
    outcome = await net.sync({"source/app": "destination/app"}, retries=0)
    assert outcome.counts == (1, 0, 0)
    assert kinds(destination)["HEAD manifest"] <= 3
    assert [path.rpartition("/")[2] for path in paths(destination, "PUT manifest")] == [
        "1",
        *(path.rpartition("/")[2] for path in paths(destination, "PUT manifest")[1:3]),
        "1",
    ]
    assert {child.digest for child in children} == {
        path.rpartition("/")[2] for path in paths(destination, "PUT manifest")[1:3]
    }
    assert destination.store.digest("app", "1") == made.digest


@CODES
async def test_registry_that_never_knows_its_blobs_fails_with_that_error(source, destination, net, code):
    make_image(source.store, "app", "1", layers=[LAYER])
    refuse_manifests(destination, code, times=-1)
    outcome = await net.sync({"source/app": "destination/app"}, retries=1)
    assert outcome.counts == (0, 0, 1)
    assert "though all that it refers to was pushed again" in outcome.failed[0].failure.message
    assert destination.store.tags("app") == []
