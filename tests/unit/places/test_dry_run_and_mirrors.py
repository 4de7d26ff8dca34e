"""Remote repositories and dry runs, opened by a directory."""

import pytest

from syncer.demo import Answer
from syncer.demo.images import make_image, make_layer
from syncer.errors import Kind, RegistryError
from syncer.oci.descriptor import Descriptor
from syncer.oci.digest import Digest
from syncer.oci.manifest import parse_manifest
from syncer.oci.reference import Repository

LAYER = make_layer({"a": b"b"})
BLOB = Digest.of(LAYER.content)


@pytest.fixture
def image(memory):
    return make_image(memory.store, "app", "1", layers=[LAYER])


def at(memory, path="app") -> Repository:
    return Repository(memory.host, path)


async def test_repository_is_opened_once(memory, directory):
    opened = directory()
    assert opened.source(at(memory)) is opened.source(at(memory))
    assert opened.destination(at(memory)) is opened.destination(at(memory))


async def test_existing_tag_is_resolved(memory, directory, image):
    found = await directory().source(at(memory)).resolve("1")
    assert (found.digest, found.media_type, found.size) == (image.digest, image.media_type, image.size)


async def test_missing_tag_and_blob_are_not_found(memory, directory, image):
    opened = directory()
    assert await opened.source(at(memory)).resolve("2") is None
    assert await opened.source(at(memory, "gone")).resolve("1") is None
    assert not await opened.destination(at(memory)).has_blob(Digest.of(b"gone"))


async def test_repository_is_new_only_if_registry_reports_it(memory, directory, image):
    opened = directory()
    assert await opened.destination(at(memory, "gone")).is_new()
    assert not await opened.destination(at(memory)).is_new()


@pytest.mark.parametrize("status", [401, 403, 404, 405])
async def test_refusal_does_not_make_repository_new(memory, directory, status):
    @memory.before
    async def refuse(_request):
        return Answer(status, {}, b"<html>no</html>")

    assert not await directory().destination(at(memory)).is_new()


async def test_blob_is_mounted_from_another_repository(memory, directory, image):
    opened = directory()
    assert await opened.destination(at(memory, "copy")).mount(BLOB, from_=at(memory)) is None
    assert memory.store.blob("copy", BLOB) == LAYER.content


async def test_mount_not_possible_returns_upload(memory, directory):
    upload = await directory().destination(at(memory, "copy")).mount(BLOB, from_=at(memory, "gone"))
    assert upload is not None
    await upload.put(Descriptor("", BLOB, len(LAYER.content)), LAYER.content)
    assert memory.store.blob("copy", BLOB) == LAYER.content
    assert memory.open_uploads == 0


async def test_mount_requires_same_account_at_same_registry(memory, directory):
    opened = directory(accounts={"app": "me", "mine": "me", "yours": "you"})
    app = opened.destination(at(memory))
    assert app.mount_group == opened.destination(at(memory, "mine")).mount_group
    assert app.mount_group != opened.destination(at(memory, "yours")).mount_group
    assert app.mount_group != opened.destination(at(memory, "anyone")).mount_group
    assert app.mount_group != opened.destination(Repository("other.test", "mine")).mount_group


async def test_canceled_upload_is_removed(memory, directory):
    upload = await directory().destination(at(memory)).start_upload()
    assert memory.open_uploads == 1
    await upload.cancel()
    assert memory.open_uploads == 0
    await upload.cancel()


async def test_cancel_never_fails(memory, directory):
    upload = await directory().destination(at(memory)).start_upload()

    @memory.before
    async def refuse(_request):
        return Answer(500)

    await upload.cancel()


async def test_manifest_stored_with_another_digest_fails(memory, directory, image):
    @memory.before
    async def rewrite(request):
        other = {"Docker-Content-Digest": Digest.of(b"other")}
        return Answer(201, other) if request.method == "PUT" else None

    manifest = await directory().source(at(memory)).fetch_manifest("1")
    with pytest.raises(RegistryError) as raised:
        await directory().destination(at(memory)).push_manifest(manifest, tag="1")
    assert raised.value.kind is Kind.DIGEST_MISMATCH
    assert raised.value.permanent


async def test_dry_run_reads_and_does_not_write(memory, directory, image):
    opened = directory(dry_run=True)
    app, copy = opened.destination(at(memory)), opened.destination(at(memory, "copy"))
    assert (await app.resolve("1")).digest == image.digest
    assert await app.has_blob(BLOB)
    assert await copy.is_new()
    assert [tag async for page in app.tags() for tag in page] == ["1"]
    asked = len(memory.requests)
    assert await copy.mount(BLOB, from_=at(memory)) is None
    upload = await copy.start_upload()
    await upload.put(Descriptor("", BLOB, 1), b"")
    await upload.cancel()
    await copy.push_manifest(await app.fetch_manifest("1"), tag="1")
    assert len(memory.requests) == asked + 1
    assert memory.store.repositories() == ["app"]


async def test_dry_run_mounts_like_a_real_run(memory, directory):
    opened = directory(dry_run=True, accounts={"app": "me", "mine": "me"})
    app = opened.destination(at(memory))
    assert app.mount_group == opened.destination(at(memory, "mine")).mount_group
    assert app.mount_group != opened.destination(at(memory, "yours")).mount_group


async def test_manifest_is_fetched_unchanged(memory, directory, image):
    fetched = await directory().source(at(memory)).fetch_manifest(image.digest)
    stored = memory.store.get_manifest("app", "1")
    assert fetched == parse_manifest(stored.raw, stored.media_type)
