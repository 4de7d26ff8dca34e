"""What fails, fails alone, once, and says why."""

import pytest

from syncer.demo import Answer
from syncer.demo.images import make_image, make_index, make_layer, noise
from syncer.engine.manifests import PushManifest
from syncer.events import RuleWarning
from syncer.oci.digest import Digest
from tests.support.wire import kind, kinds, refuse, same

LAYER = make_layer({"layer": noise("layer", 3000)})
LARGE = make_layer({"large": noise("large", 700_000)})
LAYERS = pytest.mark.parametrize("layer", [LAYER, LARGE], ids=["small", "large"])


def image(store, tag="1", *, name="app", layer=LAYER, **options):
    return make_image(store, name, tag, layers=[layer], **options)


def blob(layer):
    return Digest.of(layer.content)


@pytest.mark.parametrize("rule", ["here/gone", "here/gone:1", "here/app:gone", "here/gone:/v/"])
async def test_a_missing_source_fails_alone(here, there, net, rule):
    image(here.store)
    outcome = await net.sync({rule: "there/gone", "here/app:1": "there/app"})
    assert outcome.counts == (1, 0, 1)
    assert outcome.result.outcome == "partial"
    failure = outcome.failed[0].failure
    assert (failure.kind, failure.status, failure.registry) == ("not_found", 404, here.host)
    assert "\n" not in failure.message
    assert "404 not found" in failure.message
    assert same(here.store, there.store, "app")


async def test_a_missing_source_is_told_for_each_destination(net):
    outcome = await net.sync({"here/gone": ["there/gone", "elsewhere/gone"]})
    assert outcome.counts == (0, 0, 2)
    assert outcome.result.outcome == "failure"


async def test_what_is_missing_is_not_asked_for_again(here, net):
    await net.sync({"here/gone:1": "there/gone"}, retries=5)
    assert kinds(here) == {"GET manifest": 1}


async def test_a_missing_child_fails_its_image_only(here, there, net):
    image(here.store, "good")
    gone = image(here.store, "", layer=LARGE)
    make_index(here.store, "app", "bad", children=[gone])
    del here.store._repositories["app"].manifests[gone.digest]
    outcome = await net.sync({"here/app": "there/app"})
    assert outcome.counts == (1, 0, 1)
    assert outcome.failed[0].failure.kind == "not_found"
    assert gone.digest in outcome.failed[0].failure.message
    assert there.store.tags("app") == ["good"]


@LAYERS
async def test_a_missing_blob_fails_its_images_only(here, there, net, layer):
    for tag in ("bad", "worse"):
        image(here.store, tag, layer=layer, annotations={"tag": tag})
    make_image(here.store, "app", "good", layers=[])
    here.store.delete_blob("app", blob(layer))
    outcome = await net.sync({"here/app": "there/app"})
    assert outcome.counts == (1, 0, 2)
    assert {event.failure.kind for event in outcome.failed} == {"not_found"}
    assert all(blob(layer) in event.failure.message for event in outcome.failed)
    assert there.store.tags("app") == ["good"]
    assert there.open_uploads == 0


@LAYERS
async def test_more_images_than_may_be_open_all_fail_with_their_blob(here, there, net, layer):
    for number in range(300):
        image(here.store, str(number), layer=layer, annotations={"tag": str(number)})
    refuse(here, "GET blob", 500, where=blob(layer))
    outcome = await net.sync({"here/app": "there/app"}, transfers=1)
    assert outcome.counts == (0, 0, 300)


@LAYERS
async def test_a_source_that_recovers_between_rounds_is_copied(here, there, net, layer):
    image(here.store, layer=layer)
    refuse(here, "GET blob", 500, where=blob(layer), times=10)
    outcome = await net.sync({"here/app": "there/app"}, retries=3)
    assert outcome.counts == (1, 0, 0)
    assert same(here.store, there.store, "app")


@LAYERS
async def test_a_blob_of_wrong_bytes_never_arrives(here, there, net, layer):
    image(here.store, layer=layer)
    wrong = layer.content[:-1] + bytes([layer.content[-1] ^ 1])
    here.store._repositories["app"].blobs[blob(layer)] = wrong
    outcome = await net.sync({"here/app": "there/app"}, retries=5)
    assert outcome.failed[0].failure.kind == "digest_mismatch"
    assert there.store.tags("app") == []
    assert wrong not in there.store.blobs("app").values()
    assert there.open_uploads == 0
    # Once may be the line, twice is the source.
    assert sum(blob(layer) in request.path for request in here.requests) == 2


@LAYERS
@pytest.mark.parametrize("change", [-7, 7])
async def test_a_blob_of_the_wrong_size_never_arrives(here, there, net, layer, change):
    image(here.store, layer=layer)
    wrong = layer.content[:change] if change < 0 else layer.content + bytes(change)
    here.store._repositories["app"].blobs[blob(layer)] = wrong
    outcome = await net.sync({"here/app": "there/app"})
    assert outcome.failed[0].failure.kind == "digest_mismatch"
    assert str(len(wrong)) in outcome.failed[0].failure.message
    assert there.store.tags("app") == []


async def test_a_manifest_of_other_bytes_than_its_digest_is_refused(here, there, net):
    child = image(here.store, "")
    make_index(here.store, "app", "1", children=[child])

    @here.before
    async def lie(request):
        if kind(request) == "GET manifest" and child.digest in request.path:
            stored = here.store.get_manifest("app", child.digest)
            return Answer(200, {"Content-Type": stored.media_type}, stored.raw + b" ")
        return None

    outcome = await net.sync({"here/app": "there/app"})
    assert outcome.failed[0].failure.kind == "digest_mismatch"
    assert there.store.tags("app") == []


async def test_a_push_that_fails_for_now_is_tried_again(here, there, net):
    image(here.store)
    refuse(there, "PUT manifest", 500, times=5)
    outcome = await net.sync({"here/app": "there/app"})
    assert outcome.counts == (1, 0, 0)
    assert kinds(there)["PUT upload"] == 2


async def test_one_image_that_fails_stops_no_other(here, there, net):
    for number in range(10):
        image(here.store, str(number), annotations={"n": str(number)})
    refuse(there, "PUT manifest", 403, where="/5")
    outcome = await net.sync({"here/app": "there/app"})
    assert outcome.counts == (9, 0, 1)
    assert outcome.failed[0].failure.kind == "forbidden"


async def test_a_defect_is_told_as_internal(here, there, net, monkeypatch):
    image(here.store)

    async def broken(_self, _job):
        raise ZeroDivisionError("a defect")

    monkeypatch.setattr(PushManifest, "run", broken)
    outcome = await net.sync({"here/app": "there/app"})
    assert outcome.failed[0].failure.kind == "internal"
    assert "a defect" in outcome.failed[0].failure.message


@pytest.mark.parametrize("first", ["a", "b"])
async def test_of_two_rules_for_one_tag_the_earlier_wins(here, there, net, first):
    for name in ("a", "b"):
        image(here.store, "1", name=name, annotations={"name": name})
        image(here.store, f"only-{name}", name=name)
    second = "ab".replace(first, "")
    outcome = await net.sync({f"here/{first}": "there/app", f"here/{second}": "there/app"})
    assert outcome.counts == (3, 0, 1)
    failed = outcome.failed[0]
    assert (failed.failure.kind, failed.rule.number) == ("conflict", 1)
    assert f"{first}:1" in failed.failure.message
    assert there.store.digest("app", "1") == here.store.digest(first, "1")


@pytest.mark.parametrize(
    "rule", [{"here/app:1,1": "there/app"}, {"here/app:1": ["there/app:1", "there/app"]}]
)
@pytest.mark.parametrize("others", [{}, {"here/app@{digest}": "there/app:other"}], ids=["alone", "contested"])
async def test_an_image_that_a_rule_names_twice_goes_once(here, there, net, rule, others):
    made = image(here.store)
    more = {key.format(digest=made.digest): value for key, value in others.items()}
    outcome = await net.sync({**rule, **more})
    assert outcome.counts == (1 + len(more), 0, 0)


async def test_two_images_of_one_rule_for_one_tag_conflict(here, there, net):
    for tag in ("v1", "v2"):
        image(here.store, tag, annotations={"tag": tag})
    outcome = await net.sync({"here/app:/v/": "there/app:one,one"})
    assert outcome.counts == (1, 0, 1)
    assert outcome.failed[0].failure.kind == "conflict"
    assert there.store.digest("app", "one") == here.store.digest("app", "v1")


async def test_the_later_rule_waits_for_the_earlier_ones_list(here, there, net):
    for name in ("a", "b"):
        image(here.store, "1", name=name, annotations={"name": name})
    refuse(here, "GET tags", 500, where="/a/", times=5)
    outcome = await net.sync({"here/a": "there/app", "here/b": "there/app"})
    assert outcome.counts == (1, 0, 1)
    assert there.store.digest("app", "1") == here.store.digest("a", "1")


async def test_a_rule_that_cannot_be_listed_gives_way(here, there, net):
    image(here.store, "1", name="b")
    outcome = await net.sync({"here/a": "there/app", "here/b": "there/app"})
    assert outcome.counts == (1, 0, 1)
    assert there.store.digest("app", "1") == here.store.digest("b", "1")


async def test_a_rule_that_selects_nothing_is_a_warning(here, there, net):
    image(here.store)
    outcome = await net.sync({"here/app:/^v/": "there/app"})
    assert outcome.result.outcome == "success"
    assert len(outcome.told.of(RuleWarning)) == 1
