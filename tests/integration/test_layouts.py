"""Image layouts as sources and destinations of a run, with registries in memory at the other side."""

import json
import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import pytest

from syncer.demo import MemoryRegistry
from syncer.demo.images import make_image, make_index, make_layer
from syncer.events import BlobCompleted, TagPruned
from syncer.oci.digest import Digest
from tests.support.caches import Written
from tests.support.wire import Net

LAYER = make_layer({"a": b"b"})
OWN = make_layer({"own": os.urandom(100_000)})
OWN_DIGEST = Digest.of(OWN.content)
needs_skopeo = pytest.mark.skipif(shutil.which("skopeo") is None, reason="skopeo is not installed")


@pytest.fixture
async def net() -> AsyncIterator[Net]:
    async with MemoryRegistry() as source, MemoryRegistry() as destination:
        make_image(source.store, "app", "1", layers=[LAYER, OWN])
        make_index(
            source.store,
            "multi",
            "latest",
            children=[
                make_image(source.store, "multi", layers=[LAYER], platform="linux/amd64"),
                make_image(source.store, "multi", layers=[LAYER, OWN], platform="linux/arm64"),
            ],
        )
        yield Net({"source": source, "destination": destination})


@pytest.fixture
def layout(tmp_path: Path) -> Path:
    return tmp_path / "layout"


def entries(layout: Path) -> dict[str, str]:
    """The digests of an index, by reference name."""
    document = json.loads((layout / "index.json").read_bytes())
    return {
        each["annotations"]["org.opencontainers.image.ref.name"]: each["digest"]
        for each in document["manifests"]
    }


def blob_path(layout: Path, digest: str) -> Path:
    return layout / "blobs" / digest.replace(":", "/")


async def saved(net: Net, layout: Path) -> None:
    outcome = await net.sync(
        {"source/app": f"oci:{layout}//quay.io/app", "source/multi": f"oci:{layout}//quay.io/multi"}
    )
    assert outcome.counts == (2, 0, 0), outcome.failed


async def test_images_go_to_a_layout_and_back_with_their_digests(net, layout):
    await saved(net, layout)
    store = net.registries["source"].store
    assert entries(layout) == {
        "quay.io/app:1": store.digest("app", "1"),
        "quay.io/multi:latest": store.digest("multi", "latest"),
    }
    assert json.loads((layout / "oci-layout").read_bytes()) == {"imageLayoutVersion": "1.0.0"}
    assert not (layout / ".partial").exists()
    outcome = await net.sync(
        {
            f"oci:{layout}//quay.io/app": "destination/a",
            f"oci:{layout}//quay.io/multi:latest": "destination/m",
        }
    )
    assert outcome.counts == (2, 0, 0)
    loaded = net.registries["destination"].store
    assert loaded.digest("a", "1") == store.digest("app", "1")
    assert loaded.digest("m", "latest") == store.digest("multi", "latest")


async def test_second_run_writes_nothing(net, layout):
    await saved(net, layout)
    before = {path: path.stat().st_mtime_ns for path in layout.rglob("*")}
    outcome = await net.sync({"source/app": f"oci:{layout}//quay.io/app"})
    assert outcome.counts == (0, 1, 0)
    assert {path: path.stat().st_mtime_ns for path in layout.rglob("*")} == before


async def test_layout_without_a_repository_has_each_under_its_full_name(net, layout):
    outcome = await net.sync({"source/app": f"oci:{layout}"})
    assert outcome.counts == (1, 0, 0)
    assert list(entries(layout)) == [f"{net.registries['source'].host}/app:1"]


async def test_image_of_a_digest_is_listed_by_its_digest(net, layout):
    digest = net.registries["source"].store.digest("multi", "latest")
    rule = {f"source/multi@{digest}": f"oci:{layout}//quay.io/m"}
    assert (await net.sync(rule)).counts == (1, 0, 0)
    assert entries(layout) == {f"quay.io/m@{digest}": digest}
    assert (await net.sync(rule)).counts == (0, 1, 0)
    outcome = await net.sync({f"oci:{layout}//quay.io/m@{digest}": "destination/m"})
    assert outcome.counts == (1, 0, 0)


async def test_dry_run_writes_nothing(net, layout):
    outcome = await net.sync({"source/app": f"oci:{layout}//quay.io/app"}, dry_run=True)
    assert outcome.counts == (1, 0, 0)
    assert not layout.exists()


async def test_copies_within_a_layout_move_no_bytes(net, layout):
    await saved(net, layout)
    outcome = await net.sync({f"oci:{layout}//quay.io/app": f"oci:{layout}//other.io/app"})
    assert outcome.counts == (1, 0, 0)
    assert set(outcome.blobs) == {"mounted"}
    assert entries(layout)["other.io/app:1"] == entries(layout)["quay.io/app:1"]


async def test_image_gets_no_blob_of_another_repository_that_its_source_lacks(net, layout):
    """An image that only lists the digest of another's layer."""
    await saved(net, layout)
    source = net.registries["source"]
    make_image(source.store, "thief", "1", layers=[LAYER, OWN])
    source.store.delete_blob("thief", OWN_DIGEST)
    outcome = await net.sync({"source/thief": f"oci:{layout}//quay.io/thief"})
    assert outcome.counts == (0, 0, 1)
    assert "quay.io/thief:1" not in entries(layout)


async def test_blob_of_another_repository_is_not_fetched_again_if_the_source_has_it(net, layout):
    await saved(net, layout)
    make_image(net.registries["source"].store, "other", "1", layers=[OWN])
    outcome = await net.sync({"source/other": f"oci:{layout}//quay.io/other"})
    assert outcome.counts == (1, 0, 0)
    assert [event.outcome for event in outcome.told.of(BlobCompleted) if event.digest == OWN_DIGEST] == [
        "mounted"
    ]


@pytest.mark.parametrize("damage", ["removed", "truncated"])
async def test_damaged_blob_is_brought_again(net, layout, damage):
    await saved(net, layout)
    path = blob_path(layout, OWN_DIGEST)
    path.unlink() if damage == "removed" else os.truncate(path, 10)
    outcome = await net.sync({"source/app": f"oci:{layout}//quay.io/app"}, force=True)
    assert outcome.counts == (1, 0, 0)
    assert path.read_bytes() == OWN.content


@pytest.mark.parametrize("damage", ["removed", "truncated", "other", "longer", "link", "pipe"])
async def test_damaged_content_fails_its_images_and_no_others(net, layout, damage, tmp_path):
    await saved(net, layout)
    path = blob_path(layout, OWN_DIGEST)
    content = path.read_bytes()
    path.unlink()
    match damage:
        case "truncated":
            path.write_bytes(content[:-1])
        case "other":
            path.write_bytes(bytes([content[0] ^ 1]) + content[1:])
        case "longer":
            path.write_bytes(content + b"x")
        case "link":
            (tmp_path / "outside").write_bytes(content)
            path.symlink_to(tmp_path / "outside")
        case "pipe":
            os.mkfifo(path)
    rules = {f"oci:{layout}//quay.io/app": "destination/a", f"oci:{layout}//quay.io/multi": "destination/m"}
    make_image(net.registries["source"].store, "good", "1", layers=[LAYER])
    await net.sync({"source/good": f"oci:{layout}//quay.io/good"})
    outcome = await net.sync({**rules, f"oci:{layout}//quay.io/good": "destination/g"})
    assert outcome.counts == (1, 0, 2)
    store = net.registries["destination"].store
    assert store.digest("g", "1")
    assert store.digest("a", "1") is store.digest("m", "latest") is None


async def test_manifest_with_another_digest_is_refused(net, layout):
    await saved(net, layout)
    digest = entries(layout)["quay.io/app:1"]
    path = blob_path(layout, digest)
    path.write_bytes(path.read_bytes() + b" ")
    outcome = await net.sync({f"oci:{layout}//quay.io/app": "destination/a"})
    assert outcome.counts == (0, 0, 1)
    assert outcome.failed[0].failure.kind == "digest_mismatch"


async def test_file_with_the_name_of_a_blob_does_not_prove_that_the_layout_has_it(net, layout):
    """A layout that only claims to have another's layer does not get it mounted at the registry."""
    await net.sync({"source/app": "destination/private"})
    await saved(net, layout)
    blob_path(layout, OWN_DIGEST).write_bytes(b"not that layer")
    outcome = await net.sync({f"oci:{layout}//quay.io/app": "destination/public"})
    assert outcome.counts == (0, 0, 1)
    store = net.registries["destination"].store
    assert OWN_DIGEST not in store.blobs("public")


async def test_missing_layout_is_an_error_that_names_it(net, layout):
    outcome = await net.sync({f"oci:{layout}//quay.io/app": "destination/a"})
    assert outcome.counts == (0, 0, 1)
    assert outcome.failed[0].failure.kind == "not_found"
    assert str(layout) in outcome.failed[0].failure.message
    assert not layout.exists()


async def test_folder_that_cannot_be_written_fails_the_images(net, layout):
    layout.write_bytes(b"a file")
    outcome = await net.sync({"source/app": f"oci:{layout}//quay.io/app"})
    assert outcome.counts == (0, 0, 1)
    assert layout.read_bytes() == b"a file"


async def test_index_of_another_tool_that_cannot_be_read_is_not_overwritten(net, layout):
    layout.mkdir()
    (layout / "index.json").write_bytes(b"{broken")
    outcome = await net.sync({"source/app": f"oci:{layout}//quay.io/app"})
    assert outcome.counts == (0, 0, 1)
    assert (layout / "index.json").read_bytes() == b"{broken"


async def test_two_runs_write_to_one_layout_at_once(net, layout):
    async with anyio.create_task_group() as group:
        for name in ("app", "multi"):
            group.start_soon(net.sync, {f"source/{name}": f"oci:{layout}//quay.io/{name}"})
    assert set(entries(layout)) == {"quay.io/app:1", "quay.io/multi:latest"}


async def skopeo(*arguments: str) -> bytes:
    run = await anyio.run_process(["skopeo", *arguments], check=False)
    assert run.returncode == 0, run.stderr.decode()
    return run.stdout


@pytest.mark.parametrize(
    ("source", "destination", "expected"),
    [
        ("", "all/{full}", {"all/quay.io/app", "all/quay.io/team/multi"}),
        ("//**", "all/{path}", {"all/app", "all/team/multi"}),
        ("//quay.io/team/*", "team/{1}-{host}", {"team/multi-quay.io"}),
        ("//quay.io/team/**:latest", "{1}", {"multi"}),
    ],
)
async def test_whole_layout_is_a_source(net, layout, source, destination, expected):
    await net.sync(
        {"source/app": f"oci:{layout}//quay.io/app", "source/multi": f"oci:{layout}//quay.io/team/multi"}
    )
    outcome = await net.sync({f"oci:{layout}{source}": f"destination/{destination}"})
    assert outcome.counts == (len(expected), 0, 0), outcome.failed
    assert set(net.registries["destination"].store.repositories()) == expected


async def test_unreadable_entry_of_a_layout_fails_it_and_the_rest_is_copied(net, layout):
    await saved(net, layout)
    index = json.loads((layout / "index.json").read_bytes())
    evil = {**index["manifests"][0], "annotations": {"org.opencontainers.image.ref.name": "../../evil:1"}}
    index["manifests"].append(evil)
    (layout / "index.json").write_text(json.dumps(index))
    outcome = await net.sync({f"oci:{layout}": "destination/all/{path}"})
    assert outcome.counts == (2, 0, 1)
    assert "entry 2" in outcome.failed[0].failure.message


@needs_skopeo
async def test_skopeo_reads_an_image_of_a_layout(net, layout, tmp_path):
    await saved(net, layout)
    raw = await skopeo("inspect", "--raw", f"oci:{layout}:quay.io/multi:latest")
    assert raw == net.registries["source"].store.manifest("multi", "latest").raw
    await skopeo("copy", "--all", f"oci:{layout}:quay.io/multi:latest", f"dir:{tmp_path / 'out'}")


@needs_skopeo
async def test_layout_that_skopeo_wrote_is_read_by_its_tags(net, layout):
    source = net.registries["source"]
    for name, tag in (("app:1", "1"), ("multi:latest", "latest")):
        await skopeo(
            "copy",
            "--all",
            "--src-tls-verify=false",
            f"docker://{source.host}/{name}",
            f"oci:{layout}:{tag}",
        )
    outcome = await net.sync({f"oci:{layout}//localhost/layout": "destination/all"})
    assert outcome.counts == (2, 0, 0)
    assert net.registries["destination"].store.digest("all", "latest") == source.store.digest(
        "multi", "latest"
    )


async def test_tag_that_no_rule_selects_is_removed_from_the_index(net: Net, layout: Path) -> None:
    make_image(net.registries["source"].store, "app", "2", layers=[LAYER])
    rule: dict[str, object] = {"to": f"oci:{layout}//quay.io/app", "prune": {"limit": "50%"}}
    written = Written()
    await net.sync({"source/app": rule}, written=written)
    net.registries["source"].store.delete_tag("app", "1")
    digest = entries(layout)["quay.io/app:1"]
    outcome = await net.sync({"source/app": rule}, written=written, prune=True)
    (removed,) = outcome.told.of(TagPruned)
    assert (removed.destination.tag, removed.digest) == ("1", digest)
    assert list(entries(layout)) == ["quay.io/app:2"]
