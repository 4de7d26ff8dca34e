"""Finds rules that cannot both be meant, as far as the file alone shows it."""

from collections.abc import Iterable, Iterator, Sequence

import msgspec
from msgspec.structs import replace

from syncer.oci.digest import Digest
from syncer.oci.reference import Reference, Repository
from syncer.rules.platforms import PlatformFilter
from syncer.rules.rule import Conflict, Destination, Rule
from syncer.rules.tags import OneDigest, TheseTags

SEPARATE = "; put {path} in the destination, so that each source has a repository of its own"


class _Write(msgspec.Struct, frozen=True):
    """One image that a rule will put at a tag, by its tag or digest at the source."""

    rule: Rule
    source: Repository
    tag: str | None
    digest: Digest | None
    is_named_by_template: bool = False

    @property
    def platforms(self) -> PlatformFilter:
        return self.rule.platforms

    def surely_differs(self, other: "_Write") -> bool:
        if self.digest and other.digest:
            same: bool | None = self.digest == other.digest
        elif self.source != other.source:
            same = False
        elif self.digest or other.digest:
            same = None  # a tag may well have that digest
        else:
            same = self.tag == other.tag
        return same is False or (same is True and self.platforms != other.platforms)

    def __str__(self) -> str:
        return str(Reference(self.source, None if self.digest else self.tag, self.digest))


def with_conflicts(rules: Iterable[Rule]) -> tuple[Rule, ...]:
    """The rules, each with its images that cannot be copied: onto themselves, or where another image is to go."""
    rules = tuple(rules)
    found: dict[int, dict[Reference, str]] = {}
    writes: dict[Reference, list[tuple[_Write, str]]] = {}
    for rule in rules:
        for destination in rule.destinations:
            if _is_source(rule, destination):
                message = f"both sides are the same repository, {rule.source}"
                found.setdefault(rule.number, {})[Reference(destination.repository)] = message
                continue
            for target, write in _writes(rule, destination):
                if (write.source, write.tag) == (target.repository, target.tag):
                    message = f"both sides are the same image, {write}"
                    found.setdefault(rule.number, {})[target] = message
                else:
                    writes.setdefault(target, []).append((write, destination.name_of(target)))
    for target, there in writes.items():
        for write, other, name in _pairs(there):
            found.setdefault(write.rule.number, {}).setdefault(target, _message(name, write, other))
    return tuple(
        replace(rule, conflicts=tuple(Conflict(*conflict) for conflict in found[rule.number].items()))
        if rule.number in found
        else rule
        for rule in rules
    )


def _pairs(writes: Sequence[tuple[_Write, str]]) -> Iterator[tuple[_Write, _Write, str]]:
    """Each write of one tag that another one contradicts, with the first that does and the tag's name for messages."""
    if len(writes) > 1:
        for write, name in writes:
            other = next((other for other, _ in writes if write.surely_differs(other)), None)
            if other is not None:
                yield write, other, name


def _is_source(rule: Rule, destination: Destination) -> bool:
    """Whether all that a rule selects would be copied onto itself, whichever tags that are."""
    keeps_tags = destination.tags is None and not destination.tag_template
    onto_itself = rule.source == destination.repository and keeps_tags
    return onto_itself and not isinstance(rule.selection, TheseTags)


def _writes(rule: Rule, destination: Destination) -> Iterator[tuple[Reference, _Write]]:
    """What the file shows of the tags that a rule writes; whole repositories show none."""
    match rule.selection:
        case TheseTags(tags):
            for index, tag in enumerate(tags):
                target = Reference(destination.repository, destination.tag_for(tag, index))
                yield target, _Write(rule, rule.source, tag, None, bool(destination.template))
        case OneDigest(digest, tag):
            if (new_tag := destination.tag_for(tag, 0)) is not None:
                yield (
                    Reference(destination.repository, new_tag),
                    _Write(rule, rule.source, tag, digest, bool(destination.template)),
                )


def _message(target: str, write: _Write, other: _Write) -> str:
    where = (
        "this rule"
        if other.rule is write.rule
        else f"the rule in {other.rule.place.seen_from(write.rule.place)}"
    )
    what = f"{write} as well as {other}" if str(write) != str(other) else f"other platforms of {write}"
    advice = SEPARATE if write.source != other.source and write.is_named_by_template else ""
    return f"{target} would get {what} (from {where}): expected one image for each tag{advice}"
