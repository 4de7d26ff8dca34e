"""Attestations: kept, dropped, and left out where a registry refuses them."""

import json
from typing import NamedTuple

import pytest

from syncer.demo.images import make_attestation, make_image, make_index, make_layer
from syncer.demo.messages import Answer
from syncer.events import IndexFiltered, RuleWarning, SkipReason
from syncer.oci.digest import Digest
from syncer.rules.attestations import Attestations
from tests.support.caches import Remembered
from tests.support.wire import call_new_without_tags, kind, kinds, same

ACR = "unknown manifest class for application/vnd.oci.empty.v1+json"
SWR = "Invalid image, fail to parse 'manifest.json'"


def rule(to="destination/app", source="source/app", **keys):
    return {source: {"to": to, **keys}}


class Attested(NamedTuple):
    """An index: its digest and size in bytes, and the digests of its attestations."""

    digest: Digest
    size: int
    attestations: list[Digest]


@pytest.fixture
def attested(source):
    """An index of two images with an attestation each."""
    images = [
        make_image(source.store, "app", layers=[make_layer({"for": at.encode()})], platform=at)
        for at in ("linux/amd64", "linux/arm64")
    ]
    attestations = [make_attestation(source.store, "app", image=image) for image in images]
    made = make_index(source.store, "app", "1", children=[*images, *attestations])
    return Attested(made.digest, made.size, [attestation.digest for attestation in attestations])


def entries(registry):
    """The platforms of the index at a registry."""
    document = json.loads(registry.store.get_manifest("app", "1").raw)
    return [
        f"{entry['platform']['os']}/{entry['platform']['architecture']}" for entry in document["manifests"]
    ]


def refuse_manifests(registry, refused, status=403, message=ACR, code="DENIED"):
    """Answer the push of the manifests that `refused` picks with a registry's error."""

    @registry.before
    async def answer(request):
        if kind(request) != "PUT manifest" or not refused(request):
            return None
        body = json.dumps({"errors": [{"code": code, "message": message}]}).encode()
        return Answer(status, {"Content-Type": "application/json"}, body)


def the_attestations(attested):
    return lambda request: request.path.endswith(tuple(attested.attestations))


def the_index(attested):
    """The source's index: the one without attestations is shorter."""
    return lambda request: request.headers.get("Content-Length", "") == str(attested.size)


async def test_without_a_filter_attestations_are_kept(source, destination, net, attested):
    assert (await net.sync(rule())).counts == (1, 0, 0)
    assert same(source.store, destination.store, "app")


@pytest.mark.parametrize("keys", [{"attestations": "drop"}, {"platforms": ["linux/amd64", "linux/arm64"]}])
async def test_drop_and_a_filter_rewrite_the_index(source, destination, net, attested, keys):
    outcome = await net.sync(rule(**keys))
    assert entries(destination) == ["linux/amd64", "linux/arm64"]
    (synced,) = outcome.synced
    assert (synced.digest, synced.source_digest) == (destination.store.digest("app", "1"), attested.digest)
    (filtered,) = outcome.told.of(IndexFiltered)
    assert filtered.dropped == ("attestation", "attestation")
    assert all(destination.store.digest("app", each) is None for each in attested.attestations)


async def test_keep_with_a_filter_keeps_those_of_the_kept_platforms(destination, net, attested):
    await net.sync(rule(platforms=["linux/arm64"], attestations="keep"))
    assert entries(destination) == ["linux/arm64", "unknown/unknown"]


async def test_an_entry_of_unknown_platform_without_an_image_stays(source, destination, net):
    unknown = make_image(source.store, "app", layers=[make_layer({"a": b"a"})], platform="unknown/unknown")
    make_index(source.store, "app", "1", children=[unknown])
    await net.sync(rule(attestations="drop"))
    assert same(source.store, destination.store, "app")


async def test_a_second_run_finds_a_rewritten_index_up_to_date(destination, net, attested):
    await net.sync(rule(attestations="drop"))
    net.forget()
    outcome = await net.sync(rule(attestations="drop"))
    (skipped,) = outcome.skipped
    assert skipped.reason is SkipReason.UP_TO_DATE
    assert skipped.source_digest == attested.digest
    assert set(kinds(destination)) == {"GET tags", "HEAD manifest"}


async def test_destinations_of_one_rule_may_differ(source, destination, elsewhere, net, attested):
    for each in ("destination", "elsewhere"):
        net.settings[each] = {"attestations": "drop" if each == "elsewhere" else "keep"}
    outcome = await net.sync(rule(["destination/app", "elsewhere/app"]))
    assert outcome.counts == (2, 0, 0)
    assert same(source.store, destination.store, "app")
    assert entries(elsewhere) == ["linux/amd64", "linux/arm64"]
    assert kinds(source)["GET blob"] == len({*destination.store.blobs("app")})


@pytest.mark.parametrize(
    "answer",
    [
        (403, ACR),
        (400, SWR, "UNKNOWN"),
        (500, SWR, "UNKNOWN"),
        (400, "", "MANIFEST_INVALID"),
        (404, "", "UNSUPPORTED"),
        (405, "", "UNSUPPORTED"),
        (415, "media type", "UNSUPPORTED"),
        (422, "", ""),
    ],
)
@pytest.mark.parametrize("refused", [the_attestations, the_index])
async def test_where_they_are_refused_the_image_goes_without(destination, net, attested, answer, refused):
    refuse_manifests(destination, refused(attested), *answer)
    outcome = await net.sync(rule(), retries=0)
    assert outcome.counts == (1, 0, 0)
    assert entries(destination) == ["linux/amd64", "linux/arm64"]
    (warning,) = outcome.told.of(RuleWarning)
    assert '"attestations": "drop"' in warning.message
    (synced,) = outcome.synced
    assert (synced.digest, synced.source_digest) == (destination.store.digest("app", "1"), attested.digest)
    net.forget()
    again = await net.sync(rule(), retries=0)
    assert again.counts == (0, 1, 0)
    assert again.skipped[0].source_digest == attested.digest
    assert again.told.of(RuleWarning) == []
    assert {request.method for request in destination.requests} <= {"GET", "HEAD"}


@pytest.mark.parametrize("refused", [the_attestations, the_index])
async def test_where_they_are_to_be_kept_a_refusal_fails_the_image(destination, net, attested, refused):
    refuse_manifests(destination, refused(attested))
    outcome = await net.sync(rule(attestations="keep"), retries=0)
    assert outcome.counts == (0, 0, 1)
    assert destination.store.tags("app") == []
    assert '"attestations": "drop"' in outcome.failed[0].failure.message


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (
            403,
            "adding 1.3 KiB of storage resource, which when updated to current usage of 3.8 KiB will exceed the configured upper limit of 3.8 KiB",
        ),
        (403, "the project has reached its quota"),
        (412, "tag immutable"),
        (401, "authentication required"),
        (403, "the system is in read only mode"),
    ],
)
async def test_another_refusal_of_the_index_is_no_refusal_of_attestations(
    destination, net, attested, status, message
):
    refuse_manifests(destination, the_index(attested), status, message)
    outcome = await net.sync(rule(), retries=0)
    assert outcome.counts == (0, 0, 1)
    assert destination.store.tags("app") == []
    assert "attestations" not in outcome.failed[0].failure.message


async def test_where_the_image_is_refused_without_them_too_that_is_the_error(destination, net, attested):
    refuse_manifests(destination, lambda request: request.path.endswith("/1"), 403, "not today")
    outcome = await net.sync(rule(), retries=0)
    (failed,) = outcome.failed
    assert "not today" in failed.failure.message
    assert "attestations" not in failed.failure.message


async def test_images_that_share_a_refused_attestation_all_go_without(source, destination, net, attested):
    source.store.tag("app", "2", attested.digest)
    refuse_manifests(destination, the_attestations(attested))
    outcome = await net.sync(rule(), retries=0)
    assert outcome.counts == (2, 0, 0)
    assert sorted(destination.store.tags("app")) == ["1", "2"]


async def test_another_destination_keeps_what_one_refuses(source, destination, elsewhere, net, attested):
    refuse_manifests(destination, the_attestations(attested))
    outcome = await net.sync(rule(["destination/app", "elsewhere/app"]), retries=0)
    assert outcome.counts == (2, 0, 0)
    assert entries(destination) == ["linux/amd64", "linux/arm64"]
    assert same(source.store, elsewhere.store, "app")


async def test_a_digest_without_a_tag_is_found_again_where_attestations_were_refused(
    destination, net, attested
):
    call_new_without_tags(destination)
    refuse_manifests(destination, the_attestations(attested))
    wanted = rule(source=f"source/app@{attested.digest}")
    assert (await net.sync(wanted, retries=0)).counts == (1, 0, 0)
    assert (await net.sync(wanted, retries=0)).counts == (0, 1, 0)


@pytest.mark.parametrize("keys", [{"attestations": "drop"}, {"platforms": ["linux/amd64", "linux/arm64"]}])
async def test_what_is_there_with_attestations_is_replaced_where_they_are_dropped(
    destination, net, attested, keys
):
    await net.sync(rule())
    outcome = await net.sync(rule(**keys))
    assert outcome.counts == (1, 0, 0)
    assert entries(destination) == ["linux/amd64", "linux/arm64"]


async def test_an_index_without_attestations_is_not_fetched_again_where_that_is_known(source, net):
    image = make_image(source.store, "app", layers=[make_layer({"a": b"a"})])
    make_index(source.store, "app", "1", children=[image])
    cache = Remembered()
    await net.sync(rule(attestations="drop"), cache=cache)
    net.forget()
    assert (await net.sync(rule(attestations="drop"), cache=cache)).counts == (0, 1, 0)
    assert set(kinds(source)) == {"GET tags", "HEAD manifest"}


async def test_a_record_of_a_filter_that_kept_attestations_is_not_one_of_a_filter_that_drops_them(
    destination, net, attested
):
    cache = Remembered()
    await net.sync(rule(platforms=["linux/amd64"], attestations="keep"), cache=cache)
    outcome = await net.sync(rule(platforms=["linux/amd64"]), cache=cache)
    assert outcome.counts == (1, 0, 0)
    assert entries(destination) == ["linux/amd64"]


def test_the_settings_are_those_of_the_contract():
    assert list(Attestations) == ["keep", "drop", "auto"]
