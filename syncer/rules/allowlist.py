"""Limits the sources, destinations and variables of rules, so that files from untrusted authors can be used."""

from collections.abc import Iterable, Iterator

import msgspec

from syncer.diagnostics import Problem
from syncer.lazy_pattern import lazy_pattern
from syncer.rules.globs import matches_any
from syncer.rules.rule import Rule

_STARS = lazy_pattern(r"\*\*?")


class Allowlist(msgspec.Struct, frozen=True):
    """Globs for the sources and destinations of rules, and names of the variables that rules may use.

    A glob matches a whole `host/path`, with Docker Hub as `docker.io/library/nginx`; `*` also matches slashes. An
    empty list allows everything; for variables, everything except secrets.
    """

    sources: tuple[str, ...] = ()
    destinations: tuple[str, ...] = ()
    variables: tuple[str, ...] = ()

    def problems(self, rules: Iterable[Rule]) -> Iterator[Problem]:
        """Yield a problem for each source and destination that is not allowed.

        A pattern, and a destination whose placeholders depend on one, must be allowed whatever a `*` stands for. A glob
        with `?` or `[...]` cannot show that for every name, so a rule for one repository of a pattern is checked again.
        """
        for rule in rules:
            for message in self.refusals(rule):
                yield rule.place.problem(message)

    def refusals(self, rule: Rule) -> Iterator[str]:
        """Yield what is not allowed of a rule."""
        if self.sources and not matches_any(self.sources, str(rule.source)):
            yield f"the source {rule.source} is not allowed by --allow-source"
        if not self.destinations:
            return
        for destination in rule.destinations:
            if not matches_any(self.destinations, str(destination.repository)):
                yield f"the destination {destination.name} is not allowed by --allow-destination"
        for template in rule.templates:
            outline = template.outline(rule.source.host, len(_STARS.findall(rule.source.path)))
            if not matches_any(self.destinations, outline):
                yield (
                    f"the destination {template.written} is not allowed by --allow-destination for every repository"
                )


EVERYTHING = Allowlist()
