"""The lists of what went through and what did not: images files for another run."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from syncer.config import load
from syncer.config.image_lists import merge_entries
from syncer.config.rule_reader import rules_from
from syncer.events import Failure, ImageFailed, ImageSkipped, ImageSynced, SkipReason
from syncer.observe.outcomes import OutcomeLists, as_yaml, write_list
from syncer.oci.digest import Digest
from syncer.oci.reference import Reference, Repository
from syncer.rules.naming import DestinationTemplate
from syncer.rules.rule import Rule
from syncer.rules.tags import OneDigest
from tests.support.rules import numbered

DIGEST = Digest.of(b"one")
ENVIRONMENT = {"HOST": "d.io"}
TIMEOUT = Failure("timeout", "timed out", "q.io")
LOST = Failure("conflict", "another rule already writes q.io/a:1 there", "d.io", permanent=True)
CONFLICT_AT_REGISTRY = Failure("conflict", "409 conflict", "d.io", 409)


class Story:
    """A run of some rules, told image by image: `tag` of the rule numbered `rule`, at its destinations in turn."""

    def __init__(self, images: Any) -> None:
        self.rules = rules_from(images, ENVIRONMENT)
        self.lists = OutcomeLists(self.rules)

    def ends(
        self, tag: str | None, *outcomes: str | Failure, rule: int = 0, new: tuple[str, ...] = ()
    ) -> "Story":
        the_rule = self.rules[rule]
        for index, (destination, outcome) in enumerate(
            zip(the_rule.destinations, outcomes or ("synced",), strict=False)
        ):
            digest = the_rule.selection.digest if isinstance(the_rule.selection, OneDigest) else None
            source = Reference(the_rule.source, tag, digest)
            to_tag = new[index] if new else tag
            to = Reference(destination.repository, to_tag, None if to_tag else digest)
            self.lists.notify(event(rule, source, to, outcome))
        return self

    def cannot_be_listed(self, rule: int = 0) -> "Story":
        the_rule = self.rules[rule]
        for destination in the_rule.destinations:
            self.lists.notify(
                ImageFailed(
                    numbered(rule), Reference(the_rule.source), Reference(destination.repository), TIMEOUT
                )
            )
        return self

    @property
    def failed(self) -> dict[str, object]:
        return self.lists.failed_document()

    @property
    def success(self) -> dict[str, object]:
        return self.lists.success_document()


def event(rule: int, source: Reference, to: Reference, outcome: str | Failure) -> object:
    if isinstance(outcome, Failure):
        return ImageFailed(numbered(rule), source, to, outcome)
    if outcome == "synced":
        return ImageSynced(numbered(rule), source, to, DIGEST, None, 1, 0.1)
    return ImageSkipped(numbered(rule), source, to, DIGEST, SkipReason.UP_TO_DATE)


def test_each_tag_is_an_entry_of_one_of_the_lists():
    story = Story({"q.io/a": "$HOST/a"}).ends("2").ends("1", "up to date").ends("3", TIMEOUT)
    assert story.success == {"q.io/a:1": "$HOST/a:1", "q.io/a:2": "$HOST/a:2"}
    assert story.failed == {"q.io/a:3": "$HOST/a:3"}


def test_a_run_that_did_nothing_gives_empty_lists():
    story = Story({"q.io/a": "d.io/a"})
    assert story.success == story.failed == {}


def test_tags_that_are_named_keep_their_order_and_their_new_names():
    story = Story({"q.io/a:9,1,5": "d.io/a:x,y,z"})
    story.ends("5", TIMEOUT, new=("z",)).ends("9", TIMEOUT, new=("x",)).ends("1", new=("y",))
    assert list(story.failed.items()) == [("q.io/a:9", "d.io/a:x"), ("q.io/a:5", "d.io/a:z")]
    assert story.success == {"q.io/a:1": "d.io/a:y"}


def test_an_image_that_missed_one_of_its_destinations_has_failed():
    story = Story({"q.io/a": ["d.io/a", "e.io/a"]}).ends("1", "synced", TIMEOUT).ends("2", "synced", "synced")
    assert story.failed == {"q.io/a:1": ["d.io/a:1", "e.io/a:1"]}
    assert story.success == {"q.io/a:2": ["d.io/a:2", "e.io/a:2"]}


def test_the_object_form_is_kept():
    whole = {"to": ["d.io/a"], "platforms": ["linux/amd64"], "schedule": "@daily"}
    assert Story({"q.io/a": whole}).ends("1", TIMEOUT).failed == {"q.io/a:1": {**whole, "to": ["d.io/a:1"]}}


def test_a_rule_whose_tags_could_not_be_listed_is_there_whole():
    story = Story({"q.io/a:/^v/": ["$HOST/a", "e.io/a"], "q.io/b": "d.io/b"})
    story.cannot_be_listed().ends("1", rule=1)
    assert story.failed == {"q.io/a:/^v/": ["$HOST/a", "e.io/a"]}
    assert story.success == {"q.io/b:1": "d.io/b:1"}


@pytest.mark.parametrize("source", [f"q.io/a@{DIGEST}", f"q.io/a:1@{DIGEST}"])
def test_a_digest_stays_a_digest(source):
    story = Story({source: "d.io/a:x"}).ends(Reference.parse(source).tag, TIMEOUT, new=("x",))
    assert story.failed == {source: "d.io/a:x"}
    assert story.success == {}


def test_tags_of_an_expression_keep_the_names_they_got():
    story = Story({"q.io/a:/^v/": ["d.io/a:p,q", "e.io/a"]})
    story.ends("v2", TIMEOUT, "synced", new=("q", "v2")).ends("v1", "synced", "synced", new=("p", "v1"))
    assert story.failed == {"q.io/a:v2": ["d.io/a:q", "e.io/a:v2"]}
    assert story.success == {"q.io/a:v1": ["d.io/a:p", "e.io/a:v1"]}


def test_two_rules_that_meet_at_a_source_lose_neither_destination():
    story = Story({"q.io/a": "d.io/a", "q.io/a:1": ["e.io/a"], "q.io/a:1,2": "f.io/a"})
    for rule in range(3):
        story.ends("1", TIMEOUT, rule=rule)
    story.ends("2", rule=0).ends("2", rule=2)
    assert story.failed == {"q.io/a:1": ["d.io/a:1", "e.io/a:1", "f.io/a:1"]}
    assert story.success == {"q.io/a:2": ["d.io/a:2", "f.io/a:2"]}


def test_two_rules_that_want_different_platforms_of_a_source_both_stay():
    amd64 = {"to": "d.io/a", "platforms": ["linux/amd64"]}
    story = Story({"q.io/a": amd64, "q.io/a:1": {"to": "e.io/a"}})
    story.ends("1", TIMEOUT).ends("1", TIMEOUT, rule=1)
    assert story.failed["q.io/a:1"] == {**amd64, "to": "d.io/a:1"}
    assert copies(rules_from(story.failed)) == copies(
        rules_from({"q.io/a:1": amd64, "q.io/a:1,1": {"to": "e.io/a"}})
    )


def test_what_lost_its_place_to_another_rule_is_not_sent_there_by_the_next_run():
    story = Story({"q.io/a": "d.io/x", "q.io/b": ["d.io/x", "e.io/b"]})
    story.ends("1").ends("1", LOST, TIMEOUT, rule=1).ends("2", LOST, "synced", rule=1)
    assert story.failed == {"q.io/b:1": ["e.io/b:1"]}
    assert story.success == {"q.io/a:1": "d.io/x:1"}


def test_images_that_the_file_shows_in_conflict_are_in_the_failed_list():
    rules = rules_from({"q.io/a:1,2": "d.io/x", "q.io/b:1": "d.io/x", "q.io/c": ["q.io/c", "d.io/c"]})
    lists = OutcomeLists(rules)
    first, second, onto_itself = rules
    for rule in (first, second):
        at = Reference(rule.destinations[0].repository, "1")
        lists.notify(ImageFailed(rule, Reference(rule.source, "1"), at, LOST))
    lists.notify(
        ImageSynced(first, Reference(first.source, "2"), Reference.parse("d.io/x:2"), DIGEST, None, 1, 0.1)
    )
    own, other = (destination.repository for destination in onto_itself.destinations)
    lists.notify(ImageFailed(onto_itself, Reference(onto_itself.source), Reference(own), LOST))
    lists.notify(
        ImageSynced(
            onto_itself, Reference(onto_itself.source, "9"), Reference(other, "9"), DIGEST, None, 1, 0.1
        )
    )
    assert lists.failed_document() == {
        "q.io/a:1": "d.io/x:1",
        "q.io/b:1": "d.io/x:1",
        "q.io/c": ["q.io/c", "d.io/c"],
    }
    assert lists.success_document() == {"q.io/a:2": "d.io/x:2"}


def test_a_conflict_that_a_registry_tells_of_is_a_failure_as_any():
    assert Story({"q.io/a": "d.io/a"}).ends("1", CONFLICT_AT_REGISTRY).failed == {"q.io/a:1": "d.io/a:1"}


def test_platforms_are_written_out_for_each_entry(tmp_path):
    story = Story({"q.io/a": {"to": "d.io/a", "platforms": ["linux/amd64"]}})
    story.ends("1", TIMEOUT).ends("2", TIMEOUT)
    write_list(tmp_path / "failed.yaml", story.failed)
    assert (tmp_path / "failed.yaml").read_text() == (
        "q.io/a:1:\n  to: d.io/a:1\n  platforms:\n  - linux/amd64\n"
        "q.io/a:2:\n  to: d.io/a:2\n  platforms:\n  - linux/amd64\n"
    )


@pytest.mark.parametrize(
    ("name", "form", "is_json"),
    [("f.yaml", "yaml", False), ("f.yaml", "json", True), ("f", "yaml", False), ("f.JSON", "yaml", True)],
)
@pytest.mark.parametrize("count", [0, 2])
def test_a_list_can_be_read_again_whatever_its_form(tmp_path, name, form, is_json, count):
    story = Story({"q.io/a": "d.io/a"})
    for number in range(count):
        story.ends(str(number), TIMEOUT)
    path = tmp_path / name
    write_list(path, story.failed, form)
    assert path.read_text().startswith("{") == (is_json or not count)
    assert copies(load(images=path).rules) == copies(rules_from(story.failed))
    if is_json:
        assert json.loads(path.read_text()) == story.failed


def copies(rules: tuple[Rule, ...]) -> set[tuple[object, ...]]:
    """What rules that name their tags bring where."""
    found: set[tuple[object, ...]] = set()
    for rule in rules:
        selection = rule.selection
        tags = [selection.tag] if isinstance(selection, OneDigest) else list(getattr(selection, "tags", ()))
        for index, tag in enumerate(tags):
            for destination in rule.destinations:
                to = destination.repository, destination.tag_for(tag, index)
                found.add((rule.source, tag, *to, rule.platforms, rule.schedule))
    return found


HOSTS = st.sampled_from(["d.io", "$HOST", "e.io:5000", "localhost:5001", "bitnami"])
TAGS = st.sampled_from(["1", "1.0", "0123", "on", "v2_x", "latest", "1e3", "null"])


@st.composite
def rule_entries(draw, number: int) -> tuple[str, object, tuple[str, ...]]:
    """A rule that names its tags, and those tags. Each writes to repositories of its own."""
    tags = draw(st.lists(TAGS, min_size=1, max_size=4, unique=True))
    source = f"{draw(st.sampled_from(['q.io/a', 'q.io/b', 'nginx']))}:{','.join(tags)}"
    to = []
    for index, host in enumerate(draw(st.lists(HOSTS, min_size=1, max_size=3))):
        new = draw(st.none() | st.just(",".join(f"n{tag}" for tag in tags)))
        to.append(f"{host}/to{number}-{index}" + (f":{new}" if new else ""))
    value: object = draw(st.sampled_from([to, {"to": to}, {"to": to, "platforms": ["linux/arm64/v8"]}]))
    return source, to[0] if draw(st.booleans()) else value, tuple(tags)


@settings(deadline=None)  # it writes files
@given(data=st.data())
def test_the_two_lists_together_are_what_was_to_be_copied(tmp_path_factory, data):
    entries = [data.draw(rule_entries(number)) for number in range(data.draw(st.integers(1, 4)))]
    story = Story({source: value for source, value, _ in entries})
    tags = {source: named for source, _, named in entries}
    everything, failed = copies(story.rules), set()
    for rule in story.rules:
        for index, tag in data.draw(st.permutations(list(enumerate(tags[str(rule)])))):
            outcomes = [
                data.draw(st.sampled_from(["synced", "up to date", TIMEOUT])) for _ in rule.destinations
            ]
            new = tuple(str(destination.tag_for(tag, index)) for destination in rule.destinations)
            story.ends(tag, *outcomes, rule=rule.number, new=new)
            if TIMEOUT in outcomes:
                failed |= {copy for copy in copies((rule,)) if copy[1] == tag}
    folder: Path = tmp_path_factory.mktemp("lists")
    write_list(folder / "failed.yaml", story.failed)
    write_list(folder / "success.json", story.success, "json")

    def read(name: str) -> set[tuple[object, ...]]:
        return copies(load(images=folder / name, environment=ENVIRONMENT).rules)

    assert read("failed.yaml") == failed
    assert read("success.json") == everything - failed


@settings(deadline=None)
@given(st.dictionaries(st.text(min_size=1, max_size=200), st.text() | st.lists(st.text())))
def test_yaml_gives_back_what_it_was_given(document):
    printable = {key: value for key, value in document.items() if _is_yaml(key) and _is_yaml(value)}
    assert yaml.safe_load(as_yaml(printable)) == printable


def _is_yaml(value: str | list[str]) -> bool:
    # A file's rules have been read from text, so they hold no lone surrogates.
    return all(letter < "\ud800" or letter > "\udfff" for letter in "".join(value))


class TestRulesInLists:
    def test_an_entry_is_an_item_of_a_list_with_a_concrete_source_and_destination(self):
        story = Story(
            {
                "defaults": {"to": "$HOST/m", "platforms": ["linux/amd64"]},
                "rules": ["q.io/x/a", {"from": "q.io/b:1,2", "to": "d.io/{path|-}:{tag}-m", "name": "b"}],
            }
        )
        story.ends("1").ends("2", TIMEOUT).ends("1", rule=1, new=("1-m",)).ends(
            "2", TIMEOUT, rule=1, new=("2-m",)
        )
        amd64 = {"platforms": ["linux/amd64"]}
        assert story.success == {
            "rules": [
                {"from": "q.io/x/a:1", "to": "$HOST/m/a:1", **amd64},
                {"from": "q.io/b:1", "to": "d.io/b:1-m", **amd64, "name": "b"},
            ]
        }
        assert story.failed == {
            "rules": [
                {"from": "q.io/x/a:2", "to": "$HOST/m/a:2", **amd64},
                {"from": "q.io/b:2", "to": "d.io/b:2-m", **amd64, "name": "b"},
            ]
        }
        assert len(rules_from(story.failed, ENVIRONMENT)) == 2

    @pytest.mark.parametrize("name", ["list.yaml", "list.json"])
    def test_flags_and_texts_are_read_again_as_they_were(self, tmp_path, name):
        rule = {"overwrite": False, "referrers": True, "immutable": ["1"]}
        (tmp_path / "rules.yaml").write_text(
            "- {from: q.io/a, to: d.io/a, name: 1.10, overwrite: no, referrers: true, immutable: [1]}"
        )
        (before,) = load(images=tmp_path / "rules.yaml").rules
        lists = OutcomeLists([before])
        lists.notify(event(0, Reference(before.source, "1"), Reference(before.source, "1"), TIMEOUT))
        write_list(tmp_path / name, lists.failed_document())
        (after,) = load(images=tmp_path / name).rules
        assert (after.overwrite, after.referrers, after.immutable, after.name) == (
            before.overwrite,
            before.referrers,
            before.immutable,
            "1.10",
        )
        assert lists.failed_document()["rules"] == [
            {"from": "q.io/a:1", "to": "d.io/a:1", "name": "1.10", **rule}
        ]

    def test_template_of_a_tag_keeps_its_variable(self):
        story = Story({"q.io/a": "$HOST/{name}:{tag}-m"}).ends("1", TIMEOUT, new=("1-m",))
        assert story.failed == {"q.io/a:1": "$HOST/a:1-m"}

    def test_a_rule_whose_tags_could_not_be_listed_is_there_whole(self):
        rules = [{"from": "q.io/a", "to": ["d.io/{name}:{tag}-m", "e.io/{path}"]}]
        assert Story(rules).cannot_be_listed().failed == {
            "rules": [{"from": "q.io/a", "to": ["d.io/a:{tag}-m", "e.io/a"]}]
        }

    def test_two_whole_rules_of_one_source_become_a_list(self):
        both = {"q.io/a": {"to": "d.io/a", "platforms": ["linux/amd64"]}, "q.io/a:/x/": "d.io/b"}
        story = Story(both).cannot_be_listed(0)
        assert "rules" not in story.failed
        merged = merge_entries(
            [("a", {"to": "d.io/a", "overwrite": False}), ("a", "d.io/b"), ("a", "e.io/b")]
        )
        assert merged == {
            "rules": [
                {"from": "a", "to": "d.io/a", "overwrite": False},
                {"from": "a", "to": ["d.io/b", "e.io/b"]},
            ]
        }
        assert len(rules_from(merged)) == 2

    def test_each_repository_of_a_pattern_has_its_entries(self):
        (rule,) = rules_from([{"from": "q.io/team/a", "to": "d.io/{name}"}])
        template = DestinationTemplate("d.io/{1}", "d.io/{1}")
        pattern = replace(
            rule,
            source=Repository("q.io", "team/*"),
            written_source="q.io/team/*",
            destinations=(),
            templates=(template,),
        )
        lists = OutcomeLists([pattern])
        for name in ("b", "a"):
            concrete = replace(
                pattern,
                source=Repository("q.io", f"team/{name}"),
                written_source=f"q.io/team/{name}",
                destinations=(template.resolve(Repository("q.io", f"team/{name}"), [name]),),
                templates=(),
            )
            for tag, outcome in (("1", ImageSynced), ("2", ImageFailed)):
                source, to = (
                    Reference(each, tag) for each in (concrete.source, concrete.destinations[0].repository)
                )
                lists.notify(
                    ImageSynced(concrete, source, to, DIGEST, None, 1, 0.1)
                    if outcome is ImageSynced
                    else ImageFailed(concrete, source, to, TIMEOUT)
                )
        assert lists.failed_document() == {
            "rules": [{"from": f"q.io/team/{name}:2", "to": f"d.io/{name}:2"} for name in ("a", "b")]
        }
        lists.notify(
            ImageFailed(pattern, Reference(pattern.source), Reference(Repository("d.io", "*")), TIMEOUT)
        )
        whole: Any = lists.failed_document()["rules"]
        assert {"from": "q.io/team/*", "to": "d.io/{1}"} in whole
