"""Pruning at registries of each kind: a tag goes, and the tags that stay remain whole."""

from pathlib import Path

import pytest

from syncer.demo import MemoryRegistry
from syncer.demo.images import make_image, make_layer
from syncer.events import TagPruned
from tests.interop.registries import running
from tests.support.caches import Written
from tests.support.wire import Net


@pytest.mark.parametrize("kind", ["docker-registry", "distribution"])
async def test_tag_is_removed_and_all_others_stay(kind: str, scratch: Path) -> None:
    with running(kind, scratch / f"pruned-{kind}") as destination:
        async with MemoryRegistry() as source:
            net = Net({"source": source, "destination": destination})  # type: ignore[dict-item]
            for tag, content in (("1", b"same"), ("2", b"same"), ("3", b"other")):
                make_image(source.store, "app", tag, layers=[make_layer({"a": content})])
            rule = {"source/app": {"to": "destination/app", "prune": {"limit": "100%"}}}
            written = Written()
            await net.sync(rule, written=written)
            for tag in ("1", "3"):
                source.store.delete_tag("app", tag)
            outcome = await net.sync(rule, written=written, prune=True)
            assert [event.destination.tag for event in outcome.told.of(TagPruned)] == ["3"]
        with destination.client() as client:
            assert sorted(client.get("/v2/app/tags/list").json()["tags"]) == ["1", "2"]
            accept = {"Accept": "application/vnd.oci.image.manifest.v1+json"}
            for tag in ("1", "2"):
                client.get(f"/v2/app/manifests/{tag}", headers=accept).raise_for_status()
