"""Rules whose source is a pattern, as the file shows them."""

import pytest

from syncer.config.rule_reader import rules_from
from syncer.diagnostics import ConfigError
from syncer.oci.reference import Repository
from syncer.rules.meeting import arrange
from syncer.rules.patterns import RepositoryFilter
from syncer.rules.shard import Shard
from syncer.rules.tags import TheseTags


def test_pattern_becomes_a_rule_for_each_repository():
    value = {"to": "d.io/x/{1}", "repositories": {"exclude": "*-cache"}, "overwrite": False, "name": "team"}
    (rule,) = rules_from({"h.io/team/**:1,2": value})
    assert rule.source == Repository("h.io", "team/**")
    assert rule.repositories == RepositoryFilter(exclude=("*-cache",))
    assert not rule.destinations

    found = rule.for_repository(Repository("h.io", "team/a/b"))
    assert found is not None
    assert (str(found.source), found.selection) == ("h.io/team/a/b", TheseTags(("1", "2")))
    assert [str(each.repository) for each in found.destinations] == ["d.io/x/a/b"]
    assert (found.name, found.number, found.overwrite, found.pattern) == ("team", 0, False, None)
    key, written = found.entry_for(["2"])
    assert key == "h.io/team/a/b:2"
    assert "repositories" not in written  # type: ignore[operator]


@pytest.mark.parametrize("path", ["team/web-cache", "other/app", "team"])
def test_repository_that_is_not_selected_has_no_rule(path):
    (rule,) = rules_from({"h.io/team/**": {"to": "d.io/{path}", "repositories": {"exclude": ["*-cache"]}}})
    assert rule.for_repository(Repository("h.io", path)) is None


@pytest.mark.parametrize(
    ("source", "value", "message"),
    [
        ("h.io/team/***", "d.io/{path}", "more stars"),
        ("h.io/Team/*", "d.io/{path}", "pattern"),
        ("*/app", "d.io/{path}", "one namespace at a time"),
        ("h.io/team/*", "d.io/{2}", "{2}"),
        ("h.io/team/*", "d.io/{path}:1,2", "tag"),
        ("h.io/team/*@sha256:" + "a" * 64, "d.io/{path}", "digest"),
        ("h.io/team/app", {"to": "d.io/x", "repositories": {"include": ["a"]}}, "only for a source with"),
        ("h.io/team/*", {"to": "d.io/x", "repositories": {"include": ["{a,b}"]}}, "braces"),
        ("h.io/team/*", {"to": "d.io/x", "repositories": {"includes": ["a"]}}, "unknown key"),
        ("h.io/team/*", {"to": "d.io/x", "repositories": ["a"]}, "mapping"),
    ],
)
def test_what_is_wrong_with_a_pattern_is_found_without_network(source, value, message):
    with pytest.raises(ConfigError) as caught:
        rules_from({source: value})
    assert message in " ".join(str(problem) for problem in caught.value.problems)


def test_rules_for_one_registry_share_a_step():
    rules = rules_from(
        {
            "h.io/a/*": "d.io/x/{path}",
            "h.io/b/**": "d.io/x/{path}",
            "q.io/a/*": "d.io/y/{1}",
            "h.io/c": "d.io/c",
        }
    )
    found = arrange(rules)
    assert [[rule.number for rule in step.rules] for step in found.steps] == [[0, 1], [2], [3]]
    assert not any(step.after for step in found.steps)
    assert not found.competing


def test_rule_that_a_pattern_may_meet_waits_for_it():
    rules = rules_from({"h.io/a/*": "d.io/x/{1}", "h.io/c": "d.io/x/c", "h.io/b/*": "d.io/x/{name}"})
    found = arrange(rules)
    assert [([rule.number for rule in step.rules], step.after) for step in found.steps] == [
        ([0], set()),
        ([1], {0}),
        ([2], {0, 1}),
    ]
    assert sorted(rule.number for rule in found.competing) == [0, 2]
    assert found.shared == {Repository("d.io", "x/c")}


@pytest.mark.parametrize(
    ("source", "to", "competing"),
    [
        ("h.io/a/**", "d.io/{path}", False),
        ("h.io/a/**", "d.io/{1}", False),
        ("h.io/a/*", "d.io/{name}", False),
        ("h.io/a/**", "d.io/{name}", True),
        ("h.io/a/**", "d.io/{path|-}", True),
        ("h.io/*/*", "d.io/{1}", True),
        ("h.io/a/*", "d.io/one", True),
    ],
)
def test_repositories_that_may_share_a_destination_are_contested(source, to, competing):
    assert bool(arrange(rules_from({source: to})).competing) is competing


def test_shards_divide_the_repositories_of_a_pattern_and_keep_known_destinations_together():
    rules = rules_from({"h.io/c:1": ["d.io/one", "d.io/x/app7"], "h.io/a/*": "d.io/x/{1}"})
    names = [f"app{number}" for number in range(30)]
    owners: dict[str, list[int]] = {name: [] for name in names}
    plain = []
    for index in range(4):
        for rule in Shard(index, 4).rules_of(rules):
            if rule.pattern is None:
                plain.append(index)
                continue
            for name in names:
                if rule.for_repository(Repository("h.io", f"a/{name}")):
                    owners[name].append(index)
    assert all(len(owner) == 1 for owner in owners.values())
    assert len({owner[0] for owner in owners.values()}) > 1
    assert owners["app7"] == plain
