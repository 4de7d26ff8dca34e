"""`Arrivals`: pushed tags that wait to be copied, each once. The memory is bounded, and nothing is lost."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress

import anyio
import msgspec

from syncer.daemon.hooks.matching import Arrival, Match
from syncer.oci.digest import Digest, InvalidDigest
from syncer.oci.reference import InvalidReference, Repository
from syncer.rules.rule import Rule
from syncer.run import Announced
from syncer.state.waiting_events import ALL_TAGS, EventKey

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
        self._tags: dict[_RuleKey, _Tags] = {}
        self._whole: dict[int, Rule] = {}
        self._count = 0
        self._changed = anyio.Event()
        self._current = _Current(())

    def put(self, match: Match) -> dict[EventKey, str]:
        """Add what a push means for the rules. Return what is new, with the digest that the push named, for the journal."""
        added: dict[EventKey, str] = {}
        for rule in match.competing:
            added |= self._put_whole(rule)
        for arrival in match.arrivals:
            rule, tags = arrival.rule, self._tags_of(arrival.rule).digests
            if arrival.tag not in tags:
                if self._count >= MAX_WAITING:
                    added |= self._put_whole(rule)
                    continue
                self._count += 1
            tags[arrival.tag] = arrival.digest
            added[EventKey(rule.name, str(rule.source), arrival.tag or "")] = str(arrival.digest or "")
        self._changed.set()
        return added

    def _put_whole(self, rule: Rule) -> dict[EventKey, str]:
        if rule.number in self._whole:
            return {}
        self._whole[rule.number] = rule
        return {EventKey(rule.name, str(rule.source), ALL_TAGS): ""}

    def _tags_of(self, rule: Rule) -> "_Tags":
        key = rule.number, rule.name, rule.source
        found = self._tags.get(key)
        if found is None:
            found = self._tags[key] = _Tags(rule, {})
        # The same rule may have been loaded again, with other keys.
        found.rule = rule
        return found

    def put_back(self, batch: Batch) -> None:
        """Add what `take` returned and no run took. Newer events are kept."""
        self._whole = {rule.number: rule for rule in batch.rules} | self._whole
        for each in batch.announced:
            newer = self._tags_of(each.rule)
            self._count += len(each.tags.keys() - newer.digests.keys())
            newer.digests = {**each.tags, **newer.digests}
        self._changed.set()

    def restore(self, events: Mapping[EventKey, str], rules: Sequence[Rule]) -> list[EventKey]:
        """Add the events that an earlier process left. Return those for which there is no rule any more."""
        current, unknown = _Current(rules), []
        for key, digest in events.items():
            found = list(current.named(key.rule, key.source))
            arrivals = tuple(Arrival(rule, key.tag or None, _parsed(digest)) for rule in found)
            if not found:
                unknown.append(key)
            self.put(Match(competing=tuple(found)) if key.tag == ALL_TAGS else Match(arrivals))
        return unknown

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
        if self._current.rules is not rules:
            self._current = _Current(rules)
        current = self._current
        whole_rules = {each.number: each for rule in whole.values() for each in current.whole(rule)}
        announced: dict[tuple[int, Repository], Announced] = {}
        for waiting in tags.values():
            for each in current.like(waiting.rule):
                if each.number not in whole_rules:
                    key = each.number, each.source
                    before = announced[key].tags if key in announced else {}
                    announced[key] = Announced(each, {**before, **waiting.digests})
        return Batch(
            tuple(announced[key] for key in sorted(announced, key=lambda key: (key[0], str(key[1])))),
            tuple(whole_rules[number] for number in sorted(whole_rules)),
        )


_RuleKey = tuple[int, str, Repository]
"""Number, name and source of a rule: a whole rule is too large for the key of a dictionary that each event looks up."""


class _Tags(msgspec.Struct):
    """The tags of a rule that wait, with the digests that their events named."""

    rule: Rule
    digests: dict[str | None, Digest | None]


class _Current:
    """The rules of the current configuration."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        self.rules = rules
        self._same = {rule.number: rule for rule in rules}
        self._alike: dict[tuple[str, str], list[Rule]] = {}
        self._patterns: dict[str, list[Rule]] = {}
        for rule in rules:
            self._alike.setdefault((rule.name, str(rule.source)), []).append(rule)
            if rule.pattern is not None:
                self._patterns.setdefault(rule.name, []).append(rule)

    def like(self, rule: Rule) -> Iterator[Rule]:
        """Yield the rule itself if it has not changed, or else the rules with its name and source.

        A rule for one repository of a pattern is made again by the current rule with that pattern.
        """
        for each in self.whole(rule):
            yield from _made(each, rule.source) if each.pattern and not rule.pattern else (each,)

    def named(self, name: str, source: str) -> Iterator[Rule]:
        """Yield the rules with this name and source, or made for this source by a pattern."""
        alike = self._alike.get((name, source), ())
        yield from alike
        with suppress(InvalidReference):
            repository = Repository.parse(source)
            for each in () if alike else self._patterns.get(name, ()):
                yield from _made(each, repository)

    def whole(self, rule: Rule) -> Iterator[Rule]:
        """Yield the same rules as `like`, with a pattern instead of one of its repositories."""
        if self._same.get(rule.number) == rule:
            yield rule
            return
        yield from self._alike.get((rule.name, str(rule.source)), ())
        if rule.pattern is None:
            for each in self._patterns.get(rule.name, ()):
                if each.pattern is not None and each.pattern.match(rule.source) is not None:
                    yield each


def _made(rule: Rule, source: Repository) -> Iterator[Rule]:
    """Yield the rule that a rule with a pattern makes for a repository, if it does."""
    with suppress(InvalidReference, InvalidDigest):
        if (made := rule.for_repository(source)) is not None:
            yield made


def _parsed(digest: str) -> Digest | None:
    with suppress(InvalidDigest):
        return Digest.parse(digest)
    return None
