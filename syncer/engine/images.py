"""`CopyImage`: bring one image to its destinations, unless it is there already."""

import asyncio
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence

from syncer.engine.image_copy import ImageBudget, ImageCopy, add_referrers
from syncer.engine.platform_filter import IndexFilter, entry_name, fetch_config, platform_in
from syncer.engine.targets import MultiTargetTask
from syncer.engine.task import Job, Key, Lane, Reschedule
from syncer.errors import Attempt, DigestMismatch, RegistryError, source_not_found
from syncer.events import (
    BytesMoved,
    Decision,
    ImageStarted,
    IndexFiltered,
    RuleWarning,
    SkipReason,
)
from syncer.oci import media_types
from syncer.oci.descriptor import Descriptor
from syncer.oci.digest import Digest
from syncer.oci.manifest import Manifest
from syncer.oci.reference import Reference, Repository
from syncer.rules.rule import Rule

MANY_PARTS = 500
"""Blobs and children. Images of more are copied one after the other: each part is a task."""
_KEPT_CONFIG = 32 * 1024
"""Bytes. A config that was read for its platform is kept until it is pushed, if it is no larger."""


def image_key(destination: Reference) -> Key:
    return ("image", destination.repository, destination.target)


def _may_be_there(job: Job, copy: ImageCopy) -> bool:
    """Whether to ask the destination: not where it is new, but for what has no tag.

    docker-registry calls a repository new as long as it has no tags, whatever was pushed by digest.
    """
    return copy.destination.tag is None or not job.ledger.is_new(copy.destination.repository)


def _is_large(manifest: Manifest) -> bool:
    """Whether an image has many parts, or may have: nobody knows how large the indexes in an index are."""
    return len(manifest.blobs) + len(manifest.children) > MANY_PARTS or any(
        not child.media_type or child.media_type in media_types.INDEXES for child in manifest.children
    )


class CopyImage(MultiTargetTask[Reference]):
    """Bring one image to its destinations, unless it is there already.

    Where the destination is new, nothing is asked there but for what has no tag, and the source's manifest is fetched
    without a HEAD.
    """

    kind = "image"
    __slots__ = ("queued", "rule", "source")

    def __init__(self, rule: Rule, source: Reference, copies: Iterable[ImageCopy]) -> None:
        super().__init__({copy.destination: copy for copy in copies})
        self.rule = rule
        self.source = source
        self.queued = False  # among the large ones

    def __str__(self) -> str:
        return f"copy {self.source}"

    @property
    def repositories(self) -> Iterable[Repository]:
        return (self.source.repository, *(destination.repository for destination in self.targets))

    def key_for(self, target: Reference) -> Key:
        return image_key(target)

    def split(self, target: Reference) -> "CopyImage":
        part = CopyImage(self.rule, self.source, [self.targets.pop(target)])
        part.queued = self.queued
        return part

    async def run(self, job: Job) -> Reschedule | None:
        for copy in self.targets.values():
            copy.started = copy.started or time.monotonic()
        # An image whose signatures or referrers matter is looked at as a whole, also if it is unchanged.
        asks_once = not (job.force or self.rule.verify or self.rule.referrers)
        known = await self._skip_announced(job) if asks_once else set()
        if not self.targets:
            return None
        wanted = await self._ask_all(job, known)
        current = []
        for copy in list(self.targets.values()):
            copy.digest = wanted
            if not job.force and self._is_current(job, copy):
                current.append(copy)
        if current:
            if wanted is not None:
                await self._verify(job, wanted)
            self._skip_current(job, current)
        return await self._bring(job) if self.targets else None

    async def _verify(self, job: Job, digest: Digest) -> None:
        """Check the image's signatures, if the rule has keys. Raises `RegistryError`."""
        if self.rule.verify:
            from syncer.engine.verification import verify_image

            await verify_image(job, self.rule, self.source.repository, digest)

    async def _skip_announced(self, job: Job) -> set[ImageCopy]:
        """Skip the destinations that have what an event announced. The source is not asked: events are repeated.

        Return the copies whose destinations were asked.
        """
        known = set()
        for copy in [copy for copy in self.targets.values() if copy.announced]:
            copy.digest = copy.announced
            try:
                destination = job.repositories.destination(copy.destination.repository)
                found = await destination.resolve(self._named(job, copy))
            except RegistryError as error:
                self.split_off(job, copy.destination, error)
                continue
            copy.previous = found.digest if found else None
            copy.previous_type = found.media_type if found else ""
            # Another event may have announced another digest in the meantime: ask the source if the task runs again.
            copy.announced = None
            if self._is_current(job, copy):
                self._skip_current(job, [copy])
            else:
                known.add(copy)
        return known

    async def _ask_all(self, job: Job, known: set[ImageCopy]) -> Digest | None:
        """Ask both sides at once: the round trips overlap. What the source's tag names; None if it was not asked.

        It is not where all destinations are new: its manifest will be fetched anyway.
        """
        asked = [copy for copy in self.targets.values() if copy not in known and _may_be_there(job, copy)]
        refused: dict[ImageCopy, RegistryError] = {}
        wanted: Digest | RegistryError | None = self.source.digest

        async def ask(copy: ImageCopy) -> None:
            try:
                destination = job.repositories.destination(copy.destination.repository)
                named = self._named(job, copy)
                keeps = self.rule.keeps(copy.destination.tag)
                found = await (destination.resolve_certainly(named) if keeps else destination.resolve(named))
                copy.previous = found.digest if found else None
                copy.previous_type = found.media_type if found else ""
            except RegistryError as error:
                refused[copy] = error

        if asked:
            async with asyncio.TaskGroup() as group:
                for copy in asked:
                    group.create_task(ask(copy))
                if wanted is None:
                    try:
                        wanted = (await self._resolve(job)).digest
                    except RegistryError as error:
                        # Not raised in here: a task group would wrap it.
                        wanted = error
        for copy, refusal in refused.items():
            self.split_off(job, copy.destination, refusal)
        if isinstance(wanted, RegistryError):
            raise wanted
        return wanted

    def _named(self, job: Job, copy: ImageCopy) -> str:
        """What the image is called at a destination: by its tag, or by the digest that a filter has given it there."""
        digest = copy.destination.digest
        return next(self._rewritten(job, copy, digest), None) or copy.destination.target

    @staticmethod
    def _rewritten(job: Job, copy: ImageCopy, digest: Digest | None) -> Iterator[Digest]:
        """What the filters of a copy have made of the source's index in earlier runs, as far as that is known."""
        for each in copy.filters:
            if digest and each and (filtered := job.ledger.cache.filtered(digest, str(each))):
                yield filtered

    def _is_current(self, job: Job, copy: ImageCopy) -> bool:
        if copy.previous is None or copy.digest is None:
            return False
        if copy.previous == copy.digest and not (copy.filter and copy.previous_type in media_types.INDEXES):
            return True
        # What is there has to be what a filter makes of the source's index: an earlier run may know.
        return copy.previous in self._rewritten(job, copy, copy.digest)

    async def _resolve(self, job: Job) -> Descriptor:
        found = await job.repositories.source(self.source.repository).resolve(self.source.target)
        if found is None:
            raise source_not_found(str(self.source), self.source.repository.host)
        return found

    async def _bring(self, job: Job) -> Reschedule | None:
        source = job.repositories.source(self.source.repository)
        # The digest where it is known: the tag may have moved since it was asked for.
        known = next(iter(self.targets.values())).digest
        found = await source.fetch_manifest(known or self.source.target, tag=self.source.tag)
        if self.source.digest and not found.is_named_by(self.source.digest):
            raise DigestMismatch(
                f"the tag names {found.digest}, and the rule {self.source.digest}",
                attempt=Attempt(self.source.repository.host, "GET", "manifest", str(self.source)),
                permanent=True,
            )
        job.observer.notify(BytesMoved("pulled", self.source.repository.host, len(found.raw), "manifest"))
        await self._verify(job, found.digest)
        if _is_large(found) and (wait := self._queue_up(job)):
            return wait
        fetched: dict[Digest, bytes] = {}
        if self.rule.platforms and not found.is_index and not await self._is_wanted(job, found, fetched):
            self._skip_all(job, list(self.targets.values()))
            return None
        stale: dict[ImageCopy, Manifest] = {}
        for each, copies in self._by_filter().items():
            manifest = each.apply(found) if found.is_index else found
            if manifest is None:
                self._skip_all(job, copies)
            else:
                stale |= dict.fromkeys(await self._stale(job, found, manifest, copies), manifest)
        if stale:
            self._add_parts(job, found, stale, fetched)
        return None

    def _by_filter(self) -> Mapping[IndexFilter, list[ImageCopy]]:
        """The copies by what is left of an index for them."""
        copies: dict[IndexFilter, list[ImageCopy]] = {}
        for copy in self.targets.values():
            copies.setdefault(copy.filter, []).append(copy)
        return copies

    async def _stale(
        self, job: Job, found: Manifest, manifest: Manifest, copies: Sequence[ImageCopy]
    ) -> list[ImageCopy]:
        """The copies that need `manifest`, which is what their filter has made of the one that was `found`."""
        if copies[0].filter and found.is_index:
            job.ledger.cache.record_filtered(found.digest, str(copies[0].filter), manifest.digest)
        if manifest is not found:
            self._tell_filtered(job, found, manifest)
        for copy in copies:
            copy.digest = manifest.digest
            copy.source_digest = None if manifest is found else found.digest
        alternatives = [manifest]
        if found.is_index:
            made = (each.apply(found) for each in copies[0].filters[1:])
            alternatives += [each for each in made if each is not None and each is not found]
        await self._look_again(job, copies, [each for each in alternatives if each is not found])
        stale, current = [], []
        for copy in copies:
            there = copy.previous
            same = there and next((each for each in alternatives if each.is_named_by(there)), None)
            if copy.destination not in self.targets:
                continue  # it failed, and is another task's
            keeps = there is not None and self.rule.keeps(copy.destination.tag)
            # To push the manifest that is there once more changes no tag.
            if same and not (job.force and (not keeps or same is manifest)):
                copy.digest = there
                copy.source_digest = None if same is found else found.digest
                current.append(copy)
            elif keeps and not same:
                self._skip_drifted(job, copy)
            else:
                stale.append(copy)
        self._skip_with_referrers(job, current)
        return stale

    def _queue_up(self, job: Job) -> Reschedule | None:
        """Wait for the large image that is being copied. What was fetched is dropped until then: it fills the memory."""
        if self.queued:
            return None
        self.queued = True
        ahead = job.large_images.join(self.key_for(next(iter(self.targets))))
        if ahead is None or job.graph.producer(ahead) is None:
            return None
        job.observer.notify(Decision(str(self), "waits for another image of many parts"))
        return Reschedule(Lane.METADATA, after=(ahead,))

    def _add_parts(
        self,
        job: Job,
        found: Manifest,
        stale: Mapping[ImageCopy, Manifest],
        fetched: Mapping[Digest, bytes],
    ) -> None:
        """Bring what was `found` to the `stale` copies, each with the manifest that it is to have."""
        dropped = {}
        for copy, manifest in stale.items():
            copy.budget = ImageBudget()
            copy.budget.charge(manifest, self.source.repository)
            kept = {child.digest for child in manifest.children}
            dropped[copy.destination.repository] = frozenset(
                child.digest for child in found.children if child.digest not in kept
            )
        job.observer.notify(ImageStarted(self.rule, self.source, tuple(copy.destination for copy in stale)))
        for copy, manifest in stale.items():
            why = f"it names {copy.previous} there" if copy.previous else "it is not there"
            job.observer.notify(Decision(str(copy.destination), f"gets {manifest.digest}: {why}"))
        from syncer.engine.manifests import PushManifest, Successors

        successors = Successors(
            self.source.repository, found, tuple(stale), depth=0, fetched=fetched, dropped=dropped
        )
        successors.add_parts(job)
        referrers: dict[ImageCopy, Sequence[Key]] = {}
        for manifest in {manifest.digest: manifest for manifest in stale.values()}.values():
            getting = [copy for copy, each in stale.items() if each.digest == manifest.digest]
            referrers |= add_referrers(job, getting, manifest)
        for copy, manifest in stale.items():
            repository = copy.destination.repository
            known = job.ledger.has_manifest(repository, manifest.digest) and not job.force
            push = PushManifest(image_key(copy.destination), manifest, repository, copy=copy)
            needs = [*(() if known else successors.needs(repository)), *referrers.get(copy, ())]
            job.graph.add(push, needs=needs, replaces=self)

    async def _look_again(self, job: Job, copies: Sequence[ImageCopy], rewritten: Sequence[Manifest]) -> None:
        """Ask destinations without a tag for what the filters have made: the digests are known only now."""
        for copy in copies:
            for manifest in rewritten:
                if copy.destination.tag or copy.previous:
                    break
                try:
                    destination = job.repositories.destination(copy.destination.repository)
                    there = await destination.resolve(manifest.digest)
                except RegistryError as error:
                    self.split_off(job, copy.destination, error)
                    break
                copy.previous = there.digest if there else None

    async def _is_wanted(self, job: Job, image: Manifest, fetched: dict[Digest, bytes]) -> bool:
        """Whether the rule's platforms keep a single image. A config that is read for that goes into `fetched`."""
        content = await fetch_config(image, job.repositories.source(self.source.repository))
        job.observer.notify(BytesMoved("pulled", self.source.repository.host, len(content)))
        if image.config and 0 < image.config.size == len(content) <= _KEPT_CONFIG:
            fetched[image.config.digest] = content
        return self.rule.platforms.matches(platform_in(content))

    def _tell_filtered(self, job: Job, found: Manifest, filtered: Manifest) -> None:
        kept = {child.digest for child in filtered.children}
        job.observer.notify(
            IndexFiltered(
                self.rule,
                self.source,
                found.digest,
                filtered.digest,
                tuple(entry_name(child) for child in found.children if child.digest in kept),
                tuple(entry_name(child) for child in found.children if child.digest not in kept),
            )
        )

    def _skip_all(self, job: Job, copies: Sequence[ImageCopy]) -> None:
        """The filter leaves nothing of the image: say so."""
        message = f"{self.source}: no platform is left by the filter"
        job.observer.notify(RuleWarning(self.rule, message))
        for copy in copies:
            copy.digest = None
            self._skip(job, copy, SkipReason.NO_PLATFORM)

    def _skip_current(self, job: Job, copies: Sequence[ImageCopy]) -> None:
        """What the destinations have is the source's, or what a filter made of it."""
        for copy in copies:
            copy.source_digest = None if copy.previous == copy.digest else copy.digest
            copy.digest = copy.previous
        self._skip_with_referrers(job, copies)

    def _skip_with_referrers(self, job: Job, copies: Sequence[ImageCopy]) -> None:
        """What is up to date is done, once its referrers are at the destination too."""
        referrers = add_referrers(job, copies)
        for copy in copies:
            if needs := referrers.get(copy):
                from syncer.engine.referrers import SkipImage

                del self.targets[copy.destination]
                skip = SkipImage(image_key(copy.destination), copy, SkipReason.UP_TO_DATE)
                job.graph.add(skip, needs=needs, replaces=self)
            else:
                self._skip(job, copy, SkipReason.UP_TO_DATE)

    def _skip_drifted(self, job: Job, copy: ImageCopy) -> None:
        """The destination has another image, and the rule keeps it."""
        wanted, copy.digest, copy.source_digest = copy.digest, copy.previous, None
        self._skip(job, copy, SkipReason.KEPT, wanted)

    def _skip(self, job: Job, copy: ImageCopy, reason: SkipReason, wanted: Digest | None = None) -> None:
        """There is nothing to do at one destination: it is done."""
        del self.targets[copy.destination]
        job.observer.notify(Decision(str(copy.destination), f"left as it is: {reason}"))
        job.graph.settle(self, image_key(copy.destination))
        copy.tell_skipped(job.observer, reason, wanted)

    def failed(self, job: Job, error: RegistryError) -> None:
        for copy in self.targets.values():
            if not copy.finished:
                copy.tell_failed(job.observer, error.as_failure())
