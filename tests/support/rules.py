"""Rules for events, for tests in which only their number matters."""

from functools import cache

from syncer.oci.reference import Repository
from syncer.rules.rule import Destination, Rule
from syncer.rules.tags import AllTags


@cache
def numbered(number: int) -> Rule:
    """All tags of one repository, copied to another, as rule `number` of a file."""
    return Rule(
        number, Repository("source.test", "app"), AllTags(), (Destination(Repository("to.test", "app")),)
    )
