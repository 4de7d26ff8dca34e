"""Rules with `tags`: one listing, and ages only where they matter."""

from contextlib import closing

import pytest

from syncer.demo import Answer
from syncer.demo.images import make_artifact, make_image, make_index, make_layer
from syncer.engine.ages import KnownTime, parse_time
from syncer.events import RuleWarning, TagsListed
from syncer.oci.digest import Digest
from syncer.state.database import open_database
from syncer.state.image_times import KEPT_DAYS, SqliteImageTimes
from tests.support.wire import kinds

LAYER = make_layer({"layer": b"small"})
DAY = 86400
# Images of `make_image` were created in June 2024.
OLD = {"min_age": "30d"}


def make_tags(registry, *tags):
    image = make_image(registry.store, "app", tags[0], layers=[LAYER])
    for tag in tags[1:]:
        registry.store.tag("app", tag, image.digest)
    return image


def make_undated(registry, tag):
    """An artifact with an empty config: nothing tells when it was made."""
    return make_artifact(registry.store, "app", tag, artifact_type="a/b", content=tag.encode())


def rule(**tags):
    return {"source/app": {"to": "destination/app", "tags": tags}}


def tags_at(registry):
    return registry.store.tags_page("app", None, "")[0]


def steps_of(outcome):
    return [event.steps_text for event in outcome.told.of(TagsListed)]


def warnings_of(outcome):
    return [event.message for event in outcome.told.of(RuleWarning)]


async def test_selected_tags_are_copied_after_one_listing(source, destination, net):
    make_tags(source, "1.9", "1.10", "1.11-rc1", "1.11-alpine", "latest", f"sha256-{'5e' * 32}.sig")
    outcome = await net.sync(rule(semver=">=1", latest=1))
    assert outcome.counts == (1, 0, 0)
    assert tags_at(destination) == ["1.10"]
    assert steps_of(outcome) == ["6 tags → include 5 → semver 2 → latest 1"]
    assert kinds(source)["GET tags"] == 1
    assert not warnings_of(outcome)


async def test_newest_of_thousands_need_no_ages(source, destination, net):
    make_tags(source, *(f"1.{number}" for number in range(5000)))
    outcome = await net.sync(rule(semver="*", latest=5))
    assert sorted(tags_at(destination)) == ["1.4995", "1.4996", "1.4997", "1.4998", "1.4999"]
    assert outcome.counts == (5, 0, 0)
    # Six pages of tags, and each image once: the repository is new at the destination.
    assert kinds(source) == {"GET tags": 6, "GET manifest": 5, "GET blob": 2}


async def test_range_that_matches_nothing_is_one_warning_with_advice(source, net):
    make_tags(source, "1.9", "1.10")
    outcome = await net.sync(rule(semver=">=2"))
    assert outcome.counts == (0, 0, 0)
    (warning,) = warnings_of(outcome)
    assert "2 tags → semver 0; check `semver`: the newest version is 1.10" in warning


async def test_too_few_tags_fail_the_rule(source, destination, net):
    make_tags(source, "1.9", "1.10")
    outcome = await net.sync(rule(semver=">=1.10", at_least=2))
    (failed,) = outcome.failed
    assert (failed.failure.kind, failed.failure.permanent) == ("invalid", True)
    assert "`at_least` expects 2 tags" in failed.failure.message
    assert "1 are selected: 2 tags → semver 1" in failed.failure.message
    assert not kinds(destination).get("PUT manifest")


async def test_included_tag_that_does_not_exist_is_a_warning(source, destination, net):
    make_tags(source, "1.9")
    outcome = await net.sync(rule(include=["1.9", "1.99"]))
    assert tags_at(destination) == ["1.9"]
    (warning,) = warnings_of(outcome)
    assert "has no tag 1.99" in warning


async def test_destination_with_tags_takes_the_newest_first(source, destination, net):
    make_tags(source, "1.9", "1.10", "1.11")
    outcome = await net.sync({"source/app": {"to": "destination/app:new,old", "tags": {"latest": 2}}})
    assert outcome.counts == (2, 0, 0)
    assert {str(e.source.tag): e.destination.tag for e in outcome.synced} == {"1.11": "new", "1.10": "old"}


# --- ages ---------------------------------------------------------------------------------------------------------


async def test_age_counts_from_the_creation_if_the_registry_does_not_tell_push_times(
    source, destination, net
):
    make_tags(source, "1.9", "1.10")
    outcome = await net.sync(rule(**OLD))
    assert tags_at(destination) == ["1.10", "1.9"]
    assert steps_of(outcome) == ["2 tags → min_age 2"]
    assert (await net.sync(rule(max_age="30d"))).counts == (0, 0, 0)


async def test_creation_of_an_index_is_that_of_its_first_image(source, destination, net):
    child = make_image(source.store, "app", "", layers=[LAYER])
    make_index(source.store, "app", "1", children=[child])
    assert (await net.sync(rule(**OLD))).counts == (1, 0, 0)


async def test_unknown_age_fails_the_rule_without_a_state_folder(source, destination, net):
    make_undated(source, "1")
    outcome = await net.sync(rule(**OLD))
    (failed,) = outcome.failed
    assert "the age of" in failed.failure.message
    assert "--state-dir" in failed.failure.message
    assert not kinds(destination).get("PUT manifest")


async def test_unknown_age_counts_from_when_the_image_was_first_seen(source, destination, net, tmp_path):
    image = make_undated(source, "1")
    with closing(open_database(tmp_path)) as database:
        times = SqliteImageTimes(database)
        assert (await net.sync(rule(**OLD), image_times=times)).counts == (0, 0, 0)
        known = times.recall(image.digest)
        assert known is not None
        assert known.created is None
        database._connection.execute("UPDATE image_times SET first_seen = first_seen - ?", (31 * DAY,))
        source.requests.clear()
        assert (await net.sync(rule(**OLD), image_times=times)).counts == (1, 0, 0)


async def test_config_is_read_once_for_each_digest(source, destination, net, tmp_path):
    make_tags(source, "1.9", "1.10")
    with closing(open_database(tmp_path)) as database:
        await net.sync(rule(max_age="30d"), image_times=SqliteImageTimes(database))
        source.requests.clear()
        await net.sync(rule(max_age="30d"), image_times=SqliteImageTimes(database))
    assert not kinds(source).get("GET blob")
    assert not kinds(source).get("GET manifest")


async def test_dry_run_records_no_ages(source, net, tmp_path):
    image = make_undated(source, "1")
    with closing(open_database(tmp_path)) as database:
        times = SqliteImageTimes(database)
        outcome = await net.sync(rule(**OLD), image_times=times, dry_run=True)
        assert outcome.counts == (0, 0, 0)
        assert times.recall(image.digest) is None


async def test_tag_that_is_removed_after_the_listing_is_left_out(source, destination, net):
    make_tags(source, "1.9", "1.10")

    @source.before
    async def gone(request):
        return Answer(404, {}, b"") if request.path.endswith("manifests/1.10") else None

    outcome = await net.sync(rule(min_age="30d", latest=1))
    assert outcome.counts == (1, 0, 0)
    assert tags_at(destination) == ["1.9"]


@pytest.mark.parametrize(
    ("text", "known"),
    [
        ("2024-06-01T00:00:00Z", True),
        ("2024-06-01T00:00:00.123456789+02:00", True),
        ("1980-01-01T00:00:00Z", True),
        ("1979-12-31T23:59:59Z", False),
        ("1970-01-01T00:00:00Z", False),
        ("0001-01-01T00:00:00Z", False),
        ("yesterday", False),
        ("", False),
        (None, False),
        ("9" * 500, False),
    ],
)
def test_time_of_an_image(text, known):
    assert (parse_time(text) is not None) is known


def test_ages_that_nobody_asks_for_are_forgotten(tmp_path):
    digest, day = Digest.of(b"x"), [0.0]
    with closing(open_database(tmp_path)) as database:
        SqliteImageTimes(database, now=lambda: day[0]).record(digest, KnownTime(None, 5.0))
        for day[0] in (DAY * KEPT_DAYS, 2 * DAY * KEPT_DAYS):
            assert SqliteImageTimes(database, now=lambda: day[0]).recall(digest) == KnownTime(None, 5.0)
        day[0] += DAY * (KEPT_DAYS + 1)
        assert SqliteImageTimes(database, now=lambda: day[0]).recall(digest) is None
