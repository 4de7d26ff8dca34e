"""Images that rules cannot copy are found before anything is contacted, as far as the file shows it."""

import pytest

from syncer.config.rule_reader import rules_from
from syncer.oci.digest import Digest

DIGEST = Digest.of(b"one")
OTHER = Digest.of(b"other")


def messages(images: dict[str, object]) -> list[str]:
    return [conflict.message for rule in rules_from(images) for conflict in rule.conflicts]


@pytest.mark.parametrize(
    ("source", "destination"),
    [
        ("a", "a"),
        ("nginx", "registry.hub.docker.com/library/nginx"),
        ("q.io/a:1", "q.io/a"),
        ("q.io/a:1", "q.io/a:1"),
        ("q.io/a:1,2", "q.io/a:3,2"),
        ("q.io/a:/x/", "q.io/a"),
        (f"q.io/a@{DIGEST}", "q.io/a"),
        (f"q.io/a:1@{DIGEST}", "q.io/a:1"),
        ("q.io/a:1", ["d.io/a", "Q.io/a"]),
    ],
)
def test_a_rule_whose_two_sides_are_the_same_image_is_a_conflict(source, destination):
    (message,) = messages({source: destination})
    assert message.startswith("both sides are the same ")


@pytest.mark.parametrize(
    ("source", "destination"),
    [
        ("q.io/a:1", "q.io/a:2"),
        ("q.io/a:1", "q.io/b"),
        ("q.io/a:/x/", "q.io/a:1"),
        (f"q.io/a@{DIGEST}", "q.io/a:1"),
    ],
)
def test_another_tag_of_the_same_repository_is_another_image(source, destination):
    assert messages({source: destination}) == []


@pytest.mark.parametrize(
    "images",
    [
        {"a:1": "d.io/x", "b:1": "d.io/x"},
        {"a:1": "d.io/x:n", "a:2": "d.io/x:n"},
        {"a:1,2": "d.io/x:n,n"},
        {"a:1": ["d.io/x:n", "e.io/x"], "b:2,3": "d.io/x:m,n"},
        {f"a@{DIGEST}": "d.io/x:n", f"a@{OTHER}": "d.io/x:n"},
        {f"a:1@{DIGEST}": "d.io/x", "b:1": "d.io/x"},
        {"a:1": {"to": "d.io/x", "platforms": ["linux/amd64"]}, "docker.io/a:1": "d.io/x"},
    ],
)
def test_two_images_for_one_destination_tag_are_a_conflict_of_both(images):
    found = messages(images)
    assert len(found) == len(images)
    assert all(message.startswith("d.io/x:") for message in found)
    assert all(message.endswith("expected one image for each tag") for message in found)


def test_a_conflict_names_both_images_and_the_other_rule():
    first, second = messages({"a:1": "d.io/x:n", "b:2": "d.io/x:n"})
    assert first.startswith("d.io/x:n would get docker.io/library/a:1 as well as docker.io/library/b:2")
    assert second == (
        "d.io/x:n would get docker.io/library/b:2 as well as docker.io/library/a:1 (from the rule in line 1): "
        "expected one image for each tag"
    )


@pytest.mark.parametrize(
    "images",
    [
        {"a": "d.io/x", "a:1": "d.io/x", "a:1,2": "d.io/x"},
        {"a": "d.io/x", "b": "d.io/x"},
        {"a": "d.io/x", "b:1": "d.io/x"},
        {"a:/x/": "d.io/x", "b:1": "d.io/x"},
        {"a:1,1": "d.io/x"},
        {f"a@{DIGEST}": "d.io/x", f"b@{OTHER}": "d.io/x"},
        {f"a@{DIGEST}": "d.io/x:n", f"b@{DIGEST}": "d.io/x:n"},
        {"a:1": "d.io/x", f"a:1@{DIGEST}": "d.io/x"},
    ],
)
def test_what_is_the_same_or_shows_only_at_run_time_is_no_conflict(images):
    assert messages(images) == []


def test_only_the_images_in_conflict_are_marked():
    first, second = rules_from({"a:1,2": ["d.io/x", "e.io/a"], "b:2,3": "d.io/x"})
    assert [str(conflict.target) for conflict in first.conflicts] == ["d.io/x:2"]
    assert [str(conflict.target) for conflict in second.conflicts] == ["d.io/x:2"]


def test_three_images_for_one_tag_all_fail_and_the_same_image_twice_does_not_make_a_fourth():
    rules = rules_from({"a:1": "d.io/x:n", "b:1": "d.io/x:n", "c:1": "d.io/x:n", "a:1,2": "d.io/x:n,m"})
    assert [len(rule.conflicts) for rule in rules] == [1, 1, 1, 1]
