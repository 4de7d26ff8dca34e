"""`Arrivals`: pushed tags that wait to be copied, each once. The memory is bounded, and nothing is lost."""

from collections.abc import Iterator, Sequence
from contextlib import suppress

import anyio
import msgspec

from syncer.daemon.hooks.matching import Match
from syncer.oci.digest import Digest, InvalidDigest
from syncer.oci.reference import InvalidReference, Repository
from syncer.rules.rule import Rule
from syncer.run import Announced

MAX_WAITING = 20_000
"""Tags that may wait. Beyond that, the rules of further tags are run as a whole."""


class Batch(msgspec.Struct, frozen=True):
    """What waited: tags by rule, and rules that are to be run as a whole."""

    announced: tuple[Announced, ...] = ()
    rules: tuple[Rule, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.announced or self.rules)


class Arrivals:
    """Pushed tags that wait. A repeated event replaces the earlier one."""

    def __init__(self) -> None:
        self._tags: dict[Rule, dict[str | None, Digest | None]] = {}
        self._whole: dict[int, Rule] = {}
        self._count = 0
        self._changed = anyio.Event()

    def put(self, match: Match) -> None:
        """Add what a push means for the rules."""
        for rule in match.competing:
            self._whole[rule.number] = rule
        for arrival in match.arrivals:
            tags = self._tags.setdefault(arrival.rule, {})
            if arrival.tag in tags:
                tags[arrival.tag] = arrival.digest
            elif self._count < MAX_WAITING:
                tags[arrival.tag] = arrival.digest
                self._count += 1
            else:
                self._whole[arrival.rule.number] = arrival.rule
        self._changed.set()

    def put_back(self, batch: Batch) -> None:
        """Add what `take` returned and no run took. Newer events are kept."""
        self._whole = {rule.number: rule for rule in batch.rules} | self._whole
        for each in batch.announced:
            newer = self._tags.get(each.rule, {})
            self._count += len(each.tags.keys() - newer.keys())
            self._tags[each.rule] = {**each.tags, **newer}
        self._changed.set()

    def __bool__(self) -> bool:
        return bool(self._tags or self._whole)

    async def wait(self) -> None:
        """Wait until something waits."""
        while not self:
            self._changed = anyio.Event()
            await self._changed.wait()

    def take(self, rules: Sequence[Rule]) -> Batch:
        """Remove all that waits and return it, by `rules`: they may have been loaded after the events came."""
        tags, whole = self._tags, self._whole
        self._tags, self._whole, self._count = {}, {}, 0
        current = _Current(rules)
        whole_rules = {each.number: each for rule in whole.values() for each in current.whole(rule)}
        announced: dict[tuple[int, Repository], Announced] = {}
        for rule, digests in tags.items():
            for each in current.like(rule):
                if each.number not in whole_rules:
                    key = each.number, each.source
                    before = announced[key].tags if key in announced else {}
                    announced[key] = Announced(each, {**before, **digests})
        return Batch(
            tuple(announced[key] for key in sorted(announced, key=lambda key: (key[0], str(key[1])))),
            tuple(whole_rules[number] for number in sorted(whole_rules)),
        )


class _Current:
    """The rules of the current configuration."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        self._same = {rule.number: rule for rule in rules}
        self._alike: dict[tuple[str, Repository], list[Rule]] = {}
        self._patterns: dict[str, list[Rule]] = {}
        for rule in rules:
            self._alike.setdefault((rule.name, rule.source), []).append(rule)
            if rule.pattern is not None:
                self._patterns.setdefault(rule.name, []).append(rule)

    def like(self, rule: Rule) -> Iterator[Rule]:
        """Yield the rule itself if it has not changed, or else the rules with its name and source.

        A rule for one repository of a pattern is made again by the current rule with that pattern.
        """
        for each in self.whole(rule):
            if each.pattern is None or rule.pattern is not None:
                yield each
                continue
            with suppress(InvalidReference, InvalidDigest):
                if (made := each.for_repository(rule.source)) is not None:
                    yield made

    def whole(self, rule: Rule) -> Iterator[Rule]:
        """Yield the same rules as `like`, with a pattern instead of one of its repositories."""
        if self._same.get(rule.number) == rule:
            yield rule
            return
        yield from self._alike.get((rule.name, rule.source), ())
        if rule.pattern is None:
            for each in self._patterns.get(rule.name, ()):
                if each.pattern is not None and each.pattern.match(rule.source) is not None:
                    yield each
