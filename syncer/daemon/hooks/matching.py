"""Finds the rules that select a pushed tag."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache

import msgspec

from syncer.daemon.hooks.payloads import Pushed
from syncer.oci.digest import Digest, InvalidDigest
from syncer.oci.reference import InvalidReference, Repository
from syncer.rules.allowlist import EVERYTHING, Allowlist
from syncer.rules.meeting import may_meet, meets_itself, outlines
from syncer.rules.rule import Destination, Rule
from syncer.rules.tags import OneDigest, TheseTags

_DEFAULT_PORTS = (":443", ":80")
_MAX_KNOWN = 4096
"""Repositories about which the index keeps what it computed: a flood of events is about few of them."""


class Arrival(msgspec.Struct, frozen=True):
    """A pushed tag that a rule selects. `tag` is None for a rule of one digest that has no tag.

    If the rule copies referrers or verifies signatures, it is also the tag of a referrer, or the digest of a manifest
    that has no tag.

    For a rule with a pattern, `rule` is the rule for the repository.
    """

    rule: Rule
    tag: str | None
    digest: Digest | None


class Match(msgspec.Struct, frozen=True):
    """What a push means for the rules: `arrivals` to be copied, and `competing` rules that must list their tags.

    A rule is competing if an earlier rule may write the same tag of the same destination. Only listings tell which wins.
    """

    arrivals: tuple[Arrival, ...] = ()
    competing: tuple[Rule, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.arrivals or self.competing)


class _Pattern(msgspec.Struct, frozen=True):
    """A rule with a pattern, its destinations as far as they are known, and whether two sources may have the same one."""

    rule: Rule
    outlines: tuple[str, ...]
    meets_itself: bool


class _Reader(msgspec.Struct, frozen=True):
    """A rule without a pattern, and the names of its source's registry."""

    rule: Rule
    hosts: frozenset[str]


class RuleIndex:
    """The rules by the repository that they read. `events_from` returns the other host names of a repository's registry.

    Repositories that rules with patterns stand for must be `allowed`.
    """

    def __init__(
        self,
        rules: Sequence[Rule],
        events_from: Callable[[Repository], tuple[str, ...]],
        allowed: Allowlist = EVERYTHING,
    ) -> None:
        self._events_from = events_from
        self._allowed = allowed
        self._readers: dict[str, list[_Reader]] = {}
        self._writers: dict[Repository, list[Rule]] = {}
        self._patterns: dict[int, _Pattern] = {}
        self._patterns_by_start: dict[str, list[_Pattern]] = {}
        self._hosts_of = lru_cache(_MAX_KNOWN)(self._find_hosts)
        self._patterns_writing = lru_cache(_MAX_KNOWN)(self._find_patterns_writing)
        for rule in rules:
            if rule.pattern is not None:
                pattern = _Pattern(rule, outlines(rule), meets_itself(rule))
                self._patterns[rule.number] = pattern
                start = rule.pattern.prefix.partition("/")[0]
                self._patterns_by_start.setdefault(start, []).append(pattern)
                continue
            reader = _Reader(rule, self._find_hosts(rule.source))
            self._readers.setdefault(rule.source.path, []).append(reader)
            for destination in rule.destinations:
                self._writers.setdefault(destination.repository, []).append(rule)

    def match(self, push: Pushed) -> Match:
        """Return what `push` means for the rules."""
        arrivals: list[Arrival] = []
        competing: dict[int, Rule] = {}
        for rule in self._reading(push):
            if _may_be_referrer(rule, push):
                # A signature, for example. It competes with nothing, whatever other rules write.
                arrivals.append(Arrival(rule, push.tag or str(push.digest), push.digest))
                continue
            tags = list(_selected(rule, push))
            rivals = {each.number: each for tag in tags for each in self._rivals(rule, tag)}
            pattern = self._patterns.get(rule.number)
            if rivals or (tags and pattern is not None and pattern.meets_itself):
                competing |= {**rivals, rule.number: rule if pattern is None else pattern.rule}
            else:
                arrivals += (Arrival(rule, tag, push.digest) for tag in tags)
        return Match(tuple(arrivals), tuple(competing[number] for number in sorted(competing)))

    def _reading(self, push: Pushed) -> Iterator[Rule]:
        for reader in self._readers.get(push.path, ()):
            if _names(push, reader.hosts):
                yield reader.rule
        # A pattern that begins with a `*` has an empty start.
        for start in ("", push.path.partition("/")[0]):
            for pattern in self._patterns_by_start.get(start, ()):
                repository = Repository(pattern.rule.source.host, push.path)
                if _names(push, self._hosts_of(repository)) and (made := self._rule_for(pattern, repository)):
                    yield made

    def _find_hosts(self, source: Repository) -> frozenset[str]:
        return frozenset(_without_default_port(host) for host in (source.host, *self._events_from(source)))

    def _find_patterns_writing(self, destination: Repository) -> tuple[_Pattern, ...]:
        outline = (str(destination),)
        return tuple(each for each in self._patterns.values() if may_meet(outline, each.outlines))

    def _rule_for(self, pattern: _Pattern, repository: Repository) -> Rule | None:
        """Return the rule for one repository. What has no valid or allowed destination is left to the next whole run."""
        try:
            rule = pattern.rule.for_repository(repository)
        except (InvalidReference, InvalidDigest):
            return None
        return None if rule is None or any(self._allowed.refusals(rule)) else rule

    def _rivals(self, rule: Rule, tag: str | None) -> Iterator[Rule]:
        """Yield the earlier rules that may write another image to a destination of this tag."""
        for destination in rule.destinations:
            written = tuple(_written(rule, destination, tag))
            for other in self._writers.get(destination.repository, ()):
                earlier = other.number < rule.number and other.source != rule.source
                if earlier and any(_may_write(other, destination.repository, each) for each in written):
                    yield other
            for pattern in self._patterns_writing(destination.repository):
                if pattern.rule.number < rule.number:
                    same = not pattern.meets_itself and self._rule_for(pattern, rule.source)
                    if not (same and same.writes_to(destination.repository)):
                        yield pattern.rule


def _may_be_referrer(rule: Rule, push: Pushed) -> bool:
    """Return whether the rule needs referrers, and this may be one. Without a tag, it may also be a child of an index."""
    if isinstance(rule.selection, OneDigest) and rule.selection.digest == push.digest:
        return False
    return (rule.referrers is not None or bool(rule.verify)) and not push.is_image


def _selected(rule: Rule, push: Pushed) -> Iterable[str | None]:
    selection = rule.selection
    if isinstance(selection, OneDigest):
        return (selection.tag,) if selection.digest == push.digest else ()
    return (push.tag,) if push.tag is not None and selection.matches(push.tag) else ()


def _written(rule: Rule, destination: Destination, tag: str | None) -> Iterator[str]:
    """Yield the destination's tags for a source's tag. For a regular expression, the listing decides: all may be meant."""
    selection = rule.selection
    if destination.tags is None:
        if (renamed := destination.tag_for(tag, 0)) is not None:
            yield renamed
    elif isinstance(selection, TheseTags):
        yield from (
            renamed for own, renamed in zip(selection.tags, destination.tags, strict=False) if own == tag
        )
    else:
        yield from destination.tags


def _may_write(rule: Rule, repository: Repository, tag: str) -> bool:
    return any(
        tag in destination.tags
        if destination.tags is not None
        else bool(destination.tag_template) or rule.selection.matches(tag)
        for destination in rule.destinations
        if destination.repository == repository
    )


def _names(push: Pushed, hosts: frozenset[str]) -> bool:
    """Return whether the event may come from the registry that has these names, without default ports."""
    if any(_without_default_port(each) in hosts for each in push.hosts):
        return True
    return any(host.endswith(ending) for ending in push.endings for host in hosts)


def _without_default_port(host: str) -> str:
    for port in _DEFAULT_PORTS:
        host = host.removesuffix(port)
    return host
