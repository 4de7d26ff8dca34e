"""`CopyImage`: bring one image to its destinations, unless it is there already."""

import time
from collections.abc import Iterable, Mapping

import anyio

from syncer.engine.image_copy import ImageBudget, ImageCopy
from syncer.engine.manifests import PushManifest, Successors
from syncer.engine.platform_filter import fetch_config, filter_index, platform_in
from syncer.engine.targets import MultiTargetTask
from syncer.engine.task import Job, Key, Lane, Reschedule
from syncer.errors import Attempt, DigestMismatch, RegistryError, source_not_found
from syncer.events import (
    BytesMoved,
    Decision,
    ImageSkipped,
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
        wanted = await self._ask_all(job)
        for copy in list(self.targets.values()):
            copy.digest = wanted
            if not job.force and self._is_current(job, copy):
                copy.digest = copy.previous
                self._skip(job, copy, SkipReason.UP_TO_DATE)
        return await self._bring(job) if self.targets else None

    async def _ask_all(self, job: Job) -> Digest | None:
        """Ask both sides at once: the round trips overlap. What the source's tag names; None if it was not asked.

        It is not where all destinations are new: its manifest will be fetched anyway.
        """
        asked = [copy for copy in self.targets.values() if _may_be_there(job, copy)]
        refused: dict[ImageCopy, RegistryError] = {}
        wanted: Digest | RegistryError | None = self.source.digest

        async def ask(copy: ImageCopy) -> None:
            try:
                destination = job.repositories.destination(copy.destination.repository)
                found = await destination.resolve(self._named(job, copy))
                copy.previous = found.digest if found else None
            except RegistryError as error:
                refused[copy] = error

        if asked:
            async with anyio.create_task_group() as group:
                for copy in asked:
                    group.start_soon(ask, copy)
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
        """What the image is called at a destination: by its tag, or by the digest that the filter gives it there."""
        digest = copy.destination.digest
        filtered = (
            self.rule.platforms and digest and job.ledger.cache.filtered(digest, str(self.rule.platforms))
        )
        return filtered or copy.destination.target

    def _is_current(self, job: Job, copy: ImageCopy) -> bool:
        if copy.previous is None or copy.digest is None:
            return False
        if copy.previous == copy.digest:
            return True
        # What is there may be what the filter makes of the source's index: an earlier run may know.
        filtered = self.rule.platforms and job.ledger.cache.filtered(copy.digest, str(self.rule.platforms))
        return copy.previous == filtered

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
        job.observer.notify(BytesMoved("pulled", self.source.repository.host, len(found.raw)))
        if _is_large(found) and (wait := self._queue_up(job)):
            return wait
        fetched: dict[Digest, bytes] = {}
        manifest = await self._filtered(job, found, fetched) if self.rule.platforms else found
        if manifest is None:
            message = f"{self.source}: no platform is left by the filter"
            job.observer.notify(RuleWarning(self.rule, message))
            for copy in list(self.targets.values()):
                copy.digest = None
                self._skip(job, copy, SkipReason.NO_PLATFORM)
            return None
        if manifest is not found:
            await self._look_again(job, manifest.digest)
        for copy in list(self.targets.values()):
            there = copy.previous
            copy.digest = manifest.digest
            if there and manifest.is_named_by(there) and not job.force:
                copy.digest = there
                self._skip(job, copy, SkipReason.UP_TO_DATE)
        if self.targets:
            self._add_parts(job, manifest, fetched)
        return None

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

    def _add_parts(self, job: Job, manifest: Manifest, fetched: Mapping[Digest, bytes]) -> None:
        for copy in self.targets.values():
            copy.budget = ImageBudget()
            copy.budget.charge(manifest, self.source.repository)
        job.observer.notify(ImageStarted(self.rule, self.source, tuple(self.targets)))
        stale = list(self.targets.values())
        for copy in stale:
            why = f"it names {copy.previous} there" if copy.previous else "it is not there"
            job.observer.notify(Decision(str(copy.destination), f"gets {manifest.digest}: {why}"))
        successors = Successors(self.source.repository, manifest, stale, depth=0, fetched=fetched)
        successors.add_parts(job)
        for copy in stale:
            repository = copy.destination.repository
            known = job.ledger.has_manifest(repository, manifest.digest) and not job.force
            push = PushManifest(image_key(copy.destination), manifest, repository, copy=copy)
            job.graph.add(push, needs=() if known else successors.needs(repository), replaces=self)

    async def _look_again(self, job: Job, filtered: Digest) -> None:
        """Ask destinations without a tag for what the filter has made: its digest is known only now."""
        for destination, copy in list(self.targets.items()):
            if destination.tag or copy.previous:
                continue
            try:
                there = await job.repositories.destination(destination.repository).resolve(filtered)
            except RegistryError as error:
                self.split_off(job, destination, error)
            else:
                copy.previous = there.digest if there else None

    async def _filtered(self, job: Job, found: Manifest, fetched: dict[Digest, bytes]) -> Manifest | None:
        """What the rule's platforms leave of an image; None if nothing. A config that is read goes into `fetched`."""
        if not found.is_index:
            content = await fetch_config(found, job.repositories.source(self.source.repository))
            job.observer.notify(BytesMoved("pulled", self.source.repository.host, len(content)))
            if found.config and 0 < found.config.size == len(content) <= _KEPT_CONFIG:
                fetched[found.config.digest] = content
            return found if self.rule.platforms.matches(platform_in(content)) else None
        filtered = filter_index(found, self.rule.platforms)
        if filtered is not None and filtered is not found:
            job.ledger.cache.record_filtered(found.digest, str(self.rule.platforms), filtered.digest)
            kept = {child.digest for child in filtered.children}
            job.observer.notify(
                IndexFiltered(
                    self.rule,
                    self.source,
                    found.digest,
                    filtered.digest,
                    tuple(
                        str(child.platform or "unknown") for child in found.children if child.digest in kept
                    ),
                    tuple(
                        str(child.platform or "unknown")
                        for child in found.children
                        if child.digest not in kept
                    ),
                )
            )
        return filtered

    def _skip(self, job: Job, copy: ImageCopy, reason: SkipReason) -> None:
        """There is nothing to do at one destination: it is done."""
        copy.finished = True
        del self.targets[copy.destination]
        job.observer.notify(Decision(str(copy.destination), f"left as it is: {reason}"))
        job.graph.settle(self, image_key(copy.destination))
        job.observer.notify(
            ImageSkipped(copy.rule, copy.source, copy.destination, copy.digest, reason, copy.seconds)
        )

    def failed(self, job: Job, error: RegistryError) -> None:
        for copy in self.targets.values():
            if not copy.finished:
                copy.tell_failed(job.observer, error.as_failure())
