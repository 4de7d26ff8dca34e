"""Finds the rules of a whole configuration that may write to a repository."""

from collections.abc import Iterable, Sequence

from syncer.oci.reference import Repository
from syncer.rules.meeting import may_meet, outlines
from syncer.rules.rule import Rule


class Writers:
    """`rules` are all rules of the configuration, whatever a run has to do with them."""

    def __init__(self, rules: Iterable[Rule]) -> None:
        self._rules = {rule.number: rule for rule in rules}
        self._by_repository: dict[Repository, dict[int, Rule]] = {}
        self._with_patterns: list[tuple[Rule, tuple[str, ...]]] = []
        for rule in self._rules.values():
            if rule.pattern is not None:
                self._with_patterns.append((rule, outlines(rule)))
            for destination in rule.destinations:
                self._by_repository.setdefault(destination.repository, {})[rule.number] = rule

    def has(self, rule: Rule) -> bool:
        """Return whether a rule is one of them. The rule for one repository of a pattern counts as the rule itself."""
        known = self._rules.get(rule.number)
        return known is not None and (known.name, known.place) == (rule.name, rule.place)

    def of(self, repository: Repository) -> Sequence[Rule]:
        """Return the rules that may write to `repository`. A rule with a pattern may be one of them without need."""
        named = self._by_repository.get(repository, {})
        name = (str(repository),)
        return [*named.values(), *(rule for rule, lines in self._with_patterns if may_meet(lines, name))]
