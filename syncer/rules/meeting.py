"""Which rules with patterns may write to the same destination, as far as the files show it."""

from collections.abc import Iterable, Iterator, Sequence

import msgspec

from syncer.oci.reference import InvalidReference, Repository
from syncer.rules.rule import Rule


def outlines(rule: Rule) -> tuple[str, ...]:
    """Return the destinations `host/path` of a rule, with `*` for each part that is only known once its sources are."""
    known = [str(destination.repository) for destination in rule.destinations]
    if rule.pattern is None:
        return tuple(known)
    for template in rule.templates:
        try:
            known.append(template.outline_of(rule.source, rule.pattern.wildcards))
        except InvalidReference:
            known.append("*")
    return tuple(known)


def known_part(outline: str) -> Repository:
    """Return the registry and the first components of a destination, as far as they are known."""
    host, _, path = outline.partition("*")[0].partition("/")
    return Repository(host, path.rpartition("/")[0] if "*" in outline else path)


def may_meet(outlines: Iterable[str], others: Sequence[str]) -> bool:
    """Return whether two rules with these outlines may write to one repository. The answer errs on True."""
    return any(_may_match(one, other) for one in outlines for other in others)


def meets_itself(rule: Rule) -> bool:
    """Return whether two repositories of a rule's pattern may have the same destination."""
    return rule.pattern is not None and not (
        all(template.keeps_apart(rule.source) for template in rule.templates)
        and not any(_may_match(one, other) for one, other in _pairs(outlines(rule)))
    )


class Step(msgspec.Struct, frozen=True):
    """Rules that are begun together: one rule without a pattern, or rules with patterns for one registry.

    `after` are the indexes of the steps that must end before, because their rules are earlier and may write to the same
    destinations.
    """

    rules: list[Rule]
    after: set[int]


class Arrangement(msgspec.Struct, frozen=True):
    """The order of rules. `competing` are the rules with patterns whose destinations another source may write to too.

    `shared` are the destinations of rules without a pattern that one with a pattern may write to.
    """

    steps: list[Step]
    competing: list[Rule]
    shared: set[Repository]


def arrange(rules: Sequence[Rule]) -> Arrangement:
    """Return the order in which to begin rules, so that the earlier of two rules that may meet comes first.

    Rules with patterns for one registry share a step, so that each of its lists is read once, unless that is impossible.
    """
    steps: list[Step] = []
    known: list[tuple[int, Rule, tuple[str, ...]]] = []
    with_patterns: list[tuple[int, Rule, tuple[str, ...]]] = []
    last: dict[str, int] = {}
    competing = {rule.number: rule for rule in rules if meets_itself(rule)}
    shared: set[Repository] = set()
    for rule in rules:
        lines = outlines(rule)
        # Two rules without a pattern are not compared here: their destinations are known.
        met = [
            (index, other)
            for index, other, of_other in (known if rule.pattern else with_patterns)
            if may_meet(lines, of_other)
        ]
        for each in (rule, *(other for _, other in met)) if met else ():
            if each.pattern is None:
                shared.update(destination.repository for destination in each.destinations)
            else:
                competing[each.number] = each
        after = {index for index, _ in met}
        index = last.get(rule.source.host, -1) if rule.pattern else -1
        if index < 0 or max(after, default=-1) > index:
            index = len(steps)
            steps.append(Step([], set()))
        steps[index].rules.append(rule)
        steps[index].after.update(after - {index})
        entry = (index, rule, lines)
        known.append(entry)
        if rule.pattern:
            last[rule.source.host] = index
            with_patterns.append(entry)
    return Arrangement(steps, list(competing.values()), shared)


def _pairs(texts: Sequence[str]) -> Iterator[tuple[str, str]]:
    for number, text in enumerate(texts):
        for other in texts[number + 1 :]:
            yield text, other


def _may_match(one: str, other: str) -> bool:
    """Return whether some text matches both. `*` stands for any text. Only what is before the first and after the last counts."""
    starts = one.partition("*")[0], other.partition("*")[0]
    ends = one.rpartition("*")[2], other.rpartition("*")[2]
    if "*" not in one and "*" not in other:
        return one == other
    if "*" not in one:
        return one.startswith(starts[1]) and one.endswith(ends[1])
    if "*" not in other:
        return other.startswith(starts[0]) and other.endswith(ends[0])
    return (starts[0].startswith(starts[1]) or starts[1].startswith(starts[0])) and (
        ends[0].endswith(ends[1]) or ends[1].endswith(ends[0])
    )
