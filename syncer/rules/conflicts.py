"""Finds rules that cannot both be meant, as far as the file alone shows it."""

from collections.abc import Iterable, Iterator

import msgspec

from syncer.diagnostics import Problem
from syncer.oci.digest import Digest
from syncer.oci.reference import Reference, Repository
from syncer.rules.platforms import PlatformFilter
from syncer.rules.rule import Destination, Rule
from syncer.rules.tags import MatchingTags, OneDigest, TheseTags


class _Write(msgspec.Struct, frozen=True):
    """One image that a rule will put at a tag, by its tag or digest at the source."""

    rule: Rule
    source: Repository
    tag: str | None
    digest: Digest | None

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


def find_conflicts(rules: Iterable[Rule]) -> list[Problem]:
    """Rules whose two sides are the same image, and different images for one destination tag."""
    problems: list[Problem] = []
    written: dict[Reference, _Write] = {}
    for rule in rules:
        for destination in rule.destinations:
            if onto_itself := _copied_onto_itself(rule, destination):
                problems.append(rule.place.problem(f"both sides are the same image, {onto_itself}"))
                continue
            for target, write in _writes(rule, destination):
                earlier = written.setdefault(target, write)
                if write.surely_differs(earlier):
                    problems.append(
                        rule.place.problem(_conflict(destination.name_of(target), write, earlier))
                    )
    return problems


def _writes(rule: Rule, destination: Destination) -> Iterator[tuple[Reference, _Write]]:
    """What the file shows of the tags that a rule writes; whole repositories show none."""
    match rule.selection:
        case TheseTags(tags):
            for index, tag in enumerate(tags):
                target = Reference(destination.repository, destination.tag_for(tag, index))
                yield target, _Write(rule, rule.source, tag, None)
        case OneDigest(digest, tag):
            if (new_tag := destination.tag_for(tag, 0)) is not None:
                yield Reference(destination.repository, new_tag), _Write(rule, rule.source, None, digest)


def _copied_onto_itself(rule: Rule, destination: Destination) -> str:
    if rule.source != destination.repository:
        return ""
    if destination.tags is None:
        return rule.source_text
    tags: tuple[str | None, ...] = ()
    match rule.selection:
        case TheseTags(named):
            tags = named
        case OneDigest(tag=tag):
            tags = (tag,)
        case MatchingTags():
            return ""
    same = [tag for tag, new in zip(tags, destination.tags, strict=True) if tag == new]
    return f"{rule.source}:{same[0]}" if same else ""


def _conflict(target: str, write: _Write, earlier: _Write) -> str:
    where = "this rule" if earlier.rule is write.rule else f"the rule in line {earlier.rule.place.line}"
    what = f"{write} as well as {earlier}" if str(write) != str(earlier) else f"other platforms of {write}"
    return f"{target} would get {what} (from {where}): expected one image for each tag"
