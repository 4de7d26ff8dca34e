"""Platform filters: which entries of an index arrive, and in which bytes."""

import json

import pytest

from syncer.demo.images import make_attestation, make_image, make_index, make_layer
from syncer.engine.ledger import BlobCache
from syncer.events import IndexFiltered, RuleWarning, SkipReason
from syncer.oci.digest import Digest
from tests.support.caches import Remembered
from tests.support.wire import call_new_without_tags, kinds, same

PLATFORMS = ("linux/amd64", "linux/arm64/v8", "windows/amd64")


def rule(*platforms, to="destination/app"):
    return {"source/app": {"to": to, "platforms": list(platforms)}}


def image(store, platform="linux/amd64", tag="", **options):
    return make_image(
        store, "app", tag, layers=[make_layer({"for": platform.encode()})], platform=platform, **options
    )


def index(store, *, attested=False, **options):
    children = [image(store, platform) for platform in PLATFORMS]
    attestations = [make_attestation(store, "app", image=child) for child in children if attested]
    return make_index(store, "app", "1", children=[*children, *attestations], **options)


def document(store):
    return json.loads(store.get_manifest("app", "1").raw)


async def test_only_the_wanted_entries_arrive(source, destination, net):
    index(source.store)
    outcome = await net.sync(rule("linux/amd64", "windows/amd64"))
    assert outcome.counts == (1, 0, 0)
    kept = document(destination.store)["manifests"]
    assert kept == [document(source.store)["manifests"][place] for place in (0, 2)]
    assert len(destination.store.manifests("app")) == 3
    assert kinds(destination)["PUT upload"] == 4


async def test_everything_else_of_the_index_stays(source, destination, net):
    index(source.store, annotations={"é": "ü", "b": "2", "a": "1"})
    await net.sync(rule("linux/arm64"))
    before, after = document(source.store), document(destination.store)
    assert list(after) == list(before)
    assert {**after, "manifests": []} == {**before, "manifests": []}
    assert list(after["annotations"]) == ["é", "b", "a"]


async def test_the_bytes_are_always_the_same(source, destination, elsewhere, net):
    index(source.store)
    await net.sync(rule("linux/amd64"))
    await net.sync(rule("linux/amd64", to="elsewhere/app"))
    assert destination.store.digest("app", "1") == elsewhere.store.digest("app", "1")


async def test_what_is_dropped_is_told(source, destination, net):
    made = index(source.store)
    outcome = await net.sync(rule("linux/amd64"))
    told = outcome.told.of(IndexFiltered)[0]
    assert (told.digest, told.filtered) == (made.digest, destination.store.digest("app", "1"))
    assert told.kept == ("linux/amd64",)
    assert told.dropped == ("linux/arm64/v8", "windows/amd64")


async def test_an_attestation_that_is_kept_goes_with_its_image(source, destination, net):
    index(source.store, attested=True)
    wanted = rule("linux/amd64")
    wanted["source/app"]["attestations"] = "keep"
    await net.sync(wanted)
    kept = document(destination.store)["manifests"]
    assert kept == [document(source.store)["manifests"][place] for place in (0, 3)]


async def test_an_entry_of_unknown_platform_is_kept(source, destination, net):
    unknown = image(source.store, "unknown/unknown")
    make_index(source.store, "app", "1", children=[*(image(source.store, at) for at in PLATFORMS), unknown])
    await net.sync(rule("linux/amd64"))
    assert [entry["platform"]["os"] for entry in document(destination.store)["manifests"]] == [
        "linux",
        "unknown",
    ]


async def test_a_filter_that_drops_nothing_keeps_the_bytes(source, destination, net):
    index(source.store)
    outcome = await net.sync(rule("linux/amd64", "linux/arm64", "windows/amd64"))
    assert outcome.told.of(IndexFiltered) == []
    assert same(source.store, destination.store, "app")


@pytest.mark.parametrize("docker", [False, True])
async def test_a_single_image_is_kept_or_dropped_by_its_config(source, destination, net, docker):
    for tag, platform in (("linux", "linux/amd64"), ("windows", "windows/amd64")):
        image(source.store, platform, tag, docker=docker)
    outcome = await net.sync(rule("linux/amd64"))
    assert outcome.counts == (1, 1, 0)
    assert destination.store.tags("app") == ["linux"]
    assert same(source.store, destination.store, "app", ["linux"])


async def test_where_nothing_is_left_is_a_warning(source, destination, net):
    index(source.store)
    outcome = await net.sync(rule("plan9/amd64"))
    assert outcome.counts == (0, 1, 0)
    assert outcome.result.outcome == "success"
    assert outcome.skipped[0].reason is SkipReason.NO_PLATFORM
    assert len(outcome.told.of(RuleWarning)) == 1
    assert destination.store.manifests("app") == []


async def test_a_second_filtered_run_uploads_nothing(source, destination, net):
    index(source.store, attested=True)
    await net.sync(rule("linux/amd64"))
    net.forget()
    outcome = await net.sync(rule("linux/amd64"))
    assert outcome.counts == (0, 1, 0)
    assert {request.method for request in destination.requests} <= {"GET", "HEAD"}
    assert "GET blob" not in kinds(source)


async def test_a_second_filtered_run_leaves_single_images_alone(source, destination, net):
    image(source.store, "linux/amd64", "1")
    await net.sync(rule("linux/amd64"))
    net.forget()
    outcome = await net.sync(rule("linux/amd64"))
    assert outcome.counts == (0, 1, 0)
    assert kinds(source) == {"GET tags": 1, "HEAD manifest": 1}


async def test_another_filter_replaces_what_is_there(source, destination, net):
    index(source.store)
    await net.sync(rule("linux/amd64"))
    outcome = await net.sync(rule("linux/arm64"))
    assert outcome.counts == (1, 0, 0)
    assert [entry["platform"]["architecture"] for entry in document(destination.store)["manifests"]] == [
        "arm64"
    ]


async def test_an_index_of_indexes_is_filtered_at_the_top(source, destination, net):
    inner = make_index(source.store, "app", children=[image(source.store)])
    make_index(source.store, "app", "1", children=[inner, image(source.store, "windows/amd64")])
    await net.sync(rule("linux/amd64"))
    assert [Digest(entry["digest"]) for entry in document(destination.store)["manifests"]] == [inner.digest]


async def test_a_config_that_was_read_for_its_platform_is_not_fetched_again(source, destination, net):
    image(source.store, "linux/amd64", "1")
    outcome = await net.sync(rule("linux/amd64"))
    assert outcome.counts == (1, 0, 0)
    assert same(source.store, destination.store, "app")
    assert kinds(source)["GET blob"] == kinds(destination)["PUT upload"] == 2
    sent = sum(request.sent for request in source.requests if "/tags/" not in request.path)
    assert outcome.moved["pulled", source.host] == sent


@pytest.mark.parametrize(
    ("cache", "asked"),
    [(BlobCache(), {"GET manifest": 1}), (Remembered(), {})],
)
async def test_a_second_filtered_run_of_a_digest_pushes_nothing(source, destination, net, cache, asked):
    """Without a tag, what is there is found by the digest that the filter makes."""
    call_new_without_tags(destination)
    digest = index(source.store).digest
    filtered = {f"source/app@{digest}": {"to": "destination/app", "platforms": ["linux/amd64"]}}
    assert (await net.sync(filtered, cache=cache)).counts == (1, 0, 0)
    net.forget()
    assert (await net.sync(filtered, cache=cache)).counts == (0, 1, 0)
    assert kinds(source) == asked
    assert {request.method for request in destination.requests} == {"GET", "HEAD"}
