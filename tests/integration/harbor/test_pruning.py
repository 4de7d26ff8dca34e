"""Pruning at a Harbor: its API removes a tag, and the artifact stays with its other tags."""

import pytest

from syncer.demo.images import make_image, make_layer
from syncer.events import PruneFailed, TagPruned
from tests.integration.harbor.conftest import ADMIN
from tests.support.caches import Written
from tests.support.harbor import Harbor
from tests.support.harbor_access import Account
from tests.support.wire import Net

RULE = {"plain/lib": {"to": "harbor/mirror/team/app", "prune": {"limit": "100%"}}}


@pytest.fixture
async def written(net: Net) -> Written:
    """Copy two tags of one manifest and another one, then remove one tag of each at the source."""
    store = net.registries["plain"].store
    for tag, content in (("1", b"same"), ("2", b"same"), ("3", b"other")):
        make_image(store, "lib", tag, layers=[make_layer({"a": content})])
    written = Written()
    await net.sync(RULE, written=written)
    for tag in ("1", "3"):
        store.delete_tag("lib", tag)
    return written


def deletes(harbor: Harbor) -> list[tuple[str, int]]:
    return [(each.path, each.status) for each in harbor.requests if each.method == "DELETE"]


async def test_tag_is_removed_and_its_siblings_stay(net: Net, harbor: Harbor, written: Written) -> None:
    net.settings["harbor"] = harbor.entry(ADMIN)
    outcome = await net.sync(RULE, written=written, prune=True)
    assert [event.destination.tag for event in outcome.told.of(TagPruned)] == ["1", "3"]
    assert harbor.store.tags("mirror/team/app") == ["2"]
    api = "/api/v2.0/projects/mirror/repositories/team%2Fapp/artifacts"
    assert deletes(harbor) == [(f"{api}/{tag}/tags/{tag}", 200) for tag in ("1", "3")]


async def test_missing_permission_is_one_failure_with_advice(
    net: Net, harbor: Harbor, written: Written
) -> None:
    lister = Account("robot$mirror+lister", rights={"mirror": ("pull", "push", "list")})
    harbor.access.accounts[lister.name] = lister
    net.settings["harbor"] = harbor.entry(lister.name)
    outcome = await net.sync(RULE, written=written, prune=True)
    (failed,) = outcome.told.of(PruneFailed)
    assert failed.failure.kind == "forbidden"
    assert "permission to delete" in failed.failure.message
    assert outcome.result.outcome == "partial"
    assert set(harbor.store.tags("mirror/team/app")) == {"1", "2", "3"}
