"""Rules: what is copied where, in image-syncer's syntax and in the object form.

Pure data once read; `syncer.config.rule_reader` makes rules from a file.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from syncer.diagnostics import Place
from syncer.oci.digest import Digest
from syncer.oci.reference import Reference, Repository, split_reference
from syncer.rules.attestations import Attestations
from syncer.rules.platforms import EVERY_PLATFORM, PlatformFilter
from syncer.rules.tags import OneDigest, TagSelection, TheseTags


class Conflict(msgspec.Struct, frozen=True):
    """An image that cannot be copied, as the file alone shows. `target` has no tag where that holds for all tags."""

    target: Reference
    message: str


@dataclass(frozen=True, slots=True)
class Destination:
    """Where the images of a rule go. `tags` are new names for them; None keeps the names.

    `attestations` is what becomes of those of an index there. `written` is the text in the file, with its references to the environment.
    """

    repository: Repository
    tags: tuple[str, ...] | None = None
    digest: Digest | None = None
    written: str = field(default="", compare=False)
    attestations: Attestations = field(default=Attestations.AUTO, compare=False)

    @property
    def name(self) -> str:
        """The repository for messages; the text of the file if a variable is in it, since its value may be a secret."""
        return self.written if self.has_variables else str(self.repository)

    @property
    def has_variables(self) -> bool:
        """Whether the text of the file refers to the environment."""
        return "$" in self.written

    def name_of(self, target: Reference) -> str:
        """An image of this destination for messages: see `name`."""
        if not self.has_variables:
            return str(target)
        return self.written if self.tags is not None or target.tag is None else f"{self.written}:{target.tag}"

    @property
    def tags_are_written(self) -> bool:
        """Whether the text of the file names each of the tags: from a variable, they come all at once."""
        _, tags, _ = split_reference(self.written or self._resolved())
        return self.tags is None or (tags is not None and len(tags.split(",")) == len(self.tags))

    def tag_for(self, source_tag: str | None, index: int) -> str | None:
        """The destination's tag for the source's tag at `index` (0-based) of those the rule selects.

        None for a digest that gets no tag. The counts must agree: see `Rule.mismatch`.
        """
        return source_tag if self.tags is None else self.tags[index]

    def written_for(self, indexes: Sequence[int], named: Sequence[str]) -> str:
        """The text for a file that names only the source tags at these places. Needs `tags_are_written`.

        `named` are these tags: a destination that keeps them has them written out.
        """
        text = self.written or self._resolved()
        if self.tags is None:
            repository, at, end = text.partition("@")
            if self.digest and not at:
                return text  # it comes from a variable
            return f"{repository}:{','.join(named)}{at}{end}"
        name, tags, digest = split_reference(text)
        renamed = tags.split(",") if tags else []
        end = f"@{digest}" if digest else ""
        return f"{name}:{','.join(renamed[index] for index in indexes)}{end}"

    def _resolved(self) -> str:
        tags = f":{','.join(self.tags)}" if self.tags else ""
        return f"{self.repository}{tags}{f'@{self.digest}' if self.digest else ''}"


@dataclass(frozen=True, slots=True)
class Rule:
    """One line of the images file. `number` is its place among the rules, from 0: the earlier one wins.

    `schedule` is the rule's own, None if it goes with all others. `written_source` and `written` are key and value
    as they stand in the file. `attestations` is the rule's own setting for its destinations. `name` is what logs, pages
    and the API call it: the source, if it has no other. `conflicts` are its images that cannot be copied.
    """

    number: int
    source: Repository
    selection: TagSelection
    destinations: tuple[Destination, ...]
    platforms: PlatformFilter = EVERY_PLATFORM
    schedule: str | None = None
    written_source: str = ""
    written: Any = field(default=None, compare=False)
    place: Place = field(default=Place(), compare=False)
    name: str = ""
    attestations: Attestations | None = None
    conflicts: tuple[Conflict, ...] = field(default=(), compare=False)

    def __post_init__(self) -> None:
        if not self.name:
            object.__setattr__(self, "name", self.source_text)

    def __str__(self) -> str:
        return self.name

    @property
    def source_text(self) -> str:
        """The source as it is written in the file."""
        return self.written_source or str(self.source)

    def conflict_at(self, target: Reference) -> Conflict | None:
        """Why nothing can be copied to a reference, or to a whole repository; None if it can."""
        targets = (target, Reference(target.repository))
        return next((conflict for conflict in self.conflicts if conflict.target in targets), None)

    def destination_name(self, target: Reference) -> str:
        """An image at one of the destinations for messages: as written where a variable is in it."""
        for destination in self.destinations:
            if destination.repository == target.repository and (
                destination.tags is None or target.tag in destination.tags
            ):
                return destination.name_of(target)
        return str(target)

    def writes_to(self, repository: Repository) -> bool:
        """Whether a repository is one of the destinations."""
        return any(destination.repository == repository for destination in self.destinations)

    @property
    def tags_are_written(self) -> bool:
        """Whether each destination names its tags in the file, so that an entry for some of them can be made."""
        return all(destination.tags_are_written for destination in self.destinations)

    def mismatch(self, selected: int) -> str | None:
        """Why `selected` source tags cannot go to these destinations; None if they can.

        Only a regular expression with tags at its destination has to be asked, once its tags are known.
        """
        for destination in self.destinations:
            if destination.tags is not None and len(destination.tags) != selected:
                return (
                    f"expected as many tags at the destination as the source has: "
                    f"found {len(destination.tags)} for {selected} ({destination.written or destination.repository})"
                )
        return None

    def entry_for(self, tags: Iterable[str] | None, selected: Sequence[str] = ()) -> tuple[str, object]:
        """Key and value of an images file that names exactly these source tags, in the form this rule has.

        Destinations have their tags, as image-syncer writes them. None gives the whole rule as it is written, and so does a destination whose tags come from a variable: a
        variable's value is never written to a file. `selected` are all tags of the rule in their order: needed only
        for a regular expression whose destination has tags. Raises `ValueError` for tags that the rule has not.
        """
        if tags is None or not self.tags_are_written:
            return self.source_text, self._value(
                [destination.written or str(destination.repository) for destination in self.destinations]
            )
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
        return f"{name}:{','.join(named)}", self._value(destinations)

    def _value(self, destinations: list[str]) -> object:
        """The destinations in the form they were written in: text, list or object."""
        shape = self.written.get("to") if isinstance(self.written, dict) else self.written
        to: object = destinations if isinstance(shape, list) or len(destinations) > 1 else destinations[0]
        return {**self.written, "to": to} if isinstance(self.written, dict) else to
