"""`Arrivals`: pushed tags that wait to be copied, each once. The memory is bounded, and nothing is lost."""

from collections.abc import Iterator, Sequence

import anyio
import msgspec

from syncer.daemon.hooks.matching import Match
from syncer.oci.digest import Digest
from syncer.oci.reference import Repository
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
        for rule in match.contested:
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
        whole_rules = {each.number: each for rule in whole.values() for each in current.like(rule)}
        announced: dict[int, Announced] = {}
        for rule, digests in tags.items():
            for each in current.like(rule):
                if each.number not in whole_rules:
                    before = announced[each.number].tags if each.number in announced else {}
                    announced[each.number] = Announced(each, {**before, **digests})
        return Batch(
            tuple(announced[number] for number in sorted(announced)),
            tuple(whole_rules[number] for number in sorted(whole_rules)),
        )


class _Current:
    """The rules of the current configuration."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        self._same = {rule.number: rule for rule in rules}
        self._alike: dict[tuple[str, Repository], list[Rule]] = {}
        for rule in rules:
            self._alike.setdefault((rule.name, rule.source), []).append(rule)

    def like(self, rule: Rule) -> Iterator[Rule]:
        """Yield the rule itself if it has not changed, or else the rules with its name and source."""
        if self._same.get(rule.number) == rule:
            yield rule
        else:
            yield from self._alike.get((rule.name, rule.source), ())
