"""What refers to a manifest at a source: the list of its referrers, and cosign's tags."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from syncer.errors import RegistryError
from syncer.oci.descriptor import Descriptor
from syncer.oci.digest import Digest
from syncer.oci.reference import Repository
from syncer.oci.referrers import cosign_tags, fallback_tag, is_referrer_tag
from syncer.places.content import ListsReferrers, Source
from syncer.rules.referrers import VerificationKey


class FoundReferrers(msgspec.Struct, frozen=True):
    """`descriptors` are the listed referrers, `tags` cosign's tags that may exist, with their artifact types."""

    descriptors: Sequence[Descriptor]
    tags: Mapping[str, str]


class ReferrerLists:
    """Finds referrers, and remembers for the run which fallback tags and tags of cosign each source has.

    The tags of a repository are listed at most once. One list is cheaper than requests for four tags of each image.
    `completed` are the keys of tasks that need not run again, such as for another tag of the same image.
    `verified` are the images that one of some keys has signed.
    """

    def __init__(self) -> None:
        self.completed: set[tuple[object, ...]] = set()
        self.verified: set[tuple[tuple[VerificationKey, ...], Repository, Digest]] = set()
        self._tags: dict[Repository, frozenset[str] | None] = {}
        self._listing: dict[Repository, asyncio.Lock] = {}

    def record_tags(self, repository: Repository, tags: Iterable[str]) -> None:
        """Record all tags of a source, which were listed for another reason."""
        self._tags[repository] = frozenset(filter(is_referrer_tag, tags))

    def forget(self, repository: Repository) -> None:
        """Forget what a source has, because a registry announced a new referrer."""
        self._tags.pop(repository, None)
        self.completed.clear()

    def has_none(self, source: Source) -> bool:
        """Return whether it is known that nothing at a source refers to anything."""
        by_tag_only = not isinstance(source, ListsReferrers) or source.lists_by_tag_only
        return by_tag_only and self._tags.get(source.name) == frozenset()

    async def find(self, source: Source, subject: Digest) -> FoundReferrers:
        """Return what refers to a manifest at a source. Raises `RegistryError`."""
        tags = await self._tags_of(source)
        tagged = None if tags is None else fallback_tag(subject) in tags
        listed: Sequence[Descriptor] = ()
        if isinstance(source, ListsReferrers):
            listed = await source.referrers(subject, tagged=tagged)
        named = cosign_tags(subject).items()
        return FoundReferrers(listed, {tag: kind for tag, kind in named if tags is None or tag in tags})

    async def _tags_of(self, source: Source) -> frozenset[str] | None:
        """Return the referrer tags of a source; None if it does not list its tags."""
        async with self._listing.setdefault(source.name, asyncio.Lock()):
            if source.name not in self._tags:
                found: list[str] = []
                try:
                    async for page in source.tags():
                        found += filter(is_referrer_tag, page)
                except RegistryError as error:
                    if not error.permanent:
                        raise
                    self._tags[source.name] = None
                else:
                    self.record_tags(source.name, found)
            return self._tags[source.name]
