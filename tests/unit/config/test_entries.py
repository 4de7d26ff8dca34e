"""Tests of rules written back to images files, for the failed list and the succeeded list."""

import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from hypothesis import given
from hypothesis import strategies as st

from syncer.config import load
from syncer.config.image_lists import merge_entries
from syncer.config.rule_reader import rules_from
from syncer.oci.digest import Digest
from syncer.rules.rule import Rule
from tests.support.signing import public_pem

DIGEST = Digest.of(b"one")
ENVIRONMENT = {"HOST": "d.io", "TAGS": "x,y", "ALL": "d.io/r:x,y", "ONE": "d.io/r:x"}


def rule(source: str, destination: object) -> Rule:
    (only,) = rules_from({source: destination}, ENVIRONMENT)
    return only


@pytest.mark.parametrize(
    ("source", "destination", "tags", "expected"),
    [
        ("a", "d.io/r", ["1"], ("a:1", "d.io/r:1")),
        ("a", ["d.io/r", "$HOST/s"], ["1"], ("a:1", ["d.io/r:1", "$HOST/s:1"])),
        ("a:1,2", "d.io/r", ["2"], ("a:2", "d.io/r:2")),
        ("a:1,2", "${HOST}/r:x,y", ["2"], ("a:2", "${HOST}/r:y")),
        ("a:1,2", "$ALL", ["2"], ("a:1,2", "$ALL")),
        ("a:1,2", "$HOST/r:$TAGS", ["1"], ("a:1,2", "$HOST/r:$TAGS")),
        ("a:1", "$ONE", ["1"], ("a:1", "$ONE")),
        ("a:1,2", ["d.io/r:x,y", "e.io/s"], ["2"], ("a:2", ["d.io/r:y", "e.io/s:2"])),
        ("a:1,1", "d.io/r:x,y", ["1"], ("a:1,1", "d.io/r:x,y")),
        ("a:/x/", "d.io/r", ["x2"], ("a:x2", "d.io/r:x2")),
        (f"a@{DIGEST}", "d.io/r:x", ["x"], (f"a@{DIGEST}", "d.io/r:x")),
        (f"a:1@{DIGEST}", "d.io/r", ["1"], (f"a:1@{DIGEST}", "d.io/r:1")),
        (f"a:1@{DIGEST}", f"d.io/r@{DIGEST}", ["1"], (f"a:1@{DIGEST}", f"d.io/r:1@{DIGEST}")),
        ("a:1", ["d.io/r"], ["1"], ("a:1", ["d.io/r:1"])),
        (
            "q.io:5000/a",
            {"to": ["d.io/r", "e.io/r"], "platforms": ["linux/amd64"], "schedule": "@daily"},
            ["1", "2"],
            (
                "q.io:5000/a:1,2",
                {"to": ["d.io/r:1,2", "e.io/r:1,2"], "platforms": ["linux/amd64"], "schedule": "@daily"},
            ),
        ),
        ("a:1,2", {"to": "d.io/r:x,y"}, ["1"], ("a:1", {"to": "d.io/r:x"})),
    ],
)
def test_entry_lists_the_tags_in_the_form_of_the_rule(source, destination, tags, expected):
    assert rule(source, destination).entry_for(tags) == expected


def test_tags_of_an_expression_keep_their_new_names():
    expression = rule("a:/x/", "d.io/r:p,q")
    assert expression.entry_for(["x2"], selected=["x1", "x2"]) == ("a:x2", "d.io/r:q")


def test_tags_not_selected_by_the_rule_are_refused():
    for tags in (["3"], []):
        with pytest.raises(ValueError, match="does not select"):
            rule("a:1,2", "d.io/r").entry_for(tags)


@pytest.mark.parametrize(
    "images",
    [
        {"a": "$HOST/r"},
        {"a:/x/": ["$HOST/r:$TAGS", "d.io/s"]},
        {"a:1,2": {"to": ["$ALL"], "platforms": ["linux/amd64"]}},
        {f"a:1@{DIGEST}": "d.io/r"},
    ],
)
def test_entry_keeps_the_rule_as_written(images):
    (only,) = rules_from(images, ENVIRONMENT)
    key, value = only.entry_for(None)
    assert {key: value} == images


names = st.sampled_from(["1", "2", "3", "x", "y"])


@given(st.lists(names, min_size=1, max_size=4, unique=True), st.data())
def test_an_entry_copies_the_same_tags_to_the_same_tags(sources, data):
    new = data.draw(
        st.none() | st.permutations(["n1", "n2", "n3", "n4"]).map(lambda some: some[: len(sources)])
    )
    wanted = data.draw(st.lists(st.sampled_from(sources), min_size=1, unique=True))
    to = "$HOST/r" if new is None else f"$HOST/r:{','.join(new)}"
    whole = rule(f"a:{','.join(sources)}", to)
    part = rule(*whole.entry_for(wanted))

    def copies(one: Rule) -> dict[str, str | None]:
        (destination,) = one.destinations
        return {tag: destination.tag_for(tag, index) for index, tag in enumerate(one.selection.tags)}  # type: ignore[union-attr]

    assert copies(part) == {tag: new for tag, new in copies(whole).items() if tag in wanted}


def test_entries_of_one_key_become_one_entry_with_all_destinations():
    assert merge_entries([("a:1", "d.io/x"), ("b:1", "d.io/b"), ("a:1", ["e.io/x", "d.io/x"])]) == {
        "a:1": ["d.io/x", "e.io/x"],
        "b:1": "d.io/b",
    }
    assert merge_entries([("a:1", "d.io/x"), ("a:1", "d.io/x")]) == {"a:1": "d.io/x"}
    amd64 = {"platforms": ["linux/amd64"]}
    assert merge_entries([("a:1", {"to": "d.io/x", **amd64}), ("a:1", {"to": "e.io/x", **amd64})]) == {
        "a:1": {"to": ["d.io/x", "e.io/x"], **amd64}
    }


def test_entries_with_different_platforms_are_not_merged():
    merged = merge_entries(
        [("a:1", {"to": "d.io/x:n", "platforms": ["linux/amd64"]}), ("a:1", "e.io/x:m"), ("a:1", "f.io/x")]
    )
    assert merged == {
        "a:1": {"to": "d.io/x:n", "platforms": ["linux/amd64"]},
        "a:1,1": ["e.io/x:m,m", "f.io/x"],
    }
    assert len(rules_from(merged)) == 2


def test_entry_has_no_prune_because_a_list_has_only_some_tags():
    prune = {"limit": "100%", "foreign": True}
    mapped = rule("a:1,2", {"to": "d.io/r", "prune": prune, "overwrite": False})
    (listed,) = rules_from(
        {"defaults": {"prune": prune, "overwrite": False}, "rules": [{"from": "a", "to": "d.io/r"}]}
    )
    assert mapped.prune == listed.prune
    assert mapped.entry_for(["1"]) == ("a:1", {"to": "d.io/r:1", "overwrite": False})
    assert mapped.entry_for(None) == ("a:1,2", {"to": "d.io/r", "overwrite": False})
    assert listed.entry_for(["1"]) == ("a:1", {"to": "d.io/r:1", "overwrite": False})


@pytest.mark.parametrize("form", ["rule", "defaults"])
def test_keys_of_verify_are_found_from_a_list_in_another_folder(tmp_path, monkeypatch, form):
    monkeypatch.chdir(tmp_path)
    verify = {"verify": {"keys": ["keys/cosign.pub"]}}
    images: dict[str, object] = {
        "rules": [{"from": "a:1", "to": "d.io/r"} | (verify if form == "rule" else {})]
    }
    if form == "defaults":
        images["defaults"] = verify
    for folder in ("rules/keys", "lists"):
        Path(folder).mkdir(parents=True)
    Path("rules/keys/cosign.pub").write_bytes(public_pem(generate_private_key(SECP256R1())))
    Path("rules/images.json").write_text(json.dumps(images))
    (written,) = load(images=Path("rules/images.json")).rules

    Path("lists/failed.json").write_text(json.dumps(merge_entries([written.entry_for(["1"])], listed=True)))

    (again,) = load(images=Path("lists/failed.json")).rules
    assert [key.pem for key in again.verify] == [key.pem for key in written.verify]


@pytest.mark.parametrize("layout", ["oci:/layouts/l", "oci:l", "oci:$HOST", "$LAYOUT"])
def test_entry_for_a_layout_names_the_repository_in_it(layout):
    environment = ENVIRONMENT | {"LAYOUT": "oci:/layouts/l"}
    (whole,) = rules_from({"d.io/a": [layout, "e.io/r"]}, environment)
    key, value = whole.entry_for(["1", "2"])
    assert (key, value) == ("d.io/a:1,2", [f"{layout}//d.io/a:1,2", "e.io/r:1,2"])
    (part,) = rules_from({key: value}, environment)
    assert [each.repository for each in part.destinations] == [each.repository for each in whole.destinations]
    assert layout in whole.names
    assert layout in part.names
