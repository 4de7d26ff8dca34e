"""Referrers: what is copied with an image, in which order, at which cost, and what fails."""

from collections.abc import Callable, Sequence

import anyio
import msgspec
import pytest

from syncer.demo import MemoryRegistry
from syncer.demo.images import make_artifact, make_image, make_index, make_layer
from syncer.demo.messages import Answer, Request
from syncer.demo.store import Store
from syncer.engine import referrers as engine_referrers
from syncer.events import ImageSynced
from syncer.oci import media_types
from syncer.oci.descriptor import Descriptor
from syncer.oci.digest import Digest
from syncer.oci.referrers import cosign_tags, fallback_tag, merge_referrers
from syncer.places.registry import referrers as registry_referrers
from syncer.run import Announced
from tests.support.wire import kinds, refuse, without_referrers_api

LAYER = make_layer({"a": b"b"})
SBOM = "application/spdx+json"
SIGNATURE = "application/vnd.example.signature"
APP = {"source/app": {"to": "destination/app", "referrers": True}}


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(registry_referrers, "MIN_SETTLE_SECONDS", 0.001)


@pytest.fixture
def image(source) -> Descriptor:
    return make_image(source.store, "app", "1", layers=[LAYER])


def attach(
    store: Store, subject: Descriptor, content: bytes = b"{}", artifact_type: str = SBOM
) -> Descriptor:
    return make_artifact(store, "app", artifact_type=artifact_type, content=content, subject=subject)


def attach_by_tag(store: Store, subject: Descriptor, referrers: Sequence[Descriptor]) -> None:
    entries = [
        Descriptor(each.media_type, each.digest, each.size, artifact_type=SBOM, annotations=(("n", "1"),))
        for each in referrers
    ]
    index = merge_referrers(None, entries)
    store.put_manifest("app", index.raw, index.media_type, reference=fallback_tag(subject.digest))


def listed(store: Store, subject: Descriptor) -> list[str]:
    """The digests in a fallback tag."""
    stored = store.manifest("app", fallback_tag(subject.digest))
    return [] if stored is None else [str(child.digest) for child in stored.manifest.children]


def requests(*registries: MemoryRegistry) -> int:
    return sum(len(registry.requests) for registry in registries)


async def test_referrers_of_an_image_and_its_children_are_copied_with_what_refers_to_them(
    net, source, destination
):
    children = [
        make_image(source.store, "app", layers=[LAYER], platform=f"linux/{each}")
        for each in ("amd64", "arm64")
    ]
    index = make_index(source.store, "app", "1", children=children)
    sbom = attach(source.store, index)
    wanted = [
        sbom,
        attach(source.store, sbom, artifact_type=SIGNATURE),
        attach(source.store, children[1], b"child"),
    ]
    make_artifact(source.store, "app", artifact_type=SBOM, content=b"of no image")

    outcome = await net.sync({"source/app:1": {"to": "destination/app", "referrers": True}})

    assert outcome.counts == (1, 0, 0)
    for each in wanted:
        copied = destination.store.get_manifest("app", each.digest)
        assert copied.raw == source.store.get_manifest("app", each.digest).raw
    assert [each["digest"] for each in destination.store.referrers("app", index.digest)] == [sbom.digest]
    assert outcome.synced[0].referrers == 3
    assert listed(destination.store, index) == []


async def test_without_the_key_referrers_are_left_at_the_source(net, source, destination, image):
    sbom = attach(source.store, image)
    await net.sync({"source/app": "destination/app"})
    assert destination.store.manifest("app", sbom.digest) is None
    assert not any("/referrers/" in request.path for request in source.requests)


@pytest.mark.parametrize("at_source", ["api", "tag"])
@pytest.mark.parametrize("at_destination", ["api", "tag"])
async def test_referrers_are_copied_between_api_and_fallback_tag(
    net, source, destination, image, *, at_source, at_destination
):
    sbom = attach(source.store, image)
    if at_source == "tag":
        without_referrers_api(source)
        attach_by_tag(source.store, image, [sbom])
    if at_destination == "tag":
        without_referrers_api(destination)

    outcome = await net.sync({"source/app:1": {"to": "destination/app", "referrers": True}})

    assert outcome.counts == (1, 0, 0)
    assert destination.store.manifest("app", sbom.digest) is not None
    assert listed(destination.store, image) == ([sbom.digest] if at_destination == "tag" else [])


async def test_referrers_are_written_before_the_tag(net, source, destination, image):
    attach(source.store, image)
    without_referrers_api(destination)
    await net.sync(APP)
    puts = [
        each.path.rpartition("/")[2]
        for each in destination.requests
        if each.method == "PUT" and "manifests" in each.path
    ]
    assert puts[-1] == "1"
    assert puts[-2] == fallback_tag(image.digest)


async def test_signatures_that_were_added_later_follow_an_unchanged_image(net, source, destination):
    children = [make_image(source.store, "app", layers=[LAYER])]
    index = make_index(source.store, "app", "1", children=children)
    await net.sync(APP)
    added = [attach(source.store, index), attach(source.store, children[0], b"of the child")]

    outcome = await net.sync(APP)

    assert outcome.counts == (0, 1, 0)
    assert outcome.skipped[0].referrers == 2
    assert all(destination.store.manifest("app", each.digest) for each in added)


@pytest.mark.parametrize("listable", [True, False])
async def test_tags_of_cosign_follow_the_image_they_belong_to(net, source, destination, image, listable):
    tags = list(cosign_tags(image.digest))
    signed = [
        make_artifact(source.store, "app", tag, artifact_type=SIGNATURE, content=tag.encode()) for tag in tags
    ]
    nested = next(iter(cosign_tags(signed[1].digest)))
    make_artifact(source.store, "app", nested, artifact_type=SIGNATURE, content=b"nested")
    if not listable:
        refuse(source, "GET tags", 403)

    outcome = await net.sync({"source/app:1": {"to": "destination/app", "referrers": True}})

    assert outcome.counts == (1, 0, 0)
    assert set(destination.store.tags("app")) == {"1", *tags, nested}
    assert outcome.synced[0].referrers == 4
    source.store.delete_tag("app", tags[0])
    changed = make_artifact(
        source.store, "app", tags[0], artifact_type=SIGNATURE, content=b"another signature"
    )
    again = await net.sync({"source/app:1": {"to": "destination/app", "referrers": True}})
    assert destination.store.get_manifest("app", tags[0]).digest == changed.digest
    assert (again.counts, again.skipped[0].referrers) == ((0, 1, 0), 1)


async def test_a_filter_selects_artifact_types(net, source, destination, image):
    sbom = attach(source.store, image)
    signature = attach(source.store, image, artifact_type=SIGNATURE)
    tags = list(cosign_tags(image.digest))
    for tag in tags:
        make_artifact(source.store, "app", tag, artifact_type=SIGNATURE, content=tag.encode())
    chosen = {"include": ["application/*"], "exclude": ["*signature", "*.att.*", "*.sbom.*"]}

    await net.sync({"source/app:1": {"to": "destination/app", "referrers": chosen}})

    assert destination.store.manifest("app", sbom.digest)
    assert not destination.store.manifest("app", signature.digest)
    assert set(destination.store.tags("app")) == {"1", tags[0]}


async def test_referrers_of_a_rewritten_index_and_of_dropped_children_are_left_out(net, source, destination):
    children = [
        make_image(source.store, "app", layers=[LAYER], platform=f"linux/{each}")
        for each in ("amd64", "arm64")
    ]
    index = make_index(source.store, "app", "1", children=children)
    of_index, of_kept, of_dropped = (attach(source.store, each) for each in (index, *children))
    rule = {"source/app": {"to": "destination/app", "referrers": True, "platforms": ["linux/amd64"]}}
    for counts in ((1, 0, 0), (0, 1, 0)):
        assert (await net.sync(rule)).counts == counts
        assert destination.store.manifest("app", of_kept.digest)
        assert not destination.store.manifest("app", of_index.digest)
        assert not destination.store.manifest("app", of_dropped.digest)


@pytest.mark.parametrize("what", ["GET manifest", "GET blob"])
async def test_a_referrer_that_cannot_be_copied_fails_its_image_and_is_named(
    net, source, destination, image, what
):
    sbom = attach(source.store, image, b"content")
    blob = source.store.manifest("app", sbom.digest).manifest.blobs[-1].digest
    refuse(source, what, 404, where=sbom.digest if what == "GET manifest" else blob)

    outcome = await net.sync(APP)

    assert outcome.counts == (0, 0, 1)
    assert f"referrer {sbom.digest} of {image.digest}" in outcome.failed[0].failure.message
    assert destination.store.manifest("app", "1") is None


async def test_a_failed_referrer_is_named_for_each_tag_of_the_image(net, source, image):
    sbom = attach(source.store, image)
    source.store.put_manifest(
        "app", source.store.get_manifest("app", "1").raw, media_types.OCI_MANIFEST, reference="2"
    )
    refuse(source, "GET manifest", 404, where=sbom.digest)
    outcome = await net.sync(APP)
    assert outcome.counts == (0, 0, 2)
    assert all(str(sbom.digest) in failed.failure.message for failed in outcome.failed)


@pytest.mark.parametrize("tags", ["source/app", "source/app:" + ",".join(f"v{n}" for n in range(60))])
@pytest.mark.parametrize("api", [True, False])
async def test_sixty_images_without_referrers_take_at_most_one_request_more_each(
    net, source, destination, tags, api
):
    for number in range(60):
        make_image(source.store, "app", f"v{number}", layers=[LAYER], annotations={"number": str(number)})
    if not api:
        without_referrers_api(source)
    taken = []
    for referrers in (False, True):
        for _new_then_unchanged in range(2):
            net.forget()
            to = f"destination/{str(referrers).lower()}"
            await net.sync({tags: {"to": to, "referrers": referrers}})
            taken.append(requests(source, destination))
    extra = [taken[2] - taken[0], taken[3] - taken[1]]
    # A registry is asked once for its API. If the rule names the tags, the tags of the repository are listed once: two
    # requests, since a page of sixty tags may have been cut off.
    listing = 0 if tags == "source/app" else 2
    assert extra == [(60 if api else 1) + listing] * 2


@pytest.mark.parametrize("api", [True, False])
async def test_indexes_without_referrers_ask_once_for_each_manifest(net, source, destination, api):
    for number in range(5):
        layer = make_layer({"number": str(number).encode()})
        make_index(
            source.store, "app", f"v{number}", children=[make_image(source.store, "app", layers=[layer])]
        )
    if not api:
        without_referrers_api(source)
    await net.sync({"source/app": "destination/app"})
    net.forget()
    await net.sync({"source/app": "destination/app"})
    before = requests(source, destination)
    net.forget()
    await net.sync(APP)
    # With the API: one for each index and child, and one for the children of each.
    assert requests(source, destination) - before == (15 if api else 1)


async def test_two_tags_of_one_image_ask_once(net, source, image):
    source.store.put_manifest(
        "app", source.store.get_manifest("app", "1").raw, media_types.OCI_MANIFEST, reference="2"
    )
    await net.sync(APP)
    assert sum("/referrers/" in request.path for request in source.requests) == 1


async def test_several_destinations_share_the_requests_to_the_source(
    net, source, destination, elsewhere, image
):
    sbom = attach(source.store, image)
    rule = {"source/app": {"to": ["destination/app", "elsewhere/app"], "referrers": True}}
    await net.sync(rule)
    assert all(each.store.manifest("app", sbom.digest) for each in (destination, elsewhere))
    assert sum(request.path.endswith(f"/manifests/{sbom.digest}") for request in source.requests) == 1


@pytest.mark.parametrize(
    ("status", "body"),
    [(400, b""), (404, b""), (405, b""), (501, b""), (403, b""), (200, b"<html>"), (200, b"{}")],
)
async def test_an_answer_that_is_no_list_leads_to_the_fallback_tag(
    net, source, destination, image, *, status, body
):
    sbom = attach(source.store, image)
    without_referrers_api(source, status, body)
    attach_by_tag(source.store, image, [sbom])
    assert (await net.sync(APP)).counts == (1, 0, 0)
    assert destination.store.manifest("app", sbom.digest)


async def test_an_api_that_lists_nothing_does_not_hide_the_fallback_tag(net, source, destination, image):
    sbom = attach(source.store, image)
    index = {"schemaVersion": 2, "mediaType": media_types.OCI_INDEX, "manifests": []}
    for registry in (source, destination):
        without_referrers_api(registry, 200, msgspec.json.encode(index))
    attach_by_tag(source.store, image, [sbom])
    await net.sync(APP)
    assert listed(destination.store, image) == [sbom.digest]


async def test_all_pages_of_the_api_are_read(net, source, destination, image):
    added = [attach(source.store, image, str(number).encode()) for number in range(5)]
    page_of(source, lambda entries, at: (entries[at : at + 2], at + 2 if at + 2 < len(entries) else None))
    await net.sync(APP)
    assert all(destination.store.manifest("app", each.digest) for each in added)


async def test_pages_without_end_fail_the_image(net, source, image):
    attach(source.store, image)
    page_of(source, lambda entries, at: (entries, at + 1))
    outcome = await net.sync(APP)
    assert outcome.counts == (0, 0, 1)
    assert "does not end" in outcome.failed[0].failure.message


def page_of(
    registry: MemoryRegistry, page: Callable[[Sequence[object], int], tuple[Sequence[object], int | None]]
) -> None:
    """Answer the referrers API in pages, with `Link` headers."""

    @registry.before
    async def answer(request: Request) -> Answer | None:
        if "/referrers/" not in request.path:
            return None
        subject = request.path.rpartition("/")[2]
        entries, following = page(
            registry.store.referrers("app", Digest.parse(subject)), int(request.query.get("at", "0"))
        )
        link = {} if following is None else {"Link": f'<{request.path}?at={following}>; rel="next"'}
        index = {"schemaVersion": 2, "mediaType": media_types.OCI_INDEX, "manifests": entries}
        return Answer(200, {"Content-Type": media_types.OCI_INDEX, **link}, msgspec.json.encode(index))


async def test_referrers_that_refer_to_each_other_too_deeply_fail_the_image(net, source, image):
    subject = image
    for number in range(9):
        subject = attach(source.store, subject, str(number).encode())
    outcome = await net.sync(APP)
    assert outcome.failed[0].failure.kind == "too_large"


async def test_too_many_referrers_of_referrers_fail_the_image(net, source, image, monkeypatch):
    monkeypatch.setattr(engine_referrers, "MAX_REFERRERS", 5)
    for number in range(3):
        first = attach(source.store, image, f"{number}".encode())
        attach(source.store, first, f"of {number}".encode())
    outcome = await net.sync(APP)
    assert outcome.failed[0].failure.kind == "too_large"


async def test_a_fallback_tag_keeps_what_others_wrote(net, source, destination, image):
    without_referrers_api(destination)
    await net.sync(APP)
    theirs = attach(destination.store, image, b"signed at the destination")
    attach_by_tag(destination.store, image, [theirs])
    ours = attach(source.store, image)
    await net.sync(APP)
    assert listed(destination.store, image) == [theirs.digest, ours.digest]
    entries = msgspec.json.decode(destination.store.get_manifest("app", fallback_tag(image.digest)).raw)[
        "manifests"
    ]
    assert [each["artifactType"] for each in entries] == [SBOM, SBOM]
    assert entries[0]["annotations"] == {"n": "1"}


async def test_a_fallback_tag_that_lost_its_entries_is_completed(net, source, destination, image):
    without_referrers_api(destination)
    sbom = attach(source.store, image)
    await net.sync(APP)
    destination.store.delete_tag("app", fallback_tag(image.digest))
    await net.sync(APP)
    assert listed(destination.store, image) == [sbom.digest]


async def test_a_tag_that_is_no_list_of_referrers_is_not_overwritten(net, source, destination, image):
    without_referrers_api(destination)
    attach(source.store, image)
    make_image(destination.store, "app", fallback_tag(image.digest), layers=[LAYER])
    outcome = await net.sync(APP)
    assert outcome.counts == (0, 0, 1)
    assert "not a list of referrers" in outcome.failed[0].failure.message


async def test_concurrent_writers_of_a_fallback_tag_lose_nothing(
    net, source, elsewhere, destination, monkeypatch
):
    monkeypatch.setattr(registry_referrers, "MIN_SETTLE_SECONDS", 0.1)
    without_referrers_api(destination)
    images = [make_image(each.store, "app", "1", layers=[LAYER]) for each in (source, elsewhere)]
    assert images[0] == images[1]
    added = [attach(source.store, images[0], b"one"), attach(elsewhere.store, images[0], b"two")]
    async with anyio.create_task_group() as group:
        for name in ("source", "elsewhere"):
            run, recorder = net.run({f"{name}/app:1": {"to": "destination/app", "referrers": True}})
            group.start_soon(net.finish, run, recorder)
    assert set(listed(destination.store, images[0])) == {each.digest for each in added}


async def test_a_dry_run_counts_referrers_and_writes_nothing(net, source, destination, image):
    attach(source.store, image)
    outcome = await net.sync(APP, dry_run=True)
    assert outcome.synced[0].referrers == 1
    assert not [request for request in destination.requests if request.method in {"PUT", "POST"}]
    assert kinds(destination)


@pytest.mark.parametrize(("times", "counts"), [(3, (1, 0, 0)), (1000, (0, 0, 1))])
async def test_a_fallback_tag_that_others_overwrite_is_written_again_within_bounds(
    net, source, destination, image, times, *, counts
):
    without_referrers_api(destination)
    sbom = attach(source.store, image)
    theirs = make_artifact(destination.store, "app", artifact_type=SBOM, content=b"theirs", subject=image)
    tag = fallback_tag(image.digest)
    written = overwritten = 0

    async def overwrite(request: Request) -> Answer | None:
        nonlocal written, overwritten
        if request.path.endswith(tag):
            written += request.method == "PUT"
            if request.method == "GET" and overwritten < min(written, times):
                overwritten += 1
                attach_by_tag(destination.store, image, [theirs])
        return None

    destination.before(overwrite)
    outcome = await net.sync({"source/app:1": {"to": "destination/app", "referrers": True}}, retries=0)

    assert outcome.counts == counts
    if counts[0]:
        assert set(listed(destination.store, image)) == {sbom.digest, theirs.digest}
    else:
        assert "others overwrote the tag" in outcome.failed[0].failure.message
        assert written == registry_referrers.MAX_ATTEMPTS


@pytest.mark.parametrize("api", [True, False], ids=["by the API", "by the fallback tag"])
async def test_announced_referrer_is_copied_with_its_subject_unchanged(net, source, destination, image, api):
    if not api:
        without_referrers_api(source)
    await net.sync(APP)
    added = attach(source.store, image, b"later")
    name = str(added.digest)
    if not api:
        attach_by_tag(source.store, image, [added])
        name = fallback_tag(image.digest)
    outcome = await net.sync(APP, announced={name: added.digest})
    assert outcome.counts == (0, 1, 0)
    assert destination.store.manifest("app", str(added.digest)) is not None


async def test_announced_child_of_an_index_costs_one_request(net, source, destination, image):
    await net.sync(APP)
    net.forget()
    outcome = await net.sync(APP, announced={str(image.digest): image.digest})
    assert outcome.counts == (0, 0, 0)
    assert kinds(source) == {"GET manifest": 1}
    assert kinds(destination) == {}


async def test_referrer_announced_during_the_run_is_not_missed(net, source, destination, image):
    """The run has listed the referrers of the image before the signature came."""
    added: list[Descriptor] = []

    def heard(event):
        if isinstance(event, ImageSynced) and not added:
            added.append(attach(source.store, image, b"later"))
            run.announce([Announced(event.rule, {str(added[0].digest): added[0].digest})])

    run, recorder = net.run(APP, heard=heard)
    outcome = await net.finish(run, recorder)
    assert outcome.failed == []
    assert destination.store.manifest("app", str(added[0].digest)) is not None
