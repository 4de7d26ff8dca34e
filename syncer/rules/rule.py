"""Rules: which images are copied to which destinations.

Rules are pure data; `syncer.config.rule_reader` reads them from a file.
"""

from collections.abc import Iterable, Sequence
from typing import Any, ClassVar, Protocol

import msgspec

from syncer.diagnostics import Place
from syncer.oci.reference import INSIDE, Reference, Repository, split_reference
from syncer.rules.attestations import Attestations
from syncer.rules.compared import Compared
from syncer.rules.destination import Destination
from syncer.rules.globs import matches_any
from syncer.rules.naming import DestinationTemplate
from syncer.rules.patterns import EVERY_REPOSITORY, RepositoryFilter, RepositoryPattern
from syncer.rules.platforms import EVERY_PLATFORM, PlatformFilter
from syncer.rules.prune import PruneRule
from syncer.rules.referrers import ReferrerFilter, VerificationKey
from syncer.rules.tags import OneDigest, TagSelection, TheseTags

__all__ = ["Conflict", "Destination", "Rule"]


class Conflict(msgspec.Struct, frozen=True):
    """An image that cannot be copied, as the file alone shows. `target` has no tag where that holds for all tags."""

    target: Reference
    message: str


class Part(Protocol):
    """A part of the repositories of a pattern, which one of several processes copies."""

    def has(self, rule: "Rule") -> bool:
        """Return whether the rule for one repository belongs to this part."""
        ...


class Rule(Compared, frozen=True):
    """One entry of the images file. `number` is its index among the rules, from 0. If two rules conflict, the earlier wins.

    `schedule` is None if the rule uses the common schedule. `written_source` and `written` are the key and the value
    in the file. `attestations` is the rule's own setting. `name` identifies the rule in logs, pages and the API; the
    default is the source. `conflicts` are the images of the rule that cannot be copied.

    If not `overwrite`, tags that exist at the destination stay as they are. `immutable` are globs of tags that never
    change. `referrers` are the referrers to copy; None copies none. One of the keys of `verify` must have signed each
    image. `prune` is what may be removed at the destination; None removes nothing.

    A rule with a `pattern` stands for the repositories that the pattern matches and `repositories` selects. `source` has
    the text of the pattern then, and `part` is what this process copies; None means all. A run makes a rule for each repository that it finds: see `for_repository`.
    The destinations of a rule whose source is a pattern are `templates` until its repositories are known. `listed` says
    that the rule is an item of a list and not a key of a mapping.
    """

    NOT_COMPARED: ClassVar = frozenset({"written", "place", "part", "listed", "conflicts"})

    number: int
    source: Repository
    selection: TagSelection
    destinations: tuple[Destination, ...]
    platforms: PlatformFilter = EVERY_PLATFORM
    schedule: str | None = None
    written_source: str = ""
    written: Any = None
    place: Place = Place()
    name: str = ""
    attestations: Attestations | None = None
    overwrite: bool = True
    immutable: tuple[str, ...] = ()
    referrers: ReferrerFilter | None = None
    verify: tuple[VerificationKey, ...] = ()
    prune: PruneRule | None = None
    pattern: RepositoryPattern | None = None
    repositories: RepositoryFilter = EVERY_REPOSITORY
    part: Part | None = None
    templates: tuple[DestinationTemplate, ...] = ()
    listed: bool = False
    conflicts: tuple[Conflict, ...] = ()

    def __post_init__(self) -> None:
        if not self.name:
            msgspec.structs.force_setattr(self, "name", self.source_text)

    def __str__(self) -> str:
        return self.name

    @property
    def source_text(self) -> str:
        """The source as written in the file."""
        return self.written_source or str(self.source)

    @property
    def names(self) -> frozenset[str]:
        """Every name by which a user may mean this rule: its own, and those of its source and destinations."""
        names = {self.name, self.source_text, split_reference(self.source_text)[0], str(self.source)}
        for destination in self.destinations:
            names |= {
                str(destination.repository),
                destination.written,
                split_reference(destination.written)[0],
            }
            if destination.repository.layout is not None:
                names.add(destination.written.partition(INSIDE)[0])
        for template in self.templates:
            names |= {template.text, template.written, split_reference(template.written)[0]}
        return frozenset(names)

    def for_repository(self, repository: Repository) -> "Rule | None":
        """Return the rule for one repository; None if the pattern or the filter excludes it, or if another process has it.

        Name and number stay those of this rule. Raises `InvalidReference` and `InvalidDigest` if a destination has no
        valid name.
        """
        assert self.pattern is not None
        captures = self.pattern.match(repository)
        if captures is None or not self.repositories.selects(self.pattern.covered(repository) or ""):
            return None
        resolved = [template.resolve(repository, captures) for template in self.templates]
        concrete = msgspec.structs.replace(
            self,
            source=repository,
            destinations=tuple(dict.fromkeys(resolved)),
            written_source=str(repository) + self.source_text[len(split_reference(self.source_text)[0]) :],
            written=self._written_for_repository(),
            pattern=None,
            repositories=EVERY_REPOSITORY,
            part=None,
            templates=(),
        )
        return concrete if self.part is None or self.part.has(concrete) else None

    def _written_for_repository(self) -> Any:
        """Return the value in the file without the key that only a pattern may have."""
        if not isinstance(self.written, dict):
            return self.written
        return {key: value for key, value in self.written.items() if key != "repositories"}

    def conflict_at(self, target: Reference) -> Conflict | None:
        """Why nothing can be copied to a reference, or to a whole repository; None if it can."""
        targets = (target, Reference(target.repository))
        return next((conflict for conflict in self.conflicts if conflict.target in targets), None)

    def destination_name(self, target: Reference) -> str:
        """Return the name of an image at one of the destinations for messages: see `Destination.name`."""
        for destination in self.destinations:
            if destination.repository == target.repository and (
                destination.tags is None or target.tag in destination.tags
            ):
                return destination.name_of(target)
        return str(target)

    def is_immutable(self, tag: str | None) -> bool:
        """Whether a tag of the destination never changes."""
        return tag is not None and matches_any(self.immutable, tag)

    def keeps(self, tag: str | None) -> bool:
        """Whether a tag stays as it is where the destination has it."""
        return tag is not None and (not self.overwrite or self.is_immutable(tag))

    def writes_to(self, repository: Repository) -> bool:
        """Return whether `repository` is one of the destinations."""
        return any(destination.repository == repository for destination in self.destinations)

    @property
    def tags_are_written(self) -> bool:
        """Whether each destination lists its tags in the file, so that an entry can name some of them."""
        return all(destination.tags_are_written for destination in self.destinations)

    def mismatch(self, selected: int) -> str | None:
        """Return why `selected` source tags do not fit these destinations, or None if they do.

        The check is only needed if the destination has tags and the source does not name them, once they are known.
        """
        for destination in self.destinations:
            if destination.tags is not None and len(destination.tags) != selected:
                return (
                    f"expected as many tags at the destination as the source has: "
                    f"found {len(destination.tags)} for {selected} ({destination.written or destination.repository})"
                )
        return None

    def entry_for(self, tags: Iterable[str] | None, selected: Sequence[str] = ()) -> tuple[str, object]:
        """Return the key and value of an images file for exactly these source tags, in the form of this rule.

        Destinations are written with their tags, as image-syncer does. If `tags` is None, or if a destination's tags come
        from a variable, return the whole rule as written: the value of a variable is never written to a file. `selected`
        lists all tags that the rule selects, in order; it is only needed if the destination has tags and the source does
        not name them. Raises `ValueError` for tags that are not selected.
        """
        if tags is None or not self.tags_are_written:
            destinations = [
                *(destination.written or str(destination.repository) for destination in self.destinations),
                *(template.written for template in self.templates),
            ]
            return self.source_text, self._value(destinations)
        if isinstance(self.selection, OneDigest):
            named = [self.selection.tag] if self.selection.tag else list(tags)
            destinations = [destination.written_for([0], named) for destination in self.destinations]
            return self.source_text, self._value(destinations)
        wanted = list(dict.fromkeys(tags))
        ordered = self.selection.tags if isinstance(self.selection, TheseTags) else tuple(selected)
        if ordered:
            indexes = [index for tag in wanted for index, other in enumerate(ordered) if other == tag]
            named = [ordered[index] for index in indexes]
        else:
            indexes, named = list(range(len(wanted))), wanted
        if not wanted or set(named) != set(wanted):
            raise ValueError(f"the rule for {self} does not select {', '.join(wanted) or 'no tag at all'}")
        name = split_reference(self.source_text)[0]
        destinations = [destination.written_for(indexes, named) for destination in self.destinations]
        value = self._value(destinations)
        if isinstance(value, dict):
            # The source names the tags now.
            value.pop("tags", None)
        return f"{name}:{','.join(named)}", value

    def _value(self, destinations: list[str]) -> object:
        """Return the destinations in the form in which they were written: text, list or object."""
        shape = self.written.get("to") if isinstance(self.written, dict) else self.written
        to: object = destinations if isinstance(shape, list) or len(destinations) > 1 else destinations[0]
        return {**self.written, "to": to} if isinstance(self.written, dict) else to
