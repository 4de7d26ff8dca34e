"""Listings of a part of a rule: `ListNarrowed` for runs of some tags, `ListAnnounced` for tags that were just pushed."""

import itertools
from collections.abc import Iterator, Mapping, Sequence

from syncer.engine.image_copy import ImageCopy
from syncer.engine.listing import ListTags, SelectedTags
from syncer.engine.task import Job, Priority, Task
from syncer.errors import RegistryError
from syncer.oci.digest import Digest
from syncer.oci.reference import Reference, Repository
from syncer.oci.referrers import is_referrer_tag
from syncer.rules.globs import matches_any
from syncer.rules.rule import Destination, Rule
from syncer.rules.tag_filter import FilteredTags
from syncer.rules.tags import AllTags, MatchingTags, TagSelection

_numbers = itertools.count()


class ListNarrowed(ListTags):
    """Copies those of the rule's tags that a glob matches. `globs` are globs of tags."""

    __slots__ = ("globs",)

    def __init__(self, rule: Rule, globs: Sequence[str]) -> None:
        super().__init__(rule)
        self.globs = tuple(globs)

    def is_wanted(self, tag: str | None) -> bool:
        return tag is not None and matches_any(self.globs, tag)


class ListAnnounced(ListTags):
    """Copies tags that a registry has announced, ahead of all other work.

    `announced` maps each tag to the digest that the event named, if it did. A rule of one digest without a tag has the
    key None, and a manifest without a tag its digest. If each tag is selected by itself, nothing is listed. `waiting` is
    the number of images that are not begun yet.

    If the rule copies referrers or verifies signatures, and one was announced, all tags of the rule are checked: the
    image that it refers to can have any of them, or be a child of one.
    """

    __slots__ = ("announced", "everything", "waiting")

    def __init__(self, rule: Rule, announced: Mapping[str | None, Digest | None]) -> None:
        super().__init__(rule)
        self.keys = (("announced", next(_numbers)),)
        self.priority = Priority.URGENT
        self.announced = dict(announced)
        self.waiting = len(announced)
        self.everything = False

    def is_wanted(self, tag: str | None) -> bool:
        return self.everything or tag in self.announced

    async def _look_at(self, job: Job, repository: Repository) -> None:
        """Ask nothing about the repository: that would be one more request for each event."""

    async def _selected(self, job: Job) -> SelectedTags:
        selection = self.rule.selection
        if await self._has_referrer(job):
            self.everything = True
            job.referrers.forget(self.rule.source)
            return await super()._selected(job)
        renames = any(destination.tags for destination in self.rule.destinations)
        if _decides_each_tag(selection) and not renames:
            return SelectedTags([tag for tag in self._tags() if selection.matches(tag)])
        return await super()._selected(job)

    def _tags(self) -> Iterator[str]:
        return (tag for tag in self.announced if tag is not None and not _is_digest(tag))

    async def _has_referrer(self, job: Job) -> bool:
        """Return whether a referrer of another manifest was announced, and the rule needs referrers."""
        if self.rule.referrers is None and not self.rule.verify:
            return False
        if any(map(is_referrer_tag, self._tags())):
            return True
        source = job.repositories.source(self.rule.source)
        for tag in self.announced:
            if tag is not None and _is_digest(tag):
                try:
                    if (await source.fetch_manifest(Digest.parse(tag))).subject is not None:
                        return True
                except RegistryError as error:
                    # It is not there any more, or is nothing that refers to an image.
                    if not error.permanent:
                        raise
        return False

    def _add_images(self, job: Job, selected: SelectedTags) -> None:
        self._check_number(selected.tags)
        job.selections.want(self.rule, self._wanted(selected.tags))
        self.waiting = sum(map(self.is_wanted, selected.tags))
        job.graph.add_ahead(self._images(job, selected.tags), repositories=self.repositories)

    def _images(self, job: Job, tags: Sequence[str | None]) -> Iterator[Task]:
        for task in super()._images(job, tags):
            self.waiting -= 1
            yield task
        self.waiting = 0

    def _copy(self, source: Reference, reference: Reference, destination: Destination) -> ImageCopy:
        copy = super()._copy(source, reference, destination)
        copy.priority = Priority.URGENT
        copy.announced = self.announced.get(source.tag)
        return copy

    def failed(self, job: Job, error: RegistryError) -> None:
        self.waiting = 0
        for tag in self.announced:
            if tag is not None and _is_digest(tag):
                continue
            source = Reference(self.rule.source, tag)
            for destination in self.destinations:
                copy = ImageCopy(self.rule, source, Reference(destination.repository, tag))
                copy.tell_failed(job.observer, error.as_failure())


def _is_digest(tag: str) -> bool:
    return ":" in tag


def _decides_each_tag(selection: TagSelection) -> bool:
    """Return whether the other tags of the repository do not matter: there is no `latest`, `at_least` or age."""
    if isinstance(selection, FilteredTags):
        return not (selection.needs_ages or selection.quota or selection.at_least)
    return isinstance(selection, AllTags | MatchingTags)
