"""An image gets a blob out of another repository only if its own source has that blob."""

from contextlib import closing

import pytest

from syncer.demo import Answer
from syncer.demo.images import make_image, make_layer, noise
from syncer.oci.digest import Digest
from syncer.state.blob_cache import SqliteBlobCache
from syncer.state.database import open_database
from tests.support.wire import hold, is_whole, kind, kinds, paths, refuse

SECRET = make_layer({"secret": noise("secret", 3000)})
SIZES = pytest.mark.parametrize("size", [3000, 400_000], ids=["small", "large"])
RULES = {"source/private": "destination/private", "source/public": "destination/public"}


def layer(size):
    return make_layer({"layer": noise(f"layer {size}", size)})


def blob(layer):
    return Digest.of(layer.content)


def name_what_is_not_there(store, repository, secret):
    """An image that lists a layer whose bytes its repository does not have."""
    made = make_image(store, repository, "1", layers=[secret])
    store.delete_blob(repository, blob(secret))
    return made


@SIZES
@pytest.mark.parametrize("force", [False, True])
async def test_a_blob_that_the_source_lacks_is_not_mounted(source, destination, net, size, force):
    make_image(source.store, "private", "1", layers=[layer(size)])
    name_what_is_not_there(source.store, "public", layer(size))
    hold(source, "GET manifest", lambda: destination.store.tags("private") == ["1"], where="/public/")
    outcome = await net.sync(RULES, force=force)
    assert outcome.counts == (1, 0, 1)
    assert outcome.failed[0].failure.kind == "not_found"
    assert destination.store.blob("public", blob(layer(size))) is None
    assert destination.store.tags("public") == []
    assert destination.open_uploads == 0


@SIZES
async def test_a_blob_whose_upload_is_waited_for_is_not_mounted_either(source, destination, net, size):
    make_image(source.store, "private", "1", layers=[layer(size)])
    name_what_is_not_there(source.store, "public", layer(size))
    hold(source, "GET blob", lambda: len(paths(source, "GET manifest")) == 2)
    outcome = await net.sync(RULES)
    assert outcome.counts == (1, 0, 1)
    assert destination.store.blob("public", blob(layer(size))) is None


async def test_a_blob_that_an_earlier_run_uploaded_is_not_mounted(source, destination, net, tmp_path):
    make_image(source.store, "private", "1", layers=[SECRET])
    name_what_is_not_there(source.store, "public", SECRET)
    with closing(open_database(tmp_path / "state")) as database:
        await net.sync({"source/private": "destination/private"}, cache=SqliteBlobCache(database))
        outcome = await net.sync({"source/public": "destination/public"}, cache=SqliteBlobCache(database))
    assert outcome.counts == (0, 0, 1)
    assert destination.store.blob("public", blob(SECRET)) is None


async def test_a_blob_that_was_found_at_the_destination_is_not_mounted(source, destination, net):
    make_image(source.store, "private", "1", layers=[SECRET])
    name_what_is_not_there(source.store, "public", SECRET)
    destination.store.put_blob("private", SECRET.content)
    hold(source, "GET manifest", lambda: destination.store.tags("private") == ["1"], where="/public/")
    outcome = await net.sync(RULES)
    assert outcome.counts == (1, 0, 1)
    assert destination.store.blob("public", blob(SECRET)) is None


async def test_dry_run_does_not_mount_a_blob_that_the_source_lacks(source, destination, net):
    make_image(source.store, "private", "1", layers=[SECRET])
    name_what_is_not_there(source.store, "public", SECRET)
    outcome = await net.sync(RULES, dry_run=True, transfers=1)
    assert outcome.blobs["mounted"] <= 1


@pytest.mark.parametrize("status", [401, 403, 405, 500])
async def test_a_source_that_does_not_say_whether_it_has_a_blob_sends_it(source, destination, net, status):
    for name in ("private", "public"):
        make_image(source.store, name, "1", layers=[SECRET])
    refuse(source, "HEAD blob", status)
    outcome = await net.sync(RULES)
    assert outcome.counts == (2, 0, 0)
    assert outcome.blobs == {"copied": 4}
    assert is_whole(destination.store, "public", "1")


async def test_the_source_is_asked_once_for_all_images_that_want_a_blob(source, destination, net):
    make_image(source.store, "private", "1", layers=[SECRET])
    for tag in ("1", "2", "3"):
        make_image(source.store, "public", tag, layers=[SECRET], annotations={"tag": tag})
    hold(source, "GET manifest", lambda: destination.store.tags("private") == ["1"], where="/public/")
    outcome = await net.sync(
        {"source/private": "destination/private", "source/public": "destination/one"} | RULES
    )
    assert outcome.result.failed == 0
    asked = [path for path in paths(source, "HEAD blob") if blob(SECRET) in path]
    assert asked == [f"/v2/public/blobs/{blob(SECRET)}"]


async def test_destinations_of_one_rule_mount_from_each_other_without_asking(source, destination, net):
    make_image(source.store, "app", "1", layers=[SECRET])
    outcome = await net.sync({"source/app": ["destination/one", "destination/two", "destination/three"]})
    assert outcome.blobs == {"copied": 2, "mounted": 4}
    assert "HEAD blob" not in kinds(source)


async def test_blob_served_by_the_source_before_is_mounted_without_a_check(source, destination, net):
    make_image(source.store, "app", "1", layers=[SECRET])
    make_image(source.store, "app", "2", layers=[SECRET])
    hold(source, "GET manifest", lambda: destination.store.tags("one") == ["1"], where="/2")
    outcome = await net.sync({"source/app:1": "destination/one", "source/app:2": "destination/two"})
    assert outcome.blobs == {"copied": 2, "mounted": 2}
    assert "HEAD blob" not in kinds(source)


async def test_trusted_sources_are_not_checked(source, destination, net):
    make_image(source.store, "private", "1", layers=[SECRET])
    name_what_is_not_there(source.store, "public", SECRET)
    hold(source, "GET manifest", lambda: destination.store.tags("private") == ["1"], where="/public/")
    outcome = await net.sync(RULES, trust_sources=True)
    assert outcome.counts == (2, 0, 0)
    assert outcome.blobs == {"copied": 2, "mounted": 2}
    assert "HEAD blob" not in kinds(source)


async def test_a_source_of_another_registry_is_asked_there(source, destination, elsewhere, net):
    make_image(source.store, "private", "1", layers=[SECRET])
    name_what_is_not_there(elsewhere.store, "public", SECRET)
    hold(elsewhere, "GET manifest", lambda: destination.store.tags("private") == ["1"])
    outcome = await net.sync(
        {"source/private": "destination/private", "elsewhere/public": "destination/public"}
    )
    assert outcome.counts == (1, 0, 1)
    assert destination.store.blob("public", blob(SECRET)) is None


async def test_a_redirect_is_followed_to_find_out_whether_the_source_has_a_blob(source, destination, net):
    for name in ("private", "public"):
        make_image(source.store, name, "1", layers=[SECRET])

    @source.before
    async def redirect(request):
        if kind(request) == "HEAD blob" and "moved" not in request.query:
            return Answer(307, {"Location": f"{request.path}?moved=1"})
        return None

    hold(source, "GET manifest", lambda: destination.store.tags("private") == ["1"], where="/public/")
    outcome = await net.sync(RULES)
    assert outcome.blobs == {"copied": 2, "mounted": 2}
