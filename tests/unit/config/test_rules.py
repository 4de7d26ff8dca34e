"""The images file: what is copied where."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncer.config.rule_reader import parse_source, rules_from
from syncer.diagnostics import ConfigError
from syncer.oci.digest import Digest
from syncer.oci.reference import Repository, is_tag
from syncer.rules.rule import Rule
from syncer.rules.tags import AllTags, MatchingTags, OneDigest, TheseTags
from tests.support.generated import examples, long

DIGEST = Digest.of(b"one")
OTHER = Digest.of(b"other")
tags = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,20}", fullmatch=True).filter(is_tag)


def rule(source: str, destination: object = "d.io/x", **environment: str) -> Rule:
    (only,) = rules_from({source: destination}, environment)
    return only


def problem(source: str, destination: object = "d.io/x", **environment: str) -> str:
    with pytest.raises(ConfigError) as error:
        rule(source, destination, **environment)
    (only,) = error.value.problems
    return only.message


@pytest.mark.parametrize(
    ("source", "repository", "selection"),
    [
        ("quay.io/a/b", "quay.io/a/b", AllTags()),
        ("quay.io/a/b:1", "quay.io/a/b", TheseTags(("1",))),
        ("quay.io/a/b:1,v2,latest", "quay.io/a/b", TheseTags(("1", "v2", "latest"))),
        ("quay.io/a/b:/^v[0-9]+$/", "quay.io/a/b", MatchingTags("^v[0-9]+$")),
        ("nginx:/a/b@c:d/", "docker.io/library/nginx", MatchingTags("a/b@c:d")),
        ("localhost:5000/a:/x/", "localhost:5000/a", MatchingTags("x")),
        (f"quay.io/a/b@{DIGEST}", "quay.io/a/b", OneDigest(DIGEST)),
        (f"quay.io/a/b:1@{DIGEST}", "quay.io/a/b", OneDigest(DIGEST, "1")),
        ("nginx", "docker.io/library/nginx", AllTags()),
        ("nginx:1.27", "docker.io/library/nginx", TheseTags(("1.27",))),
        ("bitnami/redis", "docker.io/bitnami/redis", AllTags()),
        ("docker.io/nginx", "docker.io/library/nginx", AllTags()),
        ("registry.hub.docker.com/library/nginx", "docker.io/library/nginx", AllTags()),
        ("localhost/a", "localhost/a", AllTags()),
        ("localhost:5000/a", "localhost:5000/a", AllTags()),
        ("[::1]:5000/a:1", "[::1]:5000/a", TheseTags(("1",))),
    ],
)
def test_a_source_is_a_repository_and_a_selection_of_its_tags(source, repository, selection):
    assert str(rule(source).source) == repository
    assert rule(source).selection == selection


@given(st.lists(tags, min_size=1, max_size=5), tags)
def test_a_tag_list_selects_its_tags_and_no_others(named, other):
    repository, selection = parse_source(f"h.io:5000/a/b:{','.join(named)}")
    assert repository == Repository("h.io:5000", "a/b")
    assert selection == TheseTags(tuple(named))
    assert all(map(selection.matches, named))
    assert selection.matches(other) == (other in named)


@given(tags)
def test_all_tags_and_an_empty_match_select_every_tag(tag):
    assert AllTags().matches(tag)
    assert MatchingTags("a*").matches(tag)
    assert MatchingTags(f"^{tag.replace('.', '[.]')}$").matches(tag)
    assert OneDigest(DIGEST, tag).matches(tag)
    assert not OneDigest(DIGEST).matches(tag)


@examples(100)
@given(long(st.text(max_size=60), 5_000))
def test_any_text_as_a_source_or_destination_is_a_rule_or_a_problem(text):
    for images in (
        {text: "d.io/x"},
        {"s.io/x:1": text},
        {"s.io/x:1": {"to": text, "platforms": [text], "schedule": text}},
    ):
        with suppress(ConfigError):
            rules_from(images)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["to", "platforms", "schedule", "x"]), inner, max_size=3)
    ),
    max_leaves=6,
)


@examples(100)
@given(
    st.dictionaries(
        st.sampled_from(["a", "a:1", "a:/1/", "b:1,2", f"a@{DIGEST}", ":", ""]), json_values, max_size=4
    )
)
def test_any_json_is_rules_or_problems(images):
    with suppress(ConfigError):
        rules_from(images)


def test_a_regular_expression_finds_its_match_anywhere_in_the_tag():
    selection = rule("a:/v1/").selection
    assert [tag for tag in ("v1", "xv1.2", "v2", "V1") if selection.matches(tag)] == ["v1", "xv1.2"]
    assert rule("a:/(?i)V1/").selection.matches("v1")


def test_an_expression_that_hangs_other_engines_answers_at_once():
    assert not MatchingTags("(a+)+$").matches("a" * 120 + "!")


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("", "expected host/repository, found an empty text"),
        ("quay.io", "names a registry but no repository: 'quay.io'"),
        ("quay.io/", "names a registry but no repository: 'quay.io/'"),
        ("localhost:5000", "names a registry but no repository: 'localhost'"),
        ("quay.io/A/b", "not a repository name: 'quay.io/A/b' (upper case is not allowed)"),
        ("quay.io/a/b:", "not a tag"),
        ("quay.io/a/b:1,,2", "not a tag"),
        ("quay.io/a/b:1, 2", "not a tag (letters, digits, '_', '.', '-', at most 128): ' 2'"),
        ("quay.io/a/b:.x", "not a tag"),
        (f"quay.io/a/b:{'x' * 129}", "not a tag"),
        ("quay.io/a/b@sha256:12", "invalid digest"),
        (f"quay.io/a/b:1,2@{DIGEST}", "not a tag"),
        ("https://quay.io/a/b", "expected host/repository, found an address: drop 'https://'"),
        ("docker://quay.io/a/b:1", "expected host/repository, found an address: drop 'docker://'"),
        ("a b/c", "not a repository name"),
        ("${X}/a", "not a repository name"),
        ("a:/(/", "not a regular expression (RE2): missing ): ("),
        ("a:/x", "not a regular expression (RE2): expected /regular expression/, found '/x'"),
        ("a://", "not a regular expression (RE2): expected /regular expression/, found '//'"),
        ("a:/(?=x)/", "not a regular expression (RE2): invalid perl operator: (?="),
        ("a:/((((x{100}){100}){100}){100})/", "not a regular expression (RE2): "),
    ],
)
def test_a_bad_source_is_a_problem(source, expected, capfd):
    assert problem(source).startswith(expected)
    assert capfd.readouterr().err == ""


def test_a_destination_without_tag_keeps_the_tags():
    (destination,) = rule("a:1,2", "d.io/x").destinations
    assert [destination.tag_for(tag, index) for index, tag in enumerate(("1", "2"))] == ["1", "2"]
    assert rule(f"a@{DIGEST}").destinations[0].tag_for(None, 0) is None
    assert rule(f"a:1@{DIGEST}").destinations[0].tag_for("1", 0) == "1"


@given(st.lists(tags, min_size=1, max_size=4, unique=True), st.data())
def test_tags_of_source_and_destination_belong_together_left_to_right(sources, data):
    names = data.draw(st.lists(tags, min_size=len(sources), max_size=len(sources), unique=True))
    (destination,) = rule(f"a:{','.join(sources)}", f"d.io/x:{','.join(names)}").destinations
    assert [destination.tag_for(tag, index) for index, tag in enumerate(sources)] == names


def test_a_digest_counts_as_one_tag():
    assert rule(f"a@{DIGEST}", "d.io/x:new").destinations[0].tag_for(None, 0) == "new"
    assert rule(f"a:1@{DIGEST}", f"d.io/x:new@{DIGEST}").destinations[0].tag_for("1", 0) == "new"


def test_tags_for_a_regular_expression_are_counted_when_they_are_known():
    expression = rule("a:/x/", "d.io/x:1,2")
    assert expression.mismatch(2) is None
    assert expression.mismatch(3) == (
        "expected as many tags at the destination as the source has: found 2 for 3 (d.io/x:1,2)"
    )
    assert rule("a:/x/").mismatch(17) is None


@pytest.mark.parametrize(
    ("source", "destination", "expected"),
    [
        ("a", "d.io/x:1", "expected a destination without tag, since the source names none"),
        ("a:1,2", "d.io/x:1", "expected no tag or as many as the source names (2), found 1: '1'"),
        ("a:1", "d.io/x:1,2", "expected no tag or as many as the source names (1), found 2: '1,2'"),
        (f"a@{DIGEST}", "d.io/x:1,2", "expected no tag or as many as the source names (1), found 2: '1,2'"),
        (f"a@{DIGEST}", f"d.io/x@{OTHER}", "a digest at the destination must be the source's"),
        ("a:1", f"d.io/x@{DIGEST}", "a digest at the destination must be the source's"),
        ("a:/x/", "d.io/x:/x/", "a regular expression is for the source only"),
        ("a:1", "", "expected a destination, found an empty one"),
        ("a:1", "d.io", "names a registry but no repository: 'd.io'"),
        ("a:1", "http://d.io/x", "expected host/repository, found an address: drop 'http://'"),
        ("a:1", None, "expected a destination, found an empty one"),
        ("a:1", ["d.io/x", ""], "expected a destination, found an empty one"),
        (
            "a:1",
            {"to": "d.io/x", "attestations": "no"},
            "expected one of keep, drop, auto, found 'no'",
        ),
        ("a:1", 5, 'expected a destination: text, a list of texts, or a mapping with "to", found a number'),
        ("a:1", [], "expected a destination, found an empty one"),
        ("a:1", [["d.io/x"]], "expected a destination as text, found a list"),
        ("a:1", [{"to": "d.io/x"}], "expected a destination as text, found a mapping"),
        ("a:1", {}, "expected a destination, found an empty one"),
        ("a:1", {"to": {"to": "d.io/x"}}, "expected a destination as text, found a mapping"),
        (
            "a:1",
            {"to": "d.io/x", "tag": "1"},
            "unknown key 'tag': expected to, platforms, schedule, attestations",
        ),
        (
            "a:1",
            {"to": "d.io/x", "platforms": "linux/amd64"},
            'expected a list of platforms, as ["linux/amd64"], found text',
        ),
        (
            "a:1",
            {"to": "d.io/x", "platforms": []},
            'expected a list of platforms, as ["linux/amd64"], found an empty list',
        ),
        ("a:1", {"to": "d.io/x", "platforms": ["linux"]}, "expected os/architecture[/variant][:version]"),
        ("a:1", {"to": "d.io/x", "platforms": [None]}, "expected a platform as text, found nothing (null)"),
        (
            "a:1",
            {"to": "d.io/x", "schedule": 5},
            "expected a schedule as text, found a number (put it in quotes)",
        ),
        (
            "a:1",
            {"to": "d.io/x", "schedule": "0 0 30 2 *"},
            "the schedule '0 0 30 2 *' names a date that never comes",
        ),
    ],
)
def test_a_bad_destination_is_a_problem(source, destination, expected):
    assert problem(source, destination).startswith(expected)


def test_a_destination_may_be_a_list_in_which_the_same_one_counts_once():
    destinations = rule("a:1", ["d.io/x", "e.io/x:2", "d.io/x"]).destinations
    assert [(str(one.repository), one.tags) for one in destinations] == [("d.io/x", None), ("e.io/x", ("2",))]


def test_the_object_form_narrows_platforms_and_sets_a_schedule():
    only = rule(
        "a",
        {
            "to": ["d.io/x", "e.io/x"],
            "platforms": ["linux/amd64", "linux/arm64/v8"],
            "schedule": "0 */6 * * *",
        },
    )
    assert len(only.destinations) == 2
    assert [str(pattern) for group in only.platforms.groups for pattern in group] == [
        "linux/amd64",
        "linux/arm64/v8",
    ]
    assert only.schedule == "0 */6 * * *"
    assert not rule("a").platforms
    assert rule("a").schedule is None


@pytest.mark.parametrize(
    "written", ["${HOST}/x:$TAG", "$HOST/x:${TAG}", "$WHOLE", "${WHOLE}", "d.io/${REST}"]
)
def test_variables_may_stand_anywhere_in_a_destination(written):
    only = rule("a:1", written, HOST="d.io", TAG="t", WHOLE="d.io/x:t", REST="x:t")
    assert (str(only.destinations[0].repository), only.destinations[0].tags) == ("d.io/x", ("t",))


def test_a_variable_that_is_not_set_is_a_problem_that_names_it():
    assert problem("a:1", "${HOST}/$NAME/$HOST") == "expected the environment variable HOST, NAME to be set"
    assert problem("a:1", "d.io/$").startswith("not a repository name")


def test_rules_keep_their_order():
    rules = rules_from({"c": "d.io/c", "a": "d.io/a", "b": "d.io/b"})
    assert [(one.number, str(one)) for one in rules] == [(0, "c"), (1, "a"), (2, "b")]
