"""What `tags` of a rule selects."""

import string
from random import Random
from zlib import crc32

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from syncer.oci.referrers import is_referrer_tag
from syncer.rules.ranges import parse_range
from syncer.rules.tag_filter import FilteredTags, Step, show_steps
from syncer.rules.tags import AllTags, MatchingTags, TheseTags
from syncer.rules.versions import parse_version
from tests.unit.rules.selection_table import SIGNED, TABLE

DAY = 86400.0
NOW = 1000 * DAY
CASES = [
    (name, listing, keys, expected) for name, (listing, rows) in TABLE.items() for keys, expected in rows
]
TAGS = st.text(string.ascii_lowercase + string.digits + "._-", min_size=1, max_size=20)
VERSIONS = st.builds(
    lambda numbers, ends: ends[0] + ".".join(map(str, numbers)) + ends[1],
    st.lists(st.integers(0, 12), min_size=1, max_size=4),
    st.sampled_from([("", ""), ("v", ""), ("", "-rc1"), ("", "-alpine"), ("", "b4"), ("v", "-rc1-alpine")]),
)
SELECTIONS = st.builds(
    lambda **keys: selection(**{key: value for key, value in keys.items() if value is not None}),
    include=st.sampled_from([None, "v*", "/[0-9]/", ["1*", "2*"]]),
    exclude=st.sampled_from([None, "*alpine", "/rc/"]),
    semver=st.sampled_from([None, "*", ">=2", "1.x || >50", ">=1-0"]),
    variant=st.sampled_from([None, None, "-alpine", "*"]),
    sort=st.sampled_from([None, "semver", "name", "created"]),
    latest=st.sampled_from([None, 1, 3]),
    latest_per=st.sampled_from([None, "major", "minor"]),
    min_age=st.sampled_from([None, 5 * DAY]),
)


def selection(**keys):
    for key in ("include", "exclude"):
        if isinstance(keys.get(key), str):
            keys[key] = (keys[key],)
        keys[key] = tuple(keys.get(key, ()))
    if "semver" in keys:
        keys["semver"] = parse_range(keys["semver"])
    return FilteredTags(**keys)


def select(tags, times=None, **keys):
    """The selected tags, and the tags whose ages were asked for."""
    return run(selection(**keys), tags.split() if isinstance(tags, str) else tags, times or {})


def run(chosen, tags, times):
    candidates = chosen.candidates(tags)
    known: dict[str, float] = {}
    asked: list[str] = []
    while unknown := chosen.unknown_ages(candidates, known, NOW):
        assert not known.keys() & set(unknown)
        asked += unknown
        known |= {tag: times[tag] for tag in unknown}
    return chosen.select(candidates, known, NOW), asked


@pytest.mark.parametrize(
    ("name", "listing", "keys", "expected"), CASES, ids=[f"{c[0]} {c[2]}" for c in CASES]
)
def test_table(name, listing, keys, expected):
    tags = listing.split()
    selected, _ = select(tags, **keys)
    assert list(selected.tags) == expected.split()
    Random(name).shuffle(tags)
    assert select(tags, **keys)[0] == selected
    assert all(selection(**keys).matches(tag) for tag in selected.tags)


def test_table_has_enough_tags():
    assert sum(len(set(listing.split())) for listing, _ in TABLE.values()) >= 200
    assert len(TABLE) == 20


def test_steps_tell_what_each_left():
    tags = (
        [f"1.{number}" for number in range(300)]
        + [f"1.{n}-alpine" for n in range(5)]
        + ["latest"] * 3
        + ["x"]
    )
    selected, _ = select(tags, include="1.*", exclude="1.29?", semver=">=1.200", latest=5)
    assert show_steps(1204, selected.steps) == (
        "1,204 tags → include 305 → exclude 295 → semver 90 → latest 5"
    )
    assert select("a b")[0].steps == ()
    assert select(["a", f"{SIGNED}.sig"])[0].steps == (Step("include", 1),)


@pytest.mark.parametrize("ending", ["", ".sig", ".att", ".sbom"])
def test_signature_tag_is_never_selected(ending):
    tag = SIGNED + ending
    assert is_referrer_tag(tag)
    assert not selection(include=tag).matches(tag)
    assert select([tag, "1"], include=[tag, "*"])[0].tags == ("1",)


def test_similar_tag_is_no_signature():
    assert not is_referrer_tag("sha256-" + "5e" * 31)
    assert not is_referrer_tag(f"{SIGNED}.sigx")


def test_included_tag_must_be_listed():
    chosen = selection(include=["1.1", "1.9", "x*"])
    assert select("1.1 1.2", include=["1.1", "1.9", "x*"])[0].tags == ("1.1",)
    assert chosen.absent(["1.1", "1.2"]) == ("1.9",)


def test_what_needs_the_tags_of_the_repository():
    assert FilteredTags(include=("1.1",)).needs_listing
    assert AllTags().needs_listing
    assert MatchingTags("x").needs_listing
    assert not TheseTags(("x",)).needs_listing


# --- ages ---------------------------------------------------------------------------------------------------------


def test_min_age_leaves_out_new_tags():
    times = {"1": NOW - 10 * DAY, "2": NOW - 3 * DAY, "3": NOW - 1}
    assert select("1 2 3", times, semver="*", min_age=3 * DAY)[0].tags == ("2", "1")
    assert select("1 2 3", times, semver="*", max_age=3 * DAY)[0].tags == ("3", "2")
    selected, _ = select("1 2 3", times, min_age=1 * DAY, max_age=5 * DAY)
    assert selected == select("3 2 1", times, min_age=1 * DAY, max_age=5 * DAY)[0]
    assert show_steps(3, selected.steps) == "3 tags → min_age 2 → max_age 1"


def test_no_age_is_asked_for_if_versions_decide():
    tags = [f"1.{number}" for number in range(5000)]
    selected, asked = select(tags, semver="*", latest=5)
    assert selected.tags == ("1.4999", "1.4998", "1.4997", "1.4996", "1.4995")
    assert asked == []


def test_only_ages_that_matter_are_asked_for():
    tags = [f"1.{number}" for number in range(5000)]
    times = {tag: NOW - (5000 - number) * DAY for number, tag in enumerate(tags)}
    selected, asked = select(tags, times, semver="*", min_age=3 * DAY, latest=5)
    assert selected.tags == ("1.4997", "1.4996", "1.4995", "1.4994", "1.4993")
    assert asked == ["1.4999", "1.4998", "1.4997", "1.4996", "1.4995", "1.4994", "1.4993"]
    assert show_steps(5000, selected.steps) == "5,000 tags → semver 5,000 → min_age 5 of 7 checked → latest 5"


def test_long_row_of_new_tags_takes_few_rounds():
    chosen = selection(semver="*", min_age=DAY, latest=1)
    candidates = chosen.candidates([str(number) for number in range(5000)])
    times: dict[str, float] = {}
    rounds = 0
    while unknown := chosen.unknown_ages(candidates, times, NOW):
        times |= dict.fromkeys(unknown, NOW)
        rounds += 1
    assert rounds < 20
    assert chosen.select(candidates, times, NOW).tags == ()


def test_latest_by_time():
    times = {"a": NOW - 1, "b": NOW - 3, "c": NOW - 2, "1.10": NOW - 3, "1.9": NOW - 3}
    assert select("a b c 1.9 1.10", times, sort="created", latest=2)[0].tags == ("a", "c")
    assert select("b 1.9 1.10", times, sort="created")[0].tags == ("1.10", "1.9", "b")
    assert select("a b c 1.10 1.9", times, sort="created", latest_per="minor")[0].tags == ("1.10", "1.9")


def test_latest_by_name():
    assert select("2024-01-05 2024-11-20 b a", sort="name", latest=3)[0].tags == ("b", "a", "2024-11-20")


def test_latest_counts_equal_versions_once():
    assert select("1.2 v1.2.0 1.1 1.0", latest=2)[0].tags == ("1.2", "v1.2.0", "1.1")


# --- advice -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tags", "keys", "advice"),
    [
        ("", {"include": "v*"}, "the repository has no tags"),
        ("1.2 1.3", {"include": "v1"}, "check `include`"),
        ("1.2 1.3", {"exclude": "1.*"}, "check `exclude`"),
        ("main latest", {"semver": ">=1"}, "no tag is a version"),
        ("1.2-alpine latest", {"semver": ">=1"}, "set `variant`"),
        ("1.2-rc1 latest", {"semver": ">=1"}, "set `prerelease: true`"),
        ("1.2 v1.10 1.9", {"semver": ">=2"}, "the newest version is v1.10"),
        ("1.2", {"semver": ">=1", "variant": "-alpine"}, "check `variant`"),
    ],
)
def test_empty_selection_has_advice(tags, keys, advice):
    assert advice in selection(**keys).advice(tags.split())


# --- properties ---------------------------------------------------------------------------------------------------


@settings(max_examples=40)
@given(st.lists(VERSIONS | TAGS, max_size=12), SELECTIONS, st.randoms())
def test_result_does_not_depend_on_the_order_of_the_listing(tags, chosen, random):
    times = {tag: NOW - (crc32(tag.encode()) % 20) * DAY for tag in tags}
    expected, _ = run(chosen, tags, times)
    random.shuffle(tags)
    assert run(chosen, tags, times)[0] == expected
    assert all(chosen.matches(tag) for tag in expected.tags)


@settings(max_examples=40)
@given(st.lists(VERSIONS, min_size=1, max_size=12), st.integers(1, 5))
def test_latest_always_selects_the_newest(tags, latest):
    selected = set(select(tags, semver="*", variant="*", latest=latest)[0].tags)
    versions = {tag: version for tag in tags if (version := parse_version(tag)) and not version.prerelease}
    keys = {tag: version.key for tag, version in versions.items()}
    newest = sorted(set(keys.values()), reverse=True)[:latest]
    assert selected == {tag for tag, key in keys.items() if key in newest}


@settings(max_examples=40)
@given(st.lists(VERSIONS, min_size=1, max_size=12), st.integers(1, 3), st.sampled_from([DAY, 9 * DAY]))
def test_asking_for_few_ages_selects_what_asking_for_all_does(tags, latest, min_age):
    times = {tag: NOW - (crc32(tag.encode()) % 20) * DAY for tag in tags}
    chosen = selection(semver="*", variant="*", latest=latest, min_age=min_age, latest_per="major")
    assert run(chosen, tags, times)[0].tags == chosen.select(chosen.candidates(tags), times, NOW).tags
