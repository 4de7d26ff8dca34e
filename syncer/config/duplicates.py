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
        key = _meaning(rule)
        earlier = first.setdefault(key, rule)
        if earlier is rule:
            kept.append(rule)
        elif _destinations(rule) == _destinations(earlier):
            message = f"duplicate of the rule in {earlier.place.seen_from(rule.place)}: it runs once"
            findings.warnings.append(rule.place.problem(message))
        else:
            again.setdefault(key, [earlier]).append(rule)
    for same in again.values():
        findings.problems.append(same[-1].place.problem(_message(same)))
    return tuple(kept)


def _meaning(rule: Rule) -> Hashable:
    """Return what a rule copies and how, without its destinations and its name."""
    return (
        rule.source,
        rule.selection,
        rule.repositories,
        frozenset(rule.platforms.groups),
        rule.schedule,
        rule.attestations,
        rule.overwrite,
        rule.immutable,
        rule.referrers,
        rule.verify,
        rule.prune,
    )


def _destinations(rule: Rule) -> frozenset[Hashable]:
    return frozenset((*rule.destinations, *(template.text for template in rule.templates)))


def _message(rules: list[Rule]) -> str:
    last = rules[-1]
    written = dict.fromkeys(
        each.written or str(each.repository)
        for each in dict.fromkeys(chain.from_iterable(rule.destinations for rule in rules))
    )
    written |= dict.fromkeys(template.written for rule in rules for template in rule.templates)
    listed = ", ".join(f'"{each}"' for each in written)
    source = f'"{rules[0].source_text}"'
    rule = f"{{from: {source}, to: [{listed}]}}" if last.listed else f"{source}: [{listed}]"
    return f"the source stands in {_lines(rules)} already, with other destinations: write one rule with a list, {rule}"


def _lines(rules: list[Rule]) -> str:
    """Return where the rules before the last one are. The file is only named if it is another one."""
    file = rules[-1].place.file
    here = [str(rule.place.line) for rule in rules[:-1] if rule.place.file == file]
    there = [rule.place.seen_from(rules[-1].place) for rule in rules[:-1] if rule.place.file != file]
    return ", ".join(dict.fromkeys((*([f"line {', '.join(dict.fromkeys(here))}"] if here else []), *there)))
