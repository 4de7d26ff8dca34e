"""Divides the rules among several processes. Each process computes the same split from the files alone.

Rules that share a destination stay in one shard: the earlier rule still wins there, and content that they have in
common is copied once. Rendezvous hashing is used: if a shard is added or removed, only its part of the rules moves.
"""

import struct
from collections.abc import Sequence
from typing import Self

import msgspec
from msgspec.structs import replace

from syncer.lazy_pattern import lazy_pattern
from syncer.oci.reference import Repository
from syncer.rules.rule import Rule

MAX_SHARES = 1000
_WRITTEN = lazy_pattern(r"([0-9]{1,9})/([0-9]{1,9})")
_WORDS = 8
"""Number of scores in one digest of 64 bytes."""


class InvalidShard(ValueError):
    """Text that is not a valid shard."""


class Shard(msgspec.Struct, frozen=True):
    """Shard `index` (from 0) of `count`. `str()` returns, for example, `1/4`; `0/1` covers all rules."""

    index: int = 0
    count: int = 1

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse a shard such as `1/4`. Raises `InvalidShard`."""
        expected = "expected I/N with 0 <= I < N, such as 0/4"
        found = _WRITTEN.fullmatch(text.strip())
        if found is None:
            raise InvalidShard(f"{expected}, found {text[:40]!r}")
        index, count = map(int, found.groups())
        if count > MAX_SHARES:
            raise InvalidShard(f"expected {MAX_SHARES} shares at most, found {count}")
        if index >= count:
            hint = f" (the last of {count} is {count - 1})" if count else ""
            raise InvalidShard(f"{expected}, found {text.strip()!r}{hint}")
        return cls(index, count)

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"

    @property
    def whole(self) -> bool:
        """Whether this is the only shard."""
        return self.count == 1

    @property
    def fields(self) -> dict[str, str]:
        """Return the fields for documents and log lines: none if this is the only shard."""
        return {} if self.whole else {"shard": str(self)}

    def rules_of(self, rules: Sequence[Rule]) -> tuple[Rule, ...]:
        """Return those of `rules` that belong to this shard, in their order.

        Each shard gets all rules with a pattern, and of each its part of the repositories.
        """
        if self.whole:
            return tuple(rules)
        known = [rule for rule in rules if rule.pattern is None]
        groups = _groups(known)
        shard_of = {
            rule.number: share_of(group, self.count) for rule, group in zip(known, groups, strict=True)
        }
        part = _Part(
            self.index,
            self.count,
            {
                destination.repository: shard_of[rule.number]
                for rule in known
                for destination in rule.destinations
            },
        )
        return tuple(
            rule if rule.pattern is None else replace(rule, part=part)
            for rule in rules
            if shard_of.get(rule.number, self.index) == self.index
        )


class _Part(msgspec.Struct, frozen=True):
    """The part of a shard. A destination of `known` belongs to the shard of the rules that name it."""

    index: int
    count: int
    known: dict[Repository, int]

    def has(self, rule: Rule) -> bool:
        destinations = [destination.repository for destination in rule.destinations]
        for repository in destinations:
            if repository in self.known:
                return self.known[repository] == self.index
        return share_of(destinations[0] if destinations else rule.source, self.count) == self.index


WHOLE = Shard()


def share_of(repository: Repository | str, shares: int) -> int:
    """Return the shard (from 0) of `shares` that a repository belongs to: the one with the highest score for its name.

    A text must be in the form of `str(Repository)`. The result does not depend on process, machine or version.
    """
    from hashlib import blake2b

    name = str(repository).encode()
    blocks = -(-shares // _WORDS)
    digests = b"".join(
        blake2b(name, digest_size=8 * _WORDS, salt=block.to_bytes(2, "big")).digest()
        for block in range(blocks)
    )
    scores = struct.unpack(f">{blocks * _WORDS}Q", digests)[:shares]
    return scores.index(max(scores))


def _groups(rules: Sequence[Rule]) -> list[Repository]:
    """Return, for each rule, the first destination of the first rule in its group."""
    numbers: dict[Repository, int] = {}
    above: list[int] = []  # for each rule's number, an earlier number of the same group, or the number itself

    def first_of(number: int) -> int:
        while above[number] != number:
            above[number] = above[above[number]]
            number = above[number]
        return number

    own = []
    for rule in rules:
        joined = []
        for destination in rule.destinations:
            number = numbers.setdefault(destination.repository, len(above))
            if number == len(above):
                above.append(number)
            joined.append(number)
        firsts = [first_of(number) for number in joined]
        earliest = min(firsts)
        for first in firsts:
            above[first] = earliest
        own.append(joined[0])
    repositories = list(numbers)
    return [repositories[first_of(number)] for number in own]
