"""Requests that a Harbor refuses, and the error message and advice for the user."""

from collections.abc import Callable

from syncer.demo import MemoryRegistry
from syncer.demo.images import make_attestation, make_image, make_index, make_layer
from syncer.events import Failure
from tests.integration.harbor.conftest import PULLER, add_image
from tests.integration.harbor.test_syncing import shared_layer
from tests.support.harbor import Harbor
from tests.support.wire import Net

TO_MIRROR = {"plain/app:v1": "harbor/mirror/app"}


async def failure(net: Net, rules: dict[str, str], **options: object) -> Failure:
    outcome = await net.sync(rules, **{"retries": 0, **options})
    assert outcome.result.failed == 1
    return outcome.failed[0].failure


async def test_unsigned_image_blocked_by_policy_is_permanently_forbidden(net: Net, harbor: Harbor) -> None:
    add_image(harbor, "trusted/app", "v1")
    told = await failure(net, {"harbor/trusted/app:v1": "plain/copied"}, retries=2)
    assert (told.kind, told.permanent) == ("forbidden", True)
    assert "a policy of the project blocks pulling this image" in told.message
    assert "immutable" not in told.message


async def test_push_to_a_proxy_cache_does_not_advise_to_create_a_project(net: Net) -> None:
    told = await failure(net, {"plain/app:v1": "harbor/cache/app"})
    assert told.kind == "forbidden"
    assert "is a pull-through cache" in told.message
    assert "create project" not in told.message


async def test_push_to_a_read_only_harbor_does_not_advise_to_create_a_project(
    net: Net, harbor: Harbor
) -> None:
    harbor.read_only = True
    told = await failure(net, TO_MIRROR)
    assert told.kind == "forbidden"
    assert "end its read-only mode" in told.message
    assert "create project" not in told.message


async def test_pull_only_robot_error_names_the_missing_push_permission(
    net: Net, harbor: Harbor, log_in: Callable[..., None]
) -> None:
    log_in(PULLER)
    told = await failure(net, TO_MIRROR)
    assert told.kind == "unauthorized"
    assert f"the entry {harbor.host!r} is not allowed to push" in told.message
    assert "create project" not in told.message


async def test_exceeded_quota_is_reported_for_an_index_with_attestations(
    net: Net, harbor: Harbor, plain: MemoryRegistry
) -> None:
    image = make_image(plain.store, "app", layers=[make_layer({"a": b"a"})])
    attestation = make_attestation(plain.store, "app", image=image)
    make_index(plain.store, "app", "index", children=[image, attestation])
    assert (await net.sync({"plain/app:index": "harbor/small/app"})).counts == (1, 0, 0)
    # All children exist. Only the index is new, and it exceeds the quota.
    make_index(plain.store, "app", "index", children=[image, attestation], annotations={"long": "x" * 4096})
    harbor.projects["small"].quota = harbor.blobs.used("small")
    told = await failure(net, {"plain/app:index": "harbor/small/app"})
    assert told.kind == "forbidden"
    assert "the storage quota of the project" in told.message
    assert "provenance" not in told.message


async def test_blob_in_garbage_collection_is_uploaded_once_per_round(
    net: Net, harbor: Harbor, plain: MemoryRegistry
) -> None:
    blob = shared_layer(plain)
    harbor.blobs.collecting.add(blob)
    told = await failure(net, TO_MIRROR, retries=1)
    assert (told.kind, told.permanent) == ("conflict", False)
    assert "is deleting this blob in garbage collection" in told.message
    kinds = harbor.kinds()
    assert kinds["PUT upload", 404] == 2
    assert not [kind for kind in kinds if kind[0].startswith("PATCH")]


async def test_blob_in_garbage_collection_arrives_in_a_retry_round(
    net: Net, harbor: Harbor, plain: MemoryRegistry
) -> None:
    harbor.blobs.collecting.add(shared_layer(plain))

    def heard(event: object) -> None:
        if type(event).__name__ == "RoundStarted":
            harbor.blobs.collecting.clear()

    outcome = await net.sync(TO_MIRROR, retries=1, heard=heard)
    assert outcome.counts == (1, 0, 0)
