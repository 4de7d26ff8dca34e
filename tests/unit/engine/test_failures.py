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


@pytest.mark.parametrize("rule", ["source/gone", "source/gone:1", "source/app:gone", "source/gone:/v/"])
async def test_a_missing_source_fails_alone(source, destination, net, rule):
    image(source.store)
    outcome = await net.sync({rule: "destination/gone", "source/app:1": "destination/app"})
    assert outcome.counts == (1, 0, 1)
    assert outcome.result.outcome == "partial"
    failure = outcome.failed[0].failure
    assert (failure.kind, failure.status, failure.registry) == ("not_found", 404, source.host)
    assert "\n" not in failure.message
    assert "404 not found" in failure.message
    assert same(source.store, destination.store, "app")


async def test_missing_source_is_reported_for_each_destination(net):
    outcome = await net.sync({"source/gone": ["destination/gone", "elsewhere/gone"]})
    assert outcome.counts == (0, 0, 2)
    assert outcome.result.outcome == "failure"


async def test_missing_content_is_not_requested_again(source, net):
    await net.sync({"source/gone:1": "destination/gone"}, retries=5)
    assert kinds(source) == {"GET manifest": 1}


async def test_a_missing_child_fails_its_image_only(source, destination, net):
    image(source.store, "good")
    gone = image(source.store, "", layer=LARGE)
    make_index(source.store, "app", "bad", children=[gone])
    del source.store._repositories["app"].manifests[gone.digest]
    outcome = await net.sync({"source/app": "destination/app"})
    assert outcome.counts == (1, 0, 1)
    assert outcome.failed[0].failure.kind == "not_found"
    assert gone.digest in outcome.failed[0].failure.message
    assert destination.store.tags("app") == ["good"]


@LAYERS
async def test_a_missing_blob_fails_its_images_only(source, destination, net, layer):
    for tag in ("bad", "worse"):
        image(source.store, tag, layer=layer, annotations={"tag": tag})
    make_image(source.store, "app", "good", layers=[])
    source.store.delete_blob("app", blob(layer))
    outcome = await net.sync({"source/app": "destination/app"})
    assert outcome.counts == (1, 0, 2)
    assert {event.failure.kind for event in outcome.failed} == {"not_found"}
    assert all(blob(layer) in event.failure.message for event in outcome.failed)
    assert destination.store.tags("app") == ["good"]
    assert destination.open_uploads == 0


@LAYERS
async def test_more_images_than_may_be_open_all_fail_with_their_blob(source, destination, net, layer):
    for number in range(300):
        image(source.store, str(number), layer=layer, annotations={"tag": str(number)})
    refuse(source, "GET blob", 500, where=blob(layer))
    outcome = await net.sync({"source/app": "destination/app"}, transfers=1)
    assert outcome.counts == (0, 0, 300)


@LAYERS
async def test_a_source_that_recovers_between_rounds_is_copied(source, destination, net, layer):
    image(source.store, layer=layer)
    refuse(source, "GET blob", 500, where=blob(layer), times=10)
    outcome = await net.sync({"source/app": "destination/app"}, retries=3)
    assert outcome.counts == (1, 0, 0)
    assert same(source.store, destination.store, "app")


@LAYERS
async def test_a_blob_of_wrong_bytes_never_arrives(source, destination, net, layer):
    image(source.store, layer=layer)
    wrong = layer.content[:-1] + bytes([layer.content[-1] ^ 1])
    source.store._repositories["app"].blobs[blob(layer)] = wrong
    outcome = await net.sync({"source/app": "destination/app"}, retries=5)
    assert outcome.failed[0].failure.kind == "digest_mismatch"
    assert destination.store.tags("app") == []
    assert wrong not in destination.store.blobs("app").values()
    assert destination.open_uploads == 0
    # Once may be the line, twice is the source.
    assert sum(blob(layer) in request.path for request in source.requests) == 2


@LAYERS
@pytest.mark.parametrize("change", [-7, 7])
async def test_a_blob_of_the_wrong_size_never_arrives(source, destination, net, layer, change):
    image(source.store, layer=layer)
    wrong = layer.content[:change] if change < 0 else layer.content + bytes(change)
    source.store._repositories["app"].blobs[blob(layer)] = wrong
    outcome = await net.sync({"source/app": "destination/app"})
    assert outcome.failed[0].failure.kind == "digest_mismatch"
    assert str(len(wrong)) in outcome.failed[0].failure.message
    assert destination.store.tags("app") == []


async def test_a_manifest_of_other_bytes_than_its_digest_is_refused(source, destination, net):
    child = image(source.store, "")
    make_index(source.store, "app", "1", children=[child])

    @source.before
    async def lie(request):
        if kind(request) == "GET manifest" and child.digest in request.path:
            stored = source.store.get_manifest("app", child.digest)
            return Answer(200, {"Content-Type": stored.media_type}, stored.raw + b" ")
        return None

    outcome = await net.sync({"source/app": "destination/app"})
    assert outcome.failed[0].failure.kind == "digest_mismatch"
    assert destination.store.tags("app") == []


async def test_temporarily_failed_push_is_retried(source, destination, net):
    image(source.store)
    refuse(destination, "PUT manifest", 500, times=5)
    outcome = await net.sync({"source/app": "destination/app"})
    assert outcome.counts == (1, 0, 0)
    assert kinds(destination)["PUT upload"] == 2


async def test_failed_image_does_not_stop_the_others(source, destination, net):
    for number in range(10):
        image(source.store, str(number), annotations={"n": str(number)})
    refuse(destination, "PUT manifest", 403, where="/5")
    outcome = await net.sync({"source/app": "destination/app"})
    assert outcome.counts == (9, 0, 1)
    assert outcome.failed[0].failure.kind == "forbidden"


async def test_unexpected_exception_is_reported_as_internal(source, destination, net, monkeypatch):
    image(source.store)

    async def broken(_self, _job):
        raise ZeroDivisionError("a defect")

    monkeypatch.setattr(PushManifest, "run", broken)
    outcome = await net.sync({"source/app": "destination/app"})
    assert outcome.failed[0].failure.kind == "internal"
    assert "a defect" in outcome.failed[0].failure.message


@pytest.mark.parametrize("first", ["a", "b"])
async def test_earlier_of_two_rules_for_one_tag_wins(source, destination, net, first):
    for name in ("a", "b"):
        image(source.store, "1", name=name, annotations={"name": name})
        image(source.store, f"only-{name}", name=name)
    second = "ab".replace(first, "")
    outcome = await net.sync({f"source/{first}": "destination/app", f"source/{second}": "destination/app"})
    assert outcome.counts == (3, 0, 1)
    failed = outcome.failed[0]
    assert (failed.failure.kind, failed.rule.number) == ("conflict", 1)
    assert f"{first}:1" in failed.failure.message
    assert destination.store.digest("app", "1") == source.store.digest(first, "1")


@pytest.mark.parametrize(
    "rule",
    [{"source/app:1,1": "destination/app"}, {"source/app:1": ["destination/app:1", "destination/app"]}],
)
@pytest.mark.parametrize(
    "others", [{}, {"source/app@{digest}": "destination/app:other"}], ids=["alone", "shared"]
)
async def test_image_listed_twice_in_a_rule_is_copied_once(source, destination, net, rule, others):
    made = image(source.store)
    more = {key.format(digest=made.digest): value for key, value in others.items()}
    outcome = await net.sync({**rule, **more})
    assert outcome.counts == (1 + len(more), 0, 0)


async def test_two_images_of_one_rule_for_one_tag_conflict(source, destination, net):
    for tag in ("v1", "v2"):
        image(source.store, tag, annotations={"tag": tag})
    outcome = await net.sync({"source/app:/v/": "destination/app:one,one"})
    assert outcome.counts == (1, 0, 1)
    assert outcome.failed[0].failure.kind == "conflict"
    assert destination.store.digest("app", "one") == source.store.digest("app", "v1")


async def test_the_later_rule_waits_for_the_earlier_ones_list(source, destination, net):
    for name in ("a", "b"):
        image(source.store, "1", name=name, annotations={"name": name})
    refuse(source, "GET tags", 500, where="/a/", times=5)
    outcome = await net.sync({"source/a": "destination/app", "source/b": "destination/app"})
    assert outcome.counts == (1, 0, 1)
    assert destination.store.digest("app", "1") == source.store.digest("a", "1")


async def test_rule_that_cannot_be_listed_releases_its_tags(source, destination, net):
    image(source.store, "1", name="b")
    outcome = await net.sync({"source/a": "destination/app", "source/b": "destination/app"})
    assert outcome.counts == (1, 0, 1)
    assert destination.store.digest("app", "1") == source.store.digest("b", "1")


async def test_a_rule_that_selects_nothing_is_a_warning(source, destination, net):
    image(source.store)
    outcome = await net.sync({"source/app:/^v/": "destination/app"})
    assert outcome.result.outcome == "success"
    assert len(outcome.told.of(RuleWarning)) == 1
