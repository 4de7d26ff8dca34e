"""The key `tags` of a rule."""

import pytest

from syncer.config import load, rules_from
from syncer.diagnostics import ConfigError
from syncer.observe.outcomes import write_list
from syncer.rules.ranges import parse_range
from syncer.rules.tag_filter import FilteredTags

SOURCE = "quay.io/a/b"
TO = "reg.example.com/a/b"


def selection_of(tags):
    (rule,) = rules_from({SOURCE: {"to": TO, "tags": tags}})
    assert isinstance(rule.selection, FilteredTags)
    return rule.selection


def problem_of(tags):
    with pytest.raises(ConfigError) as raised:
        selection_of(tags)
    (problem,) = raised.value.problems
    return problem


def test_all_keys_are_read():
    chosen = selection_of(
        {
            "include": ["v*", "/^1/"],
            "exclude": "*-arm64",
            "semver": ">=3.5",
            "variant": "-alpine",
            "prerelease": True,
            "min_age": "3d",
            "max_age": "800d",
            "sort": "created",
            "latest": 2,
            "latest_per": "minor",
            "at_least": 1,
        }
    )
    assert chosen.semver == parse_range(">=3.5")
    assert (chosen.include, chosen.exclude, chosen.variant) == (("v*", "/^1/"), ("*-arm64",), "-alpine")
    assert (chosen.min_age, chosen.max_age) == (3 * 86400, 800 * 86400)
    assert (chosen.sort, chosen.latest, chosen.latest_per, chosen.at_least) == ("created", 2, "minor", 1)
    assert chosen.prerelease


@pytest.mark.parametrize("tags", ["1.2.*", ["1.2.*"], {"include": "1.2.*"}])
def test_text_or_list_is_short_for_include(tags):
    assert selection_of(tags) == FilteredTags(include=("1.2.*",))


def test_unquoted_yaml_is_read_as_written(tmp_path):
    file = tmp_path / "images.yaml"
    file.write_text(f"{SOURCE}:\n  to: {TO}\n  tags: {{include: [1.10, v1], semver: 1.10, latest: 3}}\n")
    (rule,) = load(images=file).rules
    assert rule.selection == FilteredTags(include=("1.10", "v1"), semver=parse_range("1.10"), latest=3)


@pytest.mark.parametrize(
    ("tags", "message"),
    [
        ({"inclde": "v*"}, "unknown key 'inclde'"),
        ({"semver": "abc"}, "expected a version"),
        ({"semver": ">=1.27-alpine"}, "`variant`"),
        ({"semver": ""}, "found an empty one"),
        ({"include": "{a,b}"}, "no braces"),
        ({"include": "[a"}, "expected ]"),
        ({"include": "a,b"}, "no tag contains ','"),
        ({"include": "/(/"}, "not a regular expression"),
        ({"include": "/a"}, "expected /regular expression/"),
        ({"include": []}, "an empty list"),
        ({"variant": "{a}"}, "no braces"),
        ({"min_age": "soon"}, "a duration with a unit"),
        ({"min_age": "3"}, "a duration with a unit"),
        ({"max_age": 3}, "a duration with a unit"),
        ({"min_age": "0d"}, "a duration with a unit"),
        ({"latest": 0}, "at least 1"),
        ({"latest": -1}, "at least 1"),
        ({"latest": 1.5}, "at least 1"),
        ({"latest": "5"}, "at least 1"),
        ({"latest_per": "patch"}, "one of major, minor"),
        ({"sort": "date"}, "one of semver, created, name"),
        ({"at_least": -1}, "at least 0"),
        ({"prerelease": "true"}, "true or false"),
        ({"min_age": "5d", "max_age": "3d"}, "no tag can have both ages"),
        ({"exclude": "*"}, "excludes every tag"),
        ({"include": ["1", "2"], "exclude": "?"}, "every tag of `include`"),
        ({"prerelease": True}, 'add semver: "*"'),
        ({"latest": 2, "at_least": 3, "sort": "name"}, "at most 2"),
        (True, "expected a glob"),
        ("", "expected a glob"),
    ],
)
def test_invalid_selection_is_refused(tags, message):
    problem = problem_of(tags)
    assert message in str(problem)
    assert ".tags" in problem.place


def test_number_is_a_tag_as_it_is_written():
    assert selection_of(["5", 7]).include == ("5", "7")


@pytest.mark.parametrize("ending", ["json", "yaml"])
def test_rule_that_is_listed_as_a_whole_can_be_read_again(tmp_path, ending):
    file = tmp_path / "images.yaml"
    tags = "{include: [1.10, 7, '8'], semver: 1.10, latest: 3, prerelease: yes, min_age: 3d}"
    file.write_text(f"{SOURCE}: {{to: {TO}, tags: {tags}, overwrite: no}}\n")
    (rule,) = load(images=file).rules
    again = tmp_path / f"failed.{ending}"
    write_list(again, dict([rule.entry_for(None)]))
    (read,) = load(images=again).rules
    assert (read.selection, read.overwrite) == (rule.selection, False)


def test_all_problems_are_told_at_once():
    with pytest.raises(ConfigError) as raised:
        selection_of({"include": ["{a}", "[b"], "semver": "x.y", "latest": 0})
    assert len(raised.value.problems) == 4


@pytest.mark.parametrize("source", [f"{SOURCE}:v1", f"{SOURCE}:/v1/", f"{SOURCE}@sha256:{'0' * 64}"])
def test_tags_cannot_be_combined_with_tags_in_the_source(source):
    with pytest.raises(ConfigError, match="cannot be combined"):
        rules_from({source: {"to": TO, "tags": "v*"}})


def test_source_may_stand_twice_with_other_tags(tmp_path):
    file = tmp_path / "images.yaml"
    file.write_text(f"{SOURCE}: {{to: {TO}, tags: v1*}}\n{SOURCE}: {{to: {TO}-2, tags: v2*}}\n")
    assert len(load(images=file).rules) == 2


def test_entry_for_some_tags_names_them_instead():
    (rule,) = rules_from({SOURCE: {"to": TO, "tags": {"latest": 3}, "overwrite": False}})
    assert rule.entry_for(["v1", "v2"]) == (f"{SOURCE}:v1,v2", {"to": f"{TO}:v1,v2", "overwrite": False})
    assert rule.entry_for(None) == (SOURCE, {"to": TO, "tags": {"latest": 3}, "overwrite": False})
