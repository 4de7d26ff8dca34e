"""Copies to and from a Harbor that go well."""

from collections.abc import Awaitable, Callable
from subprocess import CompletedProcess

from syncer.demo import MemoryRegistry, Request
from syncer.demo.images import make_image, make_index, make_layer
from syncer.oci.digest import Digest
from tests.integration.harbor.conftest import ADMIN, PUSHER, SYSTEM_ROBOT, add_image
from tests.support.harbor import Harbor
from tests.support.wire import Net

TAGS = ("v1", "v2", "v3")


def shared_layer(registry: MemoryRegistry) -> Digest:
    """The blob that all images of `app` have."""
    blobs = [{blob.digest for blob in registry.store.get_manifest("app", tag).manifest.blobs} for tag in TAGS]
    (shared,) = set.intersection(*blobs)
    return shared


async def test_new_repository_gets_all_tags_byte_for_byte(
    net: Net, harbor: Harbor, plain: MemoryRegistry
) -> None:
    outcome = await net.sync({"plain/app": "harbor/mirror/app"})
    assert outcome.counts == (3, 0, 0)
    assert harbor.store.tags("mirror/app") == list(TAGS)
    assert all(
        harbor.store.get_manifest("mirror/app", tag).raw == plain.store.get_manifest("app", tag).raw
        for tag in TAGS
    )
    assert harbor.moved["in"] == sum(map(len, plain.store.blobs("app").values()))
    assert harbor.blobs.open_uploads == 0


async def test_second_sync_logs_in_once_and_moves_nothing(net: Net, harbor: Harbor) -> None:
    await net.sync({"plain/app": "harbor/mirror/app"})
    harbor.forget()
    outcome = await net.sync({"plain/app": "harbor/mirror/app"})
    assert outcome.counts == (0, 3, 0)
    assert not harbor.moved
    assert [login.where for login in harbor.logins] == ["token"]


async def test_robot_with_push_rights_pushes(net: Net, harbor: Harbor, log_in: Callable[..., None]) -> None:
    log_in(PUSHER)
    assert (await net.sync({"plain/app": "harbor/mirror/app"})).counts == (3, 0, 0)
    assert {login.name for login in harbor.logins} == {PUSHER}


async def test_tokens_that_die_during_a_sync_do_not_fail_it(net: Net, harbor: Harbor) -> None:
    puts = 0

    @harbor.before
    async def expire_once(request: Request) -> None:
        nonlocal puts
        puts += request.method == "PUT"
        if request.method == "PUT" and puts == 1:
            harbor.access.expire_tokens()

    assert (await net.sync({"plain/app": "harbor/mirror/app"})).counts == (3, 0, 0)
    assert all(login.accepted for login in harbor.logins)


async def test_public_project_is_pulled_without_an_account(
    net: Net, harbor: Harbor, plain: MemoryRegistry, log_in: Callable[..., None]
) -> None:
    log_in(None)
    add_image(harbor, "open/app", "v1")
    assert (await net.sync({"harbor/open/app": "plain/copied"})).counts == (1, 0, 0)
    assert not harbor.logins
    copied = plain.store.get_manifest("copied", "v1")
    assert copied.raw == harbor.store.get_manifest("open/app", "v1").raw


async def test_proxy_cache_project_is_a_source(net: Net, harbor: Harbor, plain: MemoryRegistry) -> None:
    add_image(harbor, "cache/library/app", "v1")
    assert (await net.sync({"harbor/cache/library/app": "plain/copied"})).counts == (1, 0, 0)
    copied = plain.store.get_manifest("copied", "v1")
    assert copied.raw == harbor.store.get_manifest("cache/library/app", "v1").raw


async def test_immutable_tag_with_the_same_children_in_another_index_is_skipped(
    net: Net, harbor: Harbor, plain: MemoryRegistry
) -> None:
    layer = make_layer({"file": b"content"})
    for store, name, annotations in (
        (plain.store, "multi", None),
        (harbor.store, "fixed/multi", {"pushed-by": "another tool"}),
    ):
        children = [
            make_image(store, name, layers=[layer], platform=at) for at in ("linux/amd64", "linux/arm64")
        ]
        make_index(store, name, "v1", children=children, annotations=annotations)
    outcome = await net.sync({"plain/multi:v1": "harbor/fixed/multi"})
    assert outcome.counts == (0, 1, 0)
    assert harbor.kinds()["PUT manifest", 412] == 1


async def test_forced_push_to_an_immutable_tag_that_has_the_image_is_done(
    net: Net, harbor: Harbor, plain: MemoryRegistry
) -> None:
    await net.sync({"plain/app:v1": "harbor/fixed/app"})
    outcome = await net.sync({"plain/app:v1": "harbor/fixed/app"}, force=True)
    assert outcome.counts[2] == 0
    assert harbor.kinds()["PUT manifest", 412] == 1


async def test_deleted_artifact_comes_back_without_its_blobs(net: Net, harbor: Harbor) -> None:
    await net.sync({"plain/app": "harbor/mirror/app"})
    harbor.delete_artifact("mirror/app", harbor.store.get_manifest("mirror/app", "v2").digest)
    harbor.forget()
    assert (await net.sync({"plain/app": "harbor/mirror/app"})).counts == (1, 2, 0)
    assert not harbor.moved


async def test_collected_blobs_are_pushed_again(net: Net, harbor: Harbor) -> None:
    await net.sync({"plain/app": "harbor/mirror/app"})
    harbor.delete_artifact("mirror/app", harbor.store.get_manifest("mirror/app", "v2").digest)
    harbor.blobs.collect_garbage()
    assert (await net.sync({"plain/app": "harbor/mirror/app"})).counts == (1, 2, 0)


async def test_blob_that_goes_before_the_manifest_comes_is_pushed_again(
    net: Net, harbor: Harbor, plain: MemoryRegistry
) -> None:
    await net.sync({"plain/app:v1": "harbor/mirror/app"})
    harbor.vanishing.add(("mirror/app", shared_layer(plain)))
    assert (await net.sync({"plain/app:v2": "harbor/mirror/app"})).counts == (1, 0, 0)
    assert harbor.kinds()["PUT manifest", 400] == 1


async def test_blob_stuck_in_garbage_collection_is_pushed(
    net: Net, harbor: Harbor, plain: MemoryRegistry
) -> None:
    harbor.blobs.stuck.add(shared_layer(plain))
    assert (await net.sync({"plain/app:v1": "harbor/mirror/app"})).counts == (1, 0, 0)


async def test_robot_of_two_projects_copies_between_them(
    net: Net, harbor: Harbor, log_in: Callable[..., None]
) -> None:
    log_in(SYSTEM_ROBOT)
    add_image(harbor, "other/app", "v1")
    assert (await net.sync({"harbor/other/app": "harbor/mirror/app"})).counts == (1, 0, 0)


async def test_program_syncs_as_a_process(
    command: Callable[..., Awaitable[CompletedProcess[str]]], harbor: Harbor
) -> None:
    done = await command("sync", {"plain/app": "harbor/mirror/app"}, as_=ADMIN)
    assert done.returncode == 0, done.stderr
    assert harbor.store.tags("mirror/app") == list(TAGS)
