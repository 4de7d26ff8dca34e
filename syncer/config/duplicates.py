"""Rules that stand twice in an images file: the same again, or with other destinations."""

from collections.abc import Hashable, Iterable
from itertools import chain

from syncer.diagnostics import Findings
from syncer.rules.rule import Rule


def without_duplicates(rules: Iterable[Rule], findings: Findings) -> tuple[Rule, ...]:
    """Each rule once. One that says nothing new is a warning; a source with other destinations is a problem.

    Rules that differ in tags, platforms or other keys are different rules.
    """
    first: dict[Hashable, Rule] = {}
    again: dict[Hashable, list[Rule]] = {}
    kept = []
    for rule in rules:
        key = (
            rule.source,
            rule.selection,
            frozenset(rule.platforms.groups),
            rule.schedule,
            rule.attestations,
        )
        earlier = first.setdefault(key, rule)
        if earlier is rule:
            kept.append(rule)
        elif set(rule.destinations) == set(earlier.destinations):
            message = f"duplicate of the rule in line {earlier.place.line}: it runs once"
            findings.warnings.append(rule.place.problem(message))
        else:
            again.setdefault(key, [earlier]).append(rule)
    for same in again.values():
        findings.problems.append(same[-1].place.problem(_message(same)))
    return tuple(kept)


def _message(rules: list[Rule]) -> str:
    destinations = dict.fromkeys(chain.from_iterable(rule.destinations for rule in rules))
    listed = ", ".join(f'"{each.written or each.repository}"' for each in destinations)
    lines = ", ".join(str(line) for line in dict.fromkeys(rule.place.line for rule in rules[:-1]))
    return (
        f"the source stands in line {lines} already, with other destinations: write one rule with a list,"
        f' "{rules[0].source_text}": [{listed}]'
    )
