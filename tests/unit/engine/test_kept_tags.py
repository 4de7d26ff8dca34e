"""Rules that keep tags of the destination: `overwrite: false` and `immutable`."""

import pytest

from syncer.demo.images import make_attestation, make_image, make_index, make_layer
from syncer.demo.messages import Answer
from syncer.events import SkipReason
from tests.support.caches import Remembered
from tests.support.wire import kind, kinds, refuse

KEEP = {"to": "destination/app", "overwrite": False}
IMMUTABLE = {"to": "destination/app", "immutable": ["v*"]}


def image(registry, tag, content, repository="app"):
    return make_image(registry.store, repository, tag, layers=[make_layer({"content": content.encode()})])


def digest_of(registry, tag, repository="app"):
    return registry.store.get_manifest(repository, tag).digest


def wrote(registry):
    return [request.method for request in registry.requests if request.method not in {"GET", "HEAD"}]


async def test_existing_tag_is_kept_and_drift_is_told(source, destination, net):
    old, new = image(destination, "1", "old"), image(source, "1", "new")
    image(source, "2", "missing")
    outcome = await net.sync({"source/app": KEEP})
    assert outcome.counts == (1, 1, 0)
    (skipped,) = outcome.skipped
    assert (skipped.reason, skipped.digest, skipped.wanted) == (SkipReason.KEPT, old.digest, new.digest)
    assert skipped.drift
    assert outcome.result.drifted == 1
    assert digest_of(destination, "1") == old.digest
    assert digest_of(destination, "2") == digest_of(source, "2")


async def test_equal_tag_is_up_to_date_without_drift(source, destination, net):
    image(source, "1", "a")
    image(destination, "1", "a")
    (skipped,) = (await net.sync({"source/app": KEEP})).skipped
    assert (skipped.reason, skipped.drift) == (SkipReason.UP_TO_DATE, False)
    assert kinds(source) == {"GET tags": 1, "HEAD manifest": 1}


@pytest.mark.parametrize("rule", [KEEP, IMMUTABLE])
@pytest.mark.parametrize("options", [{"force": True}, {"dry_run": True}, {"force": True, "dry_run": True}])
async def test_no_option_overwrites_a_kept_tag(source, destination, net, rule, options):
    for tag in ("v1", "v2"):
        image(source, tag, "same")
    image(destination, "v1", "same")
    image(destination, "v2", "other")
    before = {tag: digest_of(destination, tag) for tag in ("v1", "v2")}
    outcome = await net.sync({"source/app": rule}, **options)
    assert {tag: digest_of(destination, tag) for tag in ("v1", "v2")} == before
    assert "v2" in {each.destination.tag for each in outcome.skipped}


async def test_tag_of_another_name_is_kept_at_the_destination(source, destination, net):
    image(source, "1", "a")
    image(destination, "v1", "b")
    rule = {"to": ["destination/app:v1", "destination/app:w1"], "immutable": ["v*"]}
    outcome = await net.sync({"source/app:1": rule})
    assert [each.destination.tag for each in outcome.skipped] == ["v1"]
    assert [each.destination.tag for each in outcome.synced] == ["w1"]


@pytest.mark.parametrize(
    "keys",
    [{}, {"attestations": "drop"}, {"platforms": ["linux/amd64"]}],
    ids=["left out once", "dropped", "filtered"],
)
@pytest.mark.parametrize("forced", [False, True])
async def test_index_that_a_filter_made_is_no_drift(source, destination, net, keys, forced):
    child = make_image(source.store, "app", layers=[make_layer({"a": b"a"})], platform="linux/amd64")
    attestation = make_attestation(source.store, "app", image=child)
    make_index(source.store, "app", "1", children=[child, attestation])
    await net.sync({"source/app:1": {"to": "destination/app", "attestations": "drop"}})
    net.forget()
    cache, before = Remembered(), digest_of(destination, "1")
    for _ in range(2):
        outcome = await net.sync({"source/app:1": KEEP | keys}, cache=cache, force=forced)
        assert outcome.result.drifted == outcome.result.failed == 0
        assert digest_of(destination, "1") == before
        # A filter that is in force gives the same index again, which --force pushes.
        assert (outcome.counts == (0, 1, 0)) or (forced and keys)


@pytest.mark.parametrize("rule", [KEEP, {"to": "destination/app", "immutable": ["[0-9]"]}])
@pytest.mark.parametrize("status", [401, 403, 405, 500])
async def test_tag_that_cannot_be_asked_for_is_not_written(source, destination, net, rule, status):
    image(source, "1", "new")
    old = image(destination, "1", "old")
    for each in ("HEAD manifest", "GET manifest", "GET tags"):
        refuse(destination, each, status)
    outcome = await net.sync({"source/app:1": rule}, retries=0)
    assert outcome.counts == (0, 0, 1)
    assert digest_of(destination, "1") == old.digest


async def test_tag_that_cannot_be_read_is_not_written(source, destination, net):
    image(source, "1", "new")
    old = image(destination, "1", "old")
    refuse(destination, "HEAD manifest", 405)

    @destination.before
    async def answer(request):
        return Answer(200, {}, b"no manifest") if kind(request) == "GET manifest" else None

    outcome = await net.sync({"source/app:1": KEEP}, retries=0)
    assert outcome.counts == (0, 0, 1)
    assert digest_of(destination, "1") == old.digest


async def test_listed_immutable_tags_cost_one_listing_for_each_side(source, destination, net):
    for number in range(25):
        image(source, f"v{number}", f"new {number}")
        image(destination, f"v{number}", "old")
    outcome = await net.sync({"source/app": IMMUTABLE})
    assert outcome.counts == (0, 25, 0)
    assert {(each.reason, each.digest, each.drift) for each in outcome.skipped} == {
        (SkipReason.IMMUTABLE, None, False)
    }
    assert kinds(source) == kinds(destination) == {"GET tags": 1}


async def test_only_immutable_tags_are_taken_from_the_listing(source, destination, net):
    for tag in ("v1", "v2", "latest"):
        image(source, tag, f"new {tag}")
    for tag in ("v1", "latest"):
        image(destination, tag, "old")
    outcome = await net.sync({"source/app": IMMUTABLE})
    assert sorted(each.destination.tag for each in outcome.synced) == ["latest", "v2"]
    assert kinds(source)["HEAD manifest"] == kinds(destination)["HEAD manifest"] == 2


async def test_no_immutable_tag_selected_lists_nothing_more(source, destination, net):
    image(source, "1", "a")
    await net.sync({"source/app:1": IMMUTABLE})
    (listing,) = [request for request in destination.requests if kind(request) == "GET tags"]
    assert listing.query == "n=1"


async def test_immutable_tag_that_the_listing_hides_is_asked_for_and_kept(source, destination, net):
    image(source, "v1", "new")
    old = image(destination, "v1", "old")
    image(destination, "v2", "other")

    @destination.before
    async def answer(request):
        return Answer(200, {}, b'{"name": "app", "tags": ["v2"]}') if kind(request) == "GET tags" else None

    outcome = await net.sync({"source/app:v1": IMMUTABLE})
    assert [(each.reason, each.drift) for each in outcome.skipped] == [(SkipReason.KEPT, True)]
    assert digest_of(destination, "v1") == old.digest


@pytest.mark.parametrize("status", [400, 403, 404, 500, 0])
async def test_listing_that_fails_is_as_if_there_were_none(source, destination, net, status):
    image(source, "v1", "new")
    image(source, "v2", "missing")
    image(destination, "v1", "old")
    refuse(destination, "GET tags", status)
    outcome = await net.sync({"source/app": IMMUTABLE})
    assert [(each.reason, each.drift) for each in outcome.skipped] == [(SkipReason.KEPT, True)]
    assert [each.destination.tag for each in outcome.synced] == ["v2"]


async def test_destination_of_several_rules_is_listed_once(source, destination, net):
    for number in range(3):
        image(source, "v1", "new", f"app{number}")
        image(destination, f"v{number}", "old")
    rules = {f"source/app{n}:v1": IMMUTABLE | {"to": f"destination/app:v{n}"} for n in (0, 1)}
    # The third tag is missing there, so that the whole list is read first.
    rules = {"source/app2:v1": IMMUTABLE | {"to": "destination/app:v9"}} | rules
    assert (await net.sync(rules)).counts == (1, 2, 0)
    assert kinds(destination)["GET tags"] == 1


async def test_new_repository_with_immutable_tags_is_filled(source, destination, net):
    image(source, "v1", "new")
    assert (await net.sync({"source/app": IMMUTABLE})).counts == (1, 0, 0)
    assert (await net.sync({"source/app": IMMUTABLE})).counts == (0, 1, 0)
