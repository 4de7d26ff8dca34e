"""What a Harbor refuses, and what the user reads: told as what it is, and only where it can help with how to mend it."""

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


async def test_unsigned_image_at_a_source_that_wants_signatures_is_forbidden_for_good(
    net: Net, harbor: Harbor
) -> None:
    add_image(harbor, "trusted/app", "v1")
    told = await failure(net, {"harbor/trusted/app:v1": "plain/copied"}, retries=2)
    assert (told.kind, told.permanent) == ("forbidden", True)
    assert "a policy of the project keeps it from being pulled" in told.message
    assert "immutable" not in told.message


async def test_push_to_a_cache_is_told_without_a_project_to_create(net: Net) -> None:
    told = await failure(net, {"plain/app:v1": "harbor/cache/app"})
    assert told.kind == "forbidden"
    assert "is a cache of another registry" in told.message
    assert "create project" not in told.message


async def test_push_to_a_read_only_harbor_is_told_without_a_project_to_create(
    net: Net, harbor: Harbor
) -> None:
    harbor.read_only = True
    told = await failure(net, TO_MIRROR)
    assert told.kind == "forbidden"
    assert "end its read-only mode" in told.message
    assert "create project" not in told.message


async def test_robot_that_may_only_pull_is_told_to_lack_the_right_to_push(
    net: Net, harbor: Harbor, log_in: Callable[..., None]
) -> None:
    log_in(PULLER)
    told = await failure(net, TO_MIRROR)
    assert told.kind == "unauthorized"
    assert f"the entry {harbor.host!r} has no right to push there" in told.message
    assert "create project" not in told.message


async def test_full_project_is_told_where_an_index_has_attestations(
    net: Net, harbor: Harbor, plain: MemoryRegistry
) -> None:
    image = make_image(plain.store, "app", layers=[make_layer({"a": b"a"})])
    attestation = make_attestation(plain.store, "app", image=image)
    make_index(plain.store, "app", "index", children=[image, attestation])
    assert (await net.sync({"plain/app:index": "harbor/small/app"})).counts == (1, 0, 0)
    # All parts are there; only the index is new, and there is no room for it.
    make_index(plain.store, "app", "index", children=[image, attestation], annotations={"long": "x" * 4096})
    harbor.projects["small"].quota = harbor.blobs.used("small")
    told = await failure(net, {"plain/app:index": "harbor/small/app"})
    assert told.kind == "forbidden"
    assert "no room left by the quota" in told.message
    assert "provenance" not in told.message


async def test_blob_in_garbage_collection_is_sent_once_a_round_and_nothing_is_learnt(
    net: Net, harbor: Harbor, plain: MemoryRegistry
) -> None:
    blob = shared_layer(plain)
    harbor.blobs.collecting.add(blob)
    told = await failure(net, TO_MIRROR, retries=1)
    assert (told.kind, told.permanent) == ("conflict", False)
    assert "is just removing that blob" in told.message
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
