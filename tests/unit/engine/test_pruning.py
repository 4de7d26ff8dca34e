"""Pruning: what it removes, and everything that keeps it from removing more."""

import json

import pytest

from syncer.demo import Answer
from syncer.demo.images import make_image, make_index, make_layer
from syncer.events import PruneFailed, PruneHeld, RunFinished, TagKept, TagPruned
from syncer.oci.referrers import cosign_tags
from syncer.places.registry import tag_list
from syncer.rules.shard import Shard
from tests.support.caches import Written
from tests.support.wire import refuse

ALL = {"to": "destination/app", "prune": {"limit": "100%"}}
TAGS = tuple(f"1.{number}" for number in range(10))


def image(registry, tag, content="", repository="app"):
    layer = make_layer({"content": (content or tag).encode()})
    return make_image(registry.store, repository, tag, layers=[layer])


@pytest.fixture
def written():
    """What the program wrote in earlier runs."""
    return Written()


@pytest.fixture
async def mirrored(source, destination, net, written):
    """Copy ten tags, and remove one at the source."""
    for tag in TAGS:
        image(source, tag)
    await net.sync({"source/app": "destination/app"}, written=written)
    source.store.delete_tag("app", TAGS[0])


def removed(outcome):
    return [event.destination.tag for event in outcome.told.of(TagPruned)]


def held(outcome):
    """The reason for which nothing is removed."""
    (event,) = outcome.told.of(PruneHeld)
    assert not outcome.told.of(TagPruned)
    return event.reason


def kept(outcome):
    return {event.destination.tag: event.reason for event in outcome.told.of(TagKept)}


def deletes(registry):
    return [request.path for request in registry.requests if request.method == "DELETE"]


def by_digest_only(registry):
    """As docker-registry 2.8 does: tags cannot be removed, and a manifest is removed with all of its tags."""

    @registry.before
    async def answer(request):
        if request.method != "DELETE" or "sha256:" in request.path:
            return None
        body = json.dumps(
            {"errors": [{"code": "DIGEST_INVALID", "message": "provided digest did not match"}]}
        )
        return Answer(400, {"Content-Type": "application/json"}, body.encode())


# --- removing ---------------------------------------------------------------------------------------------------


async def test_tag_that_no_rule_selects_is_removed(mirrored, destination, net, written):
    outcome = await net.sync(
        {"source/app": {"to": "destination/app", "prune": {}}}, prune=True, written=written
    )
    assert removed(outcome) == ["1.0"]
    assert set(destination.store.tags("app")) == set(TAGS[1:])
    assert "1.0" not in {reference.tag for reference in written.records}
    assert outcome.result.outcome == "success"


@pytest.mark.parametrize(
    ("rule", "options"),
    [
        ("destination/app", {"prune": True}),
        (ALL, {}),
        (ALL, {"prune": True, "tags": ["1.*"]}),
        (ALL, {"prune": True, "trigger": "event"}),
        (ALL, {"prune": True, "announced": {"1.1": None}}),
    ],
    ids=["no key", "no option", "some tags", "event", "announced"],
)
@pytest.mark.usefixtures("mirrored")
async def test_only_whole_runs_with_option_and_key_prune(destination, net, written, rule, options):
    outcome = await net.sync({"source/app": rule}, written=written, **options)
    assert not removed(outcome)
    assert not deletes(destination)


async def test_stopped_run_removes_nothing(mirrored, destination, net, written):
    run, recorder = net.run({"source/app": ALL}, prune=True, written=written)

    @destination.before
    async def stop(_request):
        run.stop()

    await net.finish(run, recorder)
    assert not deletes(destination)


async def test_plan_lists_what_would_be_removed_and_writes_nothing(mirrored, destination, net, written):
    before = dict(written.records)
    outcome = await net.sync({"source/app": ALL}, dry_run=True, written=written)
    assert removed(outcome) == ["1.0"]
    assert not deletes(destination)
    assert written.records == before


async def test_tags_are_those_of_the_destination(source, destination, net, written):
    for tag in ("1", "2"):
        image(source, tag)
    await net.sync({"source/app:1,2": "destination/app:v1,v2"}, written=written)
    image(source, "v2")
    outcome = await net.sync(
        {"source/app:1": {**ALL, "to": "destination/app:v1"}}, prune=True, written=written
    )
    assert removed(outcome) == ["v2"]
    assert destination.store.tags("app") == ["v1"]


# --- what a rule selects is not known ---------------------------------------------------------------------------


async def test_failed_listing_of_the_source_removes_nothing(mirrored, source, net, written):
    refuse(source, "GET tags", 403)
    outcome = await net.sync({"source/app": ALL}, prune=True, written=written)
    assert "image could not be copied" in held(outcome) or "could not be listed" in held(outcome)


async def test_empty_listing_of_the_source_removes_nothing(mirrored, source, net, written):
    for tag in TAGS[1:]:
        source.store.delete_tag("app", tag)
    outcome = await net.sync({"source/app": ALL}, prune=True, written=written)
    assert "selects no tag" in held(outcome)


async def test_rule_that_selects_nothing_removes_nothing(mirrored, net, written):
    outcome = await net.sync({"source/app": {**ALL, "tags": {"include": "2.*"}}}, prune=True, written=written)
    assert "selects no tag" in held(outcome)


async def test_too_few_selected_tags_remove_nothing(mirrored, net, written):
    rule = {**ALL, "tags": {"include": "1.1", "at_least": 2}}
    outcome = await net.sync({"source/app": rule}, prune=True, written=written)
    assert held(outcome)


@pytest.mark.parametrize("side", ["source", "destination"])
@pytest.mark.parametrize("how", ["refused", "begins anew"])
@pytest.mark.usefixtures("mirrored", "short_pages")
async def test_truncated_listing_removes_nothing(net, written, side, how):
    tags = ["1.1", "1.2"] if side == "source" else ["1.0", "1.1"]

    @net.registries[side].before
    async def answer(request):
        if not request.path.endswith("/tags/list"):
            return None
        if "last=" in request.query_string and how == "refused":
            return Answer(400, {"Content-Type": "application/json"}, b'{"errors": [{"code": "UNSUPPORTED"}]}')
        body = json.dumps({"name": "app", "tags": tags}).encode()
        return Answer(200, {"Content-Type": "application/json"}, body)

    outcome = await net.sync({"source/app": ALL}, prune=True, written=written)
    assert "may be incomplete" in held(outcome)


@pytest.fixture
def short_pages(monkeypatch):
    """Lists of two tags look truncated."""
    monkeypatch.setattr(tag_list, "CAP", 2)
    monkeypatch.setattr(tag_list, "ROUND", 2)


async def test_list_of_a_mirror_removes_nothing(mirrored, source, elsewhere, net, written):
    image(elsewhere, "1.1")
    net.settings["source"] = {"mirrors": [elsewhere.host]}
    refuse(source, "GET tags", 0)
    outcome = await net.sync({"source/app": ALL}, prune=True, written=written, retries=0)
    assert "a mirror listed them" in held(outcome)


async def test_failed_listing_of_the_destination_removes_nothing(mirrored, destination, net, written):
    refuse(destination, "GET tags", 403)
    outcome = await net.sync({"source/app": ALL}, prune=True, written=written)
    assert "could not be read" in held(outcome)
    assert outcome.result.outcome == "success"


async def test_failed_image_removes_nothing_from_its_repository(mirrored, source, destination, net, written):
    image(source, "1.11")
    refuse(destination, "PUT manifest", 403)
    outcome = await net.sync({"source/app": ALL}, prune=True, written=written)
    assert "could not be copied" in held(outcome)


# --- limit ------------------------------------------------------------------------------------------------------


async def test_changed_range_removes_nothing_above_the_limit(mirrored, destination, net, written):
    rule = {"to": "destination/app", "prune": {"limit": "30%"}, "tags": {"semver": ">=1.4"}}
    outcome = await net.sync({"source/app": rule}, prune=True, written=written)
    assert "4 of 10 tags would be removed, and `limit` allows 3" in held(outcome)
    assert outcome.result.outcome == "success"
    assert not deletes(destination)
    rule["tags"] = {"semver": ">=1.3"}
    outcome = await net.sync({"source/app": rule}, prune=True, written=written)
    assert removed(outcome) == ["1.0", "1.1", "1.2"]


async def test_signatures_do_not_raise_the_limit(mirrored, destination, net, written):
    for number in range(20):
        image(destination, f"sha256-{number:064x}.sig")
    rule = {"to": "destination/app", "prune": {}, "tags": {"semver": ">=1.2"}}
    outcome = await net.sync({"source/app": rule}, prune=True, written=written)
    assert "2 of 10 tags" in held(outcome)


# --- ownership --------------------------------------------------------------------------------------------------


async def test_tag_of_somebody_else_stays(mirrored, destination, net, written):
    image(destination, "theirs")
    outcome = await net.sync({"source/app": ALL}, prune=True, written=written)
    assert removed(outcome) == ["1.0"]
    assert kept(outcome) == {"theirs": "this program did not write it"}


async def test_tag_that_somebody_else_wrote_since_stays(mirrored, destination, net, written):
    image(destination, "1.0", "changed")
    outcome = await net.sync({"source/app": ALL}, prune=True, written=written)
    assert not removed(outcome)
    assert kept(outcome) == {"1.0": "somebody else has written it since"}


async def test_tag_that_was_there_before_is_not_ours(source, destination, net, written):
    for registry in (source, destination):
        for tag in ("1", "2"):
            image(registry, tag)
    await net.sync({"source/app": "destination/app"}, written=written)
    source.store.delete_tag("app", "1")
    outcome = await net.sync({"source/app": ALL}, prune=True, written=written)
    assert not removed(outcome)


async def test_foreign_tags_are_removed_if_the_rule_says_so(mirrored, destination, net):
    image(destination, "theirs")
    rule = {"to": "destination/app", "prune": {"limit": "100%", "foreign": True}}
    outcome = await net.sync({"source/app": rule}, prune=True)
    assert removed(outcome) == ["1.0", "theirs"]


async def test_nothing_is_removed_without_a_state_directory(mirrored, destination, net):
    outcome = await net.sync({"source/app": ALL}, prune=True)
    assert "without a state directory" in held(outcome)
    assert not deletes(destination)


async def test_kept_tags_stay(mirrored, destination, net, written):
    rule = {"to": "destination/app", "prune": {"limit": "100%", "keep": ["1.[01]"], "foreign": True}}
    outcome = await net.sync({"source/app:1.5": rule}, prune=True, written=written)
    assert set(destination.store.tags("app")) == {"1.0", "1.1", "1.5"}
    assert outcome.result.outcome == "success"


# --- other rules ------------------------------------------------------------------------------------------------


@pytest.fixture
async def shared(mirrored, elsewhere, net, written):
    """A repository into which a second rule writes too."""
    image(elsewhere, "2.0", repository="other")
    await net.sync({"elsewhere/other": "destination/app"}, written=written)


SHARED = {"source/app": ALL, "elsewhere/other": "destination/app"}


async def test_tags_of_another_rule_stay(shared, net, written):
    outcome = await net.sync(SHARED, prune=True, written=written)
    assert removed(outcome) == ["1.0"]


@pytest.mark.parametrize("named", ["elsewhere/other", "elsewhere/*"])
async def test_rule_that_is_not_part_of_the_run_keeps_its_destination_whole(
    shared, destination, net, written, named
):
    outcome = await net.sync(
        {"source/app": ALL, named: "destination/app"}, prune=True, written=written, only=[0]
    )
    assert "were not listed in this run" in held(outcome)
    assert not deletes(destination)


async def test_rules_with_patterns_of_another_process_keep_a_shared_destination_whole(
    shared, destination, net, written
):
    rules = {"source/app": ALL, "elsewhere/*": "destination/{name}"}
    for index in range(2):
        await net.sync(rules, prune=True, written=written, shard=Shard(index, 2))
    assert not deletes(destination)


async def test_failed_listing_of_another_rule_keeps_its_destination_whole(shared, elsewhere, net, written):
    refuse(elsewhere, "GET tags", 403)
    outcome = await net.sync(SHARED, prune=True, written=written)
    assert held(outcome)


async def test_tag_that_a_rule_without_prune_wrote_stays(shared, elsewhere, net, written):
    image(elsewhere, "2.1", repository="other")
    elsewhere.store.delete_tag("other", "2.0")
    outcome = await net.sync(SHARED, prune=True, written=written)
    assert removed(outcome) == ["1.0"]
    assert "has no `prune`" in kept(outcome)["2.0"]


async def test_smallest_limit_of_two_rules_holds(shared, elsewhere, source, net, written):
    source.store.delete_tag("app", "1.1")
    rules = {"source/app": ALL, "elsewhere/other": {"to": "destination/app", "prune": {}}}
    outcome = await net.sync(rules, prune=True, written=written)
    assert "2 of 11 tags" in held(outcome)


async def test_renamed_rule_removes_no_more(mirrored, net, written):
    rule = {**ALL, "name": "another name"}
    outcome = await net.sync({"source/app": rule}, prune=True, written=written)
    assert removed(outcome) == ["1.0"]


async def test_moved_rule_leaves_its_former_destination_alone(mirrored, destination, net, written):
    rule = {**ALL, "to": "destination/new"}
    outcome = await net.sync({"source/app": rule}, prune=True, written=written)
    assert not removed(outcome)
    assert set(destination.store.tags("app")) == set(TAGS)


async def test_rules_of_patterns_prune_each_repository(source, destination, net, written):
    for name in ("team/a", "team/b"):
        for tag in ("1", "2"):
            image(source, tag, name + tag, repository=name)
    rules = {"source/team/*": {"to": "destination/{path}", "prune": {"limit": "50%"}}}
    await net.sync(rules, written=written)
    source.store.delete_tag("team/a", "1")
    for tag in ("1", "2"):
        source.store.delete_tag("team/b", tag)
    outcome = await net.sync(rules, prune=True, written=written)
    assert [str(event.destination.repository.path) for event in outcome.told.of(TagPruned)] == ["team/a"]
    assert set(destination.store.tags("team/b")) == {"1", "2"}


# --- manifests --------------------------------------------------------------------------------------------------


async def test_manifest_with_a_tag_that_stays_is_not_removed(source, destination, net, written):
    for tag in ("1", "2", "3"):
        image(source, tag, "same" if tag != "3" else "other")
    await net.sync({"source/app": "destination/app"}, written=written)
    for tag in ("1", "3"):
        source.store.delete_tag("app", tag)
    by_digest_only(destination)
    outcome = await net.sync({"source/app": ALL}, prune=True, written=written)
    assert removed(outcome) == ["3"]
    assert "2 names the same manifest" in kept(outcome)["1"]
    assert set(destination.store.tags("app")) == {"1", "2"}


async def test_manifest_is_removed_with_all_tags_that_nobody_selects(source, destination, net, written):
    for tag in ("1", "2", "3"):
        image(source, tag, "same" if tag != "3" else "other")
    await net.sync({"source/app": "destination/app"}, written=written)
    by_digest_only(destination)
    outcome = await net.sync({"source/app:3": ALL}, prune=True, written=written)
    assert removed(outcome) == ["1", "2"]
    assert destination.store.tags("app") == ["3"]


async def test_child_of_an_index_that_stays_is_not_removed(source, destination, net, written):
    child = image(source, "child")
    make_index(source.store, "app", "index", children=[child])
    await net.sync({"source/app": "destination/app"}, written=written)
    by_digest_only(destination)
    outcome = await net.sync({"source/app:index": ALL}, prune=True, written=written)
    assert "an index that stays" in kept(outcome)["child"]
    assert not deletes(destination)


async def test_child_goes_with_its_index(source, destination, net, written):
    child = image(source, "child")
    make_index(source.store, "app", "index", children=[child])
    image(source, "other")
    await net.sync({"source/app": "destination/app"}, written=written)
    outcome = await net.sync({"source/app:other": ALL}, prune=True, written=written)
    assert removed(outcome) == ["child", "index"]


async def test_signatures_go_with_their_subject_only(source, destination, net, written):
    subjects = {tag: image(source, tag) for tag in ("1", "2")}
    signatures = {tag: next(iter(cosign_tags(subject.digest))) for tag, subject in subjects.items()}
    for signature in signatures.values():
        image(source, signature)
    await net.sync({"source/app": {"to": "destination/app", "referrers": True, "tags": "*"}}, written=written)
    assert set(destination.store.tags("app")) == {"1", "2", *signatures.values()}
    outcome = await net.sync({"source/app:2": ALL}, prune=True, written=written)
    assert removed(outcome) == sorted(["1", signatures["1"]])
    assert set(destination.store.tags("app")) == {"2", signatures["2"]}


# --- failures ---------------------------------------------------------------------------------------------------


async def test_failed_removal_fails_the_run(mirrored, source, destination, net, written):
    source.store.delete_tag("app", "1.1")
    refuse(destination, "DELETE manifest", 500, where="1.0")
    outcome = await net.sync({"source/app": ALL}, prune=True, written=written, retries=0)
    (failure,) = outcome.told.of(PruneFailed)
    assert failure.destination.tag == "1.0"
    assert removed(outcome) == ["1.1"]
    assert outcome.told.of(RunFinished)[0].outcome == "partial"


async def test_refused_deletion_is_one_failure_with_advice(mirrored, source, destination, net, written):
    source.store.delete_tag("app", "1.1")
    refuse(destination, "DELETE manifest", 405)
    outcome = await net.sync({"source/app": ALL}, prune=True, written=written)
    (failure,) = outcome.told.of(PruneFailed)
    assert "REGISTRY_STORAGE_DELETE_ENABLED" in failure.failure.message
    assert set(destination.store.tags("app")) == set(TAGS)


async def test_tag_that_was_written_meanwhile_stays(mirrored, destination, net, written):
    heads = 0

    @destination.before
    async def write(request):
        nonlocal heads
        if request.method == "HEAD" and request.path.endswith("/manifests/1.0"):
            heads += 1
            if heads == 2:
                image(destination, "1.0", "new")

    outcome = await net.sync({"source/app": ALL}, prune=True, written=written)
    assert not removed(outcome)
    assert not deletes(destination)
