"""What rules may name at all: said outside of the files, for files that are not trusted."""

from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase

import msgspec

from syncer.diagnostics import Problem
from syncer.rules.rule import Rule


class Allowlist(msgspec.Struct, frozen=True):
    """Globs for the sources and destinations of rules, and names of the variables that rules may use.

    A glob matches a whole `host/path`, with Docker Hub as `docker.io/library/nginx`; `*` matches slashes, too. What
    is empty allows everything; for variables, everything but secrets.
    """

    sources: tuple[str, ...] = ()
    destinations: tuple[str, ...] = ()
    variables: tuple[str, ...] = ()

    def problems(self, rules: Iterable[Rule]) -> Iterator[Problem]:
        """A problem for each source and destination that is not allowed."""
        for rule in rules:
            if not _matches(str(rule.source), self.sources):
                yield rule.place.problem(f"the source {rule.source} is not allowed by --allow-source")
            for destination in rule.destinations:
                if not _matches(str(destination.repository), self.destinations):
                    yield rule.place.problem(
                        f"the destination {destination.name} is not allowed by --allow-destination"
                    )


EVERYTHING = Allowlist()


def _matches(name: str, globs: tuple[str, ...]) -> bool:
    return not globs or any(fnmatchcase(name, glob) for glob in globs)
