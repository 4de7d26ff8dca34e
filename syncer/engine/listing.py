"""`ListTags`: list the tags that a rule selects, and add a lazy task for each image."""

import asyncio
import time
from collections.abc import Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet

import msgspec

from syncer.engine.ages import tag_times
from syncer.engine.image_copy import ImageCopy
from syncer.engine.images import CopyImage, image_key
from syncer.engine.task import Job, Key, Reschedule, Task
from syncer.errors import Attempt, Kind, RegistryError
from syncer.events import Decision, ImageSkipped, RuleWarning, SkipReason, TagsListed
from syncer.oci.digest import Digest
from syncer.oci.reference import Reference, Repository, is_tag
from syncer.oci.referrers import is_fallback_tag, is_referrer_tag, subject_of
from syncer.rules.rule import Conflict, Destination, Rule
from syncer.rules.tag_filter import FilteredTags
from syncer.rules.tags import AllTags, MatchingTags, OneDigest, TheseTags


def rule_key(rule: Rule) -> Key:
    return ("rule", rule.number, rule.source)


def repositories_key(rules: Sequence[Rule]) -> Key:
    """Return the key of the listing of repositories that some rules with patterns need."""
    return ("repositories", rules[0].source.host, rules[0].number)


class SelectedTags(msgspec.Struct, frozen=True):
    """The selected tags, in order. `why_none` says why there are none, if that is known."""

    tags: Sequence[str | None]
    why_none: str = ""


class ListTags(Task):
    """Lists the tags that a rule selects, and adds a lazy task for each image."""

    kind = "tags"
    __slots__ = ("destinations", "listed", "rule")

    def __init__(self, rule: Rule) -> None:
        super().__init__([rule_key(rule)])
        self.rule = rule
        self.destinations = list(rule.destinations)
        self.listed: set[Reference] = set()  # immutable tags that the destinations have

    def __str__(self) -> str:
        return f"list {self.rule.source}"

    @property
    def repositories(self) -> Iterable[Repository]:
        return (self.rule.source, *(each.repository for each in self.destinations))

    async def run(self, job: Job) -> Reschedule | None:
        rule = self.rule
        job.selections.begin(rule)
        for destination in list(self.destinations):
            if conflict := rule.conflict_at(Reference(destination.repository)):
                self.destinations.remove(destination)
                self._tell_failed(job, destination, conflict_error(conflict))
        if not self.destinations:
            return None
        selected = await self._learn(job)
        self._add_images(job, selected)
        return None

    def _add_images(self, job: Job, selected: SelectedTags) -> None:
        """Add a lazy task for each selected tag. Raises `RegistryError` if the destination's tags do not fit them."""
        rule = self.rule
        self._check_number(selected.tags)
        job.selections.want(rule, self._wanted(selected.tags))
        job.selections.complete(rule, job.repositories.source(rule.source).listing_doubt())
        if not any(map(self.is_wanted, selected.tags)):
            message = f"{rule}: no tag of {rule.source} is selected{selected.why_none}"
            job.observer.notify(RuleWarning(rule, message))
        job.graph.add_lazy(self._images(job, selected.tags), repositories=self.repositories)

    def is_wanted(self, tag: str | None) -> bool:  # noqa: ARG002
        """Return whether a selected tag is to be copied."""
        return True

    def _wanted(self, tags: Sequence[str | None]) -> Iterator[Reference]:
        """Yield the images that the rule selects, as named at the destinations."""
        digest = self.rule.selection.digest if isinstance(self.rule.selection, OneDigest) else None
        for destination in self.destinations:
            for index, tag in enumerate(tags):
                to_tag = destination.tag_for(tag, index)
                yield Reference(destination.repository, to_tag, None if to_tag else digest)

    def _check_number(self, selected: Sequence[str | None]) -> None:
        """Raise `RegistryError` if the destination has another number of tags than the source."""
        if mismatch := self.rule.mismatch(len(selected)):
            raise RegistryError(
                Kind.INVALID, mismatch, attempt=Attempt(self.rule.source.host), permanent=True
            )

    async def _learn(self, job: Job) -> SelectedTags:
        """Query the source and the destinations at once, so that the round trips overlap."""
        # An audit checks immutable tags too.
        trusts_listing = bool(self.rule.immutable) and job.open_image is None
        selected: SelectedTags | RegistryError
        async with asyncio.TaskGroup() as group:
            if not trusts_listing:
                for repository in self._destination_repositories():
                    group.create_task(self._look_at(job, repository))
            try:
                selected = await self._selected(job)
            except RegistryError as error:
                # Not raised in here: a task group would wrap it.
                selected = error
        if isinstance(selected, RegistryError):
            raise selected
        if trusts_listing:
            async with asyncio.TaskGroup() as group:
                for repository in self._destination_repositories():
                    group.create_task(self._list_immutable(job, repository, selected.tags))
        return selected

    def _destination_repositories(self) -> Iterable[Repository]:
        return dict.fromkeys(destination.repository for destination in self.destinations)

    async def _list_immutable(self, job: Job, repository: Repository, selected: Sequence[str | None]) -> None:
        """Find the immutable tags that a destination lists. What is not known of them is asked for each tag later."""
        wanted = {
            tag
            for destination in self.destinations
            if destination.repository == repository and len(destination.tags or selected) == len(selected)
            for index, source_tag in enumerate(selected)
            if (tag := destination.tag_for(source_tag, index)) and self.rule.is_immutable(tag)
        }
        found = await self._tags_at(job, repository, wanted) if wanted else None
        if not found:
            await self._look_at(job, repository)
        for tag in wanted.intersection(found or ()):
            self.listed.add(Reference(repository, tag))

    async def _tags_at(
        self, job: Job, repository: Repository, wanted: AbstractSet[str]
    ) -> AbstractSet[str] | None:
        """Return the tags of a destination, at least until all `wanted` ones are found. None if they are not known."""
        if (known := job.ledger.tags(repository)) is not None:
            return known
        found: set[str] = set()
        try:
            async for page in job.repositories.destination(repository).tags():
                found.update(page)
                if wanted <= found:
                    return found
        except RegistryError as error:
            job.observer.notify(
                Decision(str(repository), f"cannot tell which immutable tags it has: {error}")
            )
            return None
        if repository in job.shared_destinations:
            job.ledger.record_tags(repository, found)
        return found

    async def _look_at(self, job: Job, repository: Repository) -> None:
        """Check whether the destination is new: a new repository needs no further checks."""
        if job.force or not job.ledger.claim_probe(repository):
            return
        try:
            if await job.repositories.destination(repository).is_new():
                job.ledger.record_new(repository)
        except RegistryError as error:
            # The images will hit the same error, and report it with more detail.
            job.observer.notify(Decision(str(repository), f"cannot tell whether it is new: {error}"))

    async def _selected(self, job: Job) -> SelectedTags:
        rule, selection = self.rule, self.rule.selection
        match selection:
            case TheseTags():
                return SelectedTags(selection.tags)
            case OneDigest():
                return SelectedTags((selection.tag,))
            case AllTags() | MatchingTags():
                found = await self._listed(job)
                selected = list(filter(selection.matches, found))
                lists = [tag for tag in selected if _carried_subject(rule, tag)]
                selected = [tag for tag in selected if not _is_left_to_referrers(rule, tag)]
                job.observer.notify(TagsListed(rule, rule.source, len(found), len(selected)))
                return SelectedTags([*selected, *lists])
            case FilteredTags():
                return await self._filtered(job, selection)

    async def _listed(self, job: Job) -> list[str]:
        """Return all tags of the source."""
        found: list[str] = []
        async for page in job.repositories.source(self.rule.source).tags():
            found += page
        if self.rule.referrers or self.rule.verify:
            job.referrers.record_tags(self.rule.source, found)
        # A registry may list a tag twice if it moves between two pages.
        return list(dict.fromkeys(found))

    async def _filtered(self, job: Job, selection: FilteredTags) -> SelectedTags:
        """Return the tags that `tags` of the rule selects. Raises `RegistryError` if they are too few."""
        rule = self.rule
        listed = await self._listed(job)
        source, now = job.repositories.source(rule.source), time.time()
        candidates = selection.candidates(listed)
        times: dict[str, float] = {}
        while unknown := selection.unknown_ages(candidates, times, now):
            times.update(await tag_times(source, unknown, job.image_times, now))
            if gone := {tag for tag in unknown if tag not in times}:
                # They were removed since the tags were listed.
                listed = [tag for tag in listed if tag not in gone]
                candidates = selection.candidates(listed)
        selected = selection.select(candidates, times, now)
        event = TagsListed(rule, rule.source, len(listed), len(selected.tags), selected.steps)
        job.observer.notify(event)
        if len(selected.tags) < selection.at_least:
            raise RegistryError(
                Kind.INVALID,
                f"`at_least` expects {selection.at_least} tags of {rule.source}, and {len(selected.tags)} are selected:"
                f" {event.steps_text}",
                attempt=Attempt(rule.source.host),
                permanent=True,
                advice=selection.advice(listed) if not selected.tags else "check the keys of `tags`",
            )
        if selected.tags and (absent := selection.absent(listed)):
            message = f"{rule}: {rule.source} has no tag {', '.join(absent)}, which `include` names"
            job.observer.notify(RuleWarning(rule, message))
        why = "" if selected.tags else f": {event.steps_text}; {selection.advice(listed)}"
        return SelectedTags(selected.tags, why)

    def _images(self, job: Job, tags: Sequence[str | None]) -> Iterator[Task]:
        rule = self.rule
        digest = rule.selection.digest if isinstance(rule.selection, OneDigest) else None
        own: dict[Reference, Reference] = {}
        may_meet = self._may_meet(tags)
        for index, tag in enumerate(tags):
            if not self.is_wanted(tag):
                continue
            source = Reference(rule.source, tag, digest)
            copies = []
            for destination in self.destinations:
                to_tag = destination.tag_for(tag, index)
                reference = Reference(destination.repository, to_tag, None if to_tag else digest)
                copy = self._copy(source, reference, destination)
                mine = own.get(reference)
                claimed_by = mine or job.claim(reference, source, rule.number)
                if may_meet:
                    own.setdefault(reference, source)
                if refusal := self._refusal(reference, source):
                    copy.tell_failed(job.observer, refusal.as_failure())
                elif claimed_by is None and reference in self.listed:
                    self._skip_listed(job, copy)
                elif claimed_by is None:
                    copies.append(copy)
                elif claimed_by != source:
                    error = RegistryError(
                        Kind.CONFLICT,
                        f"{'this' if mine else 'another'} rule already writes {claimed_by} there",
                        attempt=Attempt(reference.repository.host),
                        advice=_other_destination(destination),
                    )
                    copy.tell_failed(job.observer, error.as_failure())
            if copies and (subject := _carried_subject(rule, tag)):
                if job.open_image is None:
                    from syncer.engine.referrers import CopyListedReferrers

                    yield from (
                        CopyListedReferrers(image_key(copy.destination), subject, copy) for copy in copies
                    )
            elif copies:
                if job.open_image is not None:
                    yield from job.open_image(rule, source, copies)
                else:
                    yield CopyImage(rule, source, copies)

    def _skip_listed(self, job: Job, copy: ImageCopy) -> None:
        copy.finished = True
        job.observer.notify(
            ImageSkipped(self.rule, copy.source, copy.destination, None, SkipReason.IMMUTABLE)
        )

    def _refusal(self, reference: Reference, source: Reference) -> RegistryError | None:
        if conflict := self._conflict(reference, source):
            return conflict_error(conflict)
        if reference.tag is None or is_tag(reference.tag):
            return None
        message = f"expected a tag of at most 128 characters, found {reference.tag[:140]!r}"
        return RegistryError(
            Kind.INVALID, message, attempt=Attempt(reference.repository.host), permanent=True
        )

    def _copy(self, source: Reference, reference: Reference, destination: Destination) -> ImageCopy:
        return ImageCopy(self.rule, source, reference, attestations=destination.attestations)

    def _conflict(self, reference: Reference, source: Reference) -> Conflict | None:
        if reference.tag and (reference.repository, reference.tag) == (source.repository, source.tag):
            return Conflict(reference, f"both sides are the same image, {source.repository}:{source.tag}")
        return self.rule.conflict_at(reference) if self.rule.conflicts else None

    def _may_meet(self, tags: Sequence[str | None]) -> bool:
        """Return whether two images of this rule can have the same destination."""
        repositories = [destination.repository for destination in self.destinations]
        listings: list[Sequence[object]] = [tags, repositories]
        listings += [destination.tags for destination in self.destinations if destination.tags]
        return any(len(set(listing)) < len(listing) for listing in listings)

    def failed(self, job: Job, error: RegistryError) -> None:
        for destination in self.destinations:
            self._tell_failed(job, destination, error)

    def _tell_failed(self, job: Job, destination: Destination, error: RegistryError) -> None:
        """Say that nothing gets to a destination. Its tags are not known then."""
        rule = self.rule
        tag = rule.selection.tag if isinstance(rule.selection, OneDigest) else None
        copy = ImageCopy(rule, Reference(rule.source, tag), Reference(destination.repository, tag))
        copy.tell_failed(job.observer, error.as_failure())


def _other_destination(destination: Destination) -> str:
    """Return what a user can do about two sources that meet at one tag."""
    if destination.template:
        return "put {path} in the destination, so that each source has a repository of its own"
    return "give one of the two another destination"


def _is_left_to_referrers(rule: Rule, tag: str) -> bool:
    """Return whether a rule does not copy a tag as an image.

    A fallback tag is merged with the destination's, not replaced by it. Nobody signs signatures.
    """
    return (rule.referrers is not None and is_fallback_tag(tag)) or (
        bool(rule.verify) and is_referrer_tag(tag)
    )


def _carried_subject(rule: Rule, tag: str | None) -> Digest | None:
    """Return the subject of a fallback tag if the referrers that it lists are copied although the subject may not be.

    An archive may have new referrers of an image that an earlier archive has.
    """
    if rule.referrers is None or rule.source.layout is None or not (tag and is_fallback_tag(tag)):
        return None
    return subject_of(tag)


def conflict_error(conflict: Conflict) -> RegistryError:
    """The error of an image that the rules themselves do not let be copied."""
    return RegistryError(
        Kind.CONFLICT, conflict.message, attempt=Attempt(conflict.target.repository.host), permanent=True
    )
