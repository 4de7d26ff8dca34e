"""Referrers in image layouts: listed by fallback tags, and copied on to registries."""

import json
import os
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import pytest

from syncer.demo import MemoryRegistry
from syncer.demo.images import make_artifact, make_image, make_index, make_layer
from syncer.oci.descriptor import Descriptor
from syncer.oci.digest import Digest
from syncer.oci.referrers import cosign_tags, fallback_tag
from tests.support.wire import Net, without_referrers_api

SBOM = "application/spdx+json"
LAYER = make_layer({"a": b"b"})


@pytest.fixture(params=["api", "tags"])
async def net(request) -> AsyncIterator[Net]:
    async with MemoryRegistry() as source, MemoryRegistry() as destination:
        if request.param == "tags":
            without_referrers_api(destination)
        yield Net({"source": source, "destination": destination})


@pytest.fixture
def layout(tmp_path: Path) -> Path:
    return tmp_path / "layout"


@pytest.fixture
def subjects(net) -> list[Digest]:
    """An index, one of its children, and what refers to the index, each of which has a referrer."""
    return [each.digest for each in filled(net)]


@pytest.fixture
def index(net, subjects) -> Descriptor:
    stored = net.registries["source"].store.get_manifest("app", "1")
    return Descriptor(stored.media_type, stored.digest, len(stored.raw))


def filled(net: Net) -> list[Descriptor]:
    store = net.registries["source"].store
    children = [
        make_image(store, "app", layers=[LAYER], platform=each) for each in ("linux/amd64", "linux/arm64")
    ]
    index = make_index(store, "app", "1", children=children)
    sbom = make_artifact(store, "app", artifact_type=SBOM, content=b"{}", subject=index)
    for subject in (children[0], sbom):
        content = f"of {subject.digest}".encode()
        make_artifact(store, "app", artifact_type=SBOM, content=content, subject=subject)
    make_artifact(
        store, "app", next(iter(cosign_tags(index.digest))), artifact_type=SBOM, content=b"signature"
    )
    return [index, children[0], sbom]


def save(layout: Path) -> dict[str, object]:
    return {"source/app:1": {"to": f"oci:{layout}//quay.io/app", "referrers": True}}


def load(layout: Path, tags: str = ":1") -> dict[str, object]:
    return {f"oci:{layout}//quay.io/app{tags}": {"to": "destination/app", "referrers": True}}


def reachable(layout: Path) -> set[str]:
    """The digests of all that the index of a layout refers to. All of it is there, with its digest."""
    found: set[str] = set()
    waiting = json.loads((layout / "index.json").read_bytes())["manifests"]
    while waiting:
        entry = waiting.pop()
        if entry["digest"] in found:
            continue
        found.add(entry["digest"])
        content = (layout / "blobs" / entry["digest"].replace(":", "/")).read_bytes()
        assert Digest.of(content) == entry["digest"]
        if "manifest" in entry["mediaType"] or "index" in entry["mediaType"]:
            document = json.loads(content)
            waiting += [*document.get("manifests", ()), *document.get("layers", ())]
            waiting += filter(None, [document.get("config")])
    return found


async def test_referrers_go_to_a_layout_and_on_to_a_registry(net, layout, subjects, index):
    source, destination = net.registries["source"].store, net.registries["destination"].store

    saved = await net.sync(save(layout))
    before = {path: path.stat().st_mtime_ns for path in layout.rglob("*")}
    again = await net.sync(save(layout))
    loaded = await net.sync(load(layout))

    assert (saved.counts, again.counts, loaded.counts) == ((1, 0, 0), (0, 1, 0), (1, 0, 0))
    assert {path: path.stat().st_mtime_ns for path in layout.rglob("*")} == before
    files = {f"sha256:{path.name}" for path in (layout / "blobs/sha256").iterdir()}
    assert reachable(layout) == files
    for subject in subjects:
        assert source.referrers("app", subject) == destination.referrers("app", subject) != []
    assert next(iter(cosign_tags(subjects[0]))) in destination.tags("app")


async def test_referrer_that_is_added_later_follows_through_the_layout(net, layout, subjects, index):
    source, destination = net.registries["source"].store, net.registries["destination"].store
    for rules in (save(layout), load(layout)):
        assert (await net.sync(rules)).counts == (1, 0, 0)
    make_artifact(source, "app", artifact_type=SBOM, content=b"later", subject=index)

    outcomes = [await net.sync(rules) for rules in (save(layout), load(layout))]

    assert [(each.counts, each.skipped[0].referrers) for each in outcomes] == [((0, 1, 0), 1)] * 2
    assert len(destination.referrers("app", subjects[0])) == 2
    assert reachable(layout)


async def test_list_of_referrers_is_loaded_although_the_subject_is_not_in_the_layout(net, layout, subjects):
    """As in an archive that leaves out the image because an earlier one has it."""
    await net.sync(save(layout))
    document = json.loads((layout / "index.json").read_bytes())
    document["manifests"] = [
        each
        for each in document["manifests"]
        if not each["annotations"]["org.opencontainers.image.ref.name"].endswith(":1")
    ]
    (layout / "index.json").write_text(json.dumps(document))
    destination = net.registries["destination"].store

    outcome = await net.sync(load(layout, ""))

    assert outcome.result.failed == 0
    assert len(destination.referrers("app", subjects[0])) == 1


async def test_concurrent_runs_list_all_referrers(net, layout, subjects, index):
    source, destination = net.registries["source"].store, net.registries["destination"].store
    types = ("x/a", "x/b", "x/c")
    for kind in types:
        make_artifact(source, "app", artifact_type=kind, content=kind.encode(), subject=index)

    async with anyio.create_task_group() as group:
        for kind in types:
            rule = {"to": f"oci:{layout}//quay.io/app", "referrers": {"include": [kind]}}
            group.start_soon(net.sync, {"source/app:1": rule})
    await net.sync(load(layout))

    assert {each["artifactType"] for each in destination.referrers("app", subjects[0])} == set(types)


@pytest.mark.parametrize("damage", ["removed", "truncated", "other", "link", "not a list", "many"])
async def test_damaged_list_of_referrers_fails_its_image_and_no_others(net, layout, subjects, damage):
    store = net.registries["source"].store
    make_image(store, "good", "1", layers=[LAYER])
    await net.sync({**save(layout), "source/good": f"oci:{layout}//quay.io/good"})
    document = json.loads((layout / "index.json").read_bytes())
    (entry,) = (
        each
        for each in document["manifests"]
        if each["annotations"]["org.opencontainers.image.ref.name"].endswith(fallback_tag(subjects[0]))
    )
    path = layout / "blobs" / entry["digest"].replace(":", "/")
    content = path.read_bytes()
    match damage:
        case "removed":
            path.unlink()
        case "truncated":
            os.truncate(path, 10)
        case "other":
            path.write_bytes(content.replace(b"spdx", b"spdy"))
        case "link":
            path.rename(layout / "elsewhere")
            path.symlink_to(layout / "elsewhere")
        case "not a list" | "many":
            changed = store.get_manifest("app", subjects[1]).raw
            if damage == "many":
                listed = json.loads(content)
                child = listed["manifests"][0]
                listed["manifests"] = [{**child, "digest": Digest.of(b"%d" % each)} for each in range(10_001)]
                changed = json.dumps(listed).encode()
            entry |= {"digest": str(Digest.of(changed)), "size": len(changed)}
            entry["mediaType"] = json.loads(changed)["mediaType"]
            (layout / "blobs" / entry["digest"].replace(":", "/")).write_bytes(changed)
            (layout / "index.json").write_text(json.dumps(document))

    outcome = await net.sync({**load(layout), f"oci:{layout}//quay.io/good": "destination/good"})

    assert outcome.counts == (1, 0, 1), outcome.failed
    assert list(net.registries["destination"].store.tags("good")) == ["1"]
    assert "1" not in net.registries["destination"].store.tags("app")


async def test_damaged_list_of_referrers_is_written_again(net, layout, subjects):
    await net.sync(save(layout))
    document = json.loads((layout / "index.json").read_bytes())
    for entry in document["manifests"]:
        if "sha256-" in entry["annotations"]["org.opencontainers.image.ref.name"]:
            (layout / "blobs" / entry["digest"].replace(":", "/")).unlink()

    outcome = await net.sync(save(layout), force=True)
    loaded = await net.sync(load(layout))

    assert (outcome.counts, loaded.counts) == ((1, 0, 0), (1, 0, 0)), outcome.failed
    assert reachable(layout)
