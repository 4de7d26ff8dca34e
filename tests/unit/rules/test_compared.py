"""Tests of which fields count when rules and destinations are compared."""

import pytest
from msgspec.structs import replace

from syncer.diagnostics import Place
from syncer.oci.reference import Reference, Repository
from syncer.rules.attestations import Attestations
from syncer.rules.destination import Destination
from syncer.rules.rule import Conflict, Rule
from syncer.rules.tags import AllTags

TO = Destination(Repository("to.test", "app"))
RULE = Rule(0, Repository("source.test", "app"), AllTags(), (TO,))


@pytest.mark.parametrize(
    ("one", "fields"),
    [
        (
            RULE,
            {
                "written": {"to": "to.test/app"},
                "place": Place("images.json", 7),
                "part": object(),
                "listed": True,
                "conflicts": (Conflict(Reference(TO.repository), "two rules write it"),),
            },
        ),
        (TO, {"written": "to.test/${APP}", "template": "to.test/{name}", "attestations": Attestations.DROP}),
    ],
    ids=["rule", "destination"],
)
def test_field_about_the_file_does_not_count(one, fields):
    other = replace(one, **fields)

    assert set(fields) == one.NOT_COMPARED
    assert other == one
    assert hash(other) == hash(one)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (RULE, replace(RULE, number=1)),
        (RULE, replace(RULE, overwrite=False)),
        (RULE, replace(RULE, destinations=(replace(TO, tags=("1",)),))),
        (TO, replace(TO, tag_template="{tag}-copy")),
        (TO, TO.repository),
    ],
)
def test_every_other_field_counts(one, other):
    assert other != one
    assert len({one, other}) == 2


def test_rule_without_a_name_is_named_after_its_source():
    assert RULE.name == "source.test/app"
    assert replace(RULE, name="mine").name == "mine"
