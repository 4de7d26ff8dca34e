"""`CopyImage`: bring one image to its destinations, unless it is there already."""

import time
from collections.abc import Iterable

import anyio

from syncer.engine.image_copy import ImageCopy
from syncer.engine.job import Job
from syncer.engine.manifests import PushManifest, Successors
from syncer.engine.platform_filter import fetch_config, filter_index, platform_in
from syncer.engine.task import Key, Reschedule, Task
from syncer.errors import RegistryError, source_not_found
from syncer.events import BytesMoved, Decision, ImageSkipped, ImageStarted, IndexFiltered, RuleWarning
from syncer.oci.descriptor import Descriptor
from syncer.oci.digest import Digest
from syncer.oci.manifest import Manifest
from syncer.oci.reference import Reference, Repository
from syncer.rules.platforms import EVERY_PLATFORM, PlatformFilter

_KEPT_CONFIG = 32 * 1024
"""Bytes. A config that was read for its platform is kept until it is pushed, if it is no larger."""


def image_key(copy: ImageCopy) -> Key:
    return ("image", copy.destination.repository, copy.destination.target)


def _may_be_there(job: Job, copy: ImageCopy) -> bool:
    """Whether to ask the destination: not where it is new, but for what has no tag.

    docker-registry calls a repository new as long as it has no tags, whatever was pushed by digest.
    """
    return copy.destination.tag is None or not job.ledger.is_new(copy.destination.repository)


class CopyImage(Task):
    """Bring one image to its destinations, unless it is there already.

    Where the destination is new, nothing is asked there but for what has no tag, and the source's manifest is fetched
    without a HEAD.
    """

    kind = "image"
    __slots__ = ("copies", "platforms", "source")

    def __init__(
        self, source: Reference, copies: list[ImageCopy], platforms: PlatformFilter = EVERY_PLATFORM
    ) -> None:
        super().__init__([image_key(copy) for copy in copies])
        self.platforms = platforms
        self.source = source
        self.copies = copies

    def __str__(self) -> str:
        return f"copy {self.source}"

    @property
    def repositories(self) -> Iterable[Repository]:
        return (self.source.repository, *(copy.destination.repository for copy in self.copies))

    async def run(self, job: Job) -> Reschedule | None:
        for copy in self.copies:
            copy.started = copy.started or time.monotonic()
        wanted = await self._ask_all(job)
        self.copies = self._stale(job, self.copies, wanted)
        if self.copies:
            await self._bring(job)
        return None

    async def _ask_all(self, job: Job) -> Digest | None:
        """Ask both sides at once: the round trips overlap. What the source's tag names; None if it was not asked.

        It is not where all destinations are new: its manifest will be fetched anyway.
        """
        asked = [copy for copy in self.copies if _may_be_there(job, copy)]
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
            self._split_off(job, copy, refusal)
        if isinstance(wanted, RegistryError):
            raise wanted
        return wanted

    def _named(self, job: Job, copy: ImageCopy) -> str:
        """What the image is called at a destination: by its tag, or by the digest that the filter gives it there."""
        digest = copy.destination.digest
        filtered = self.platforms and digest and job.ledger.cache.filtered(digest, str(self.platforms))
        return filtered or copy.destination.target

    def _split_off(self, job: Job, copy: ImageCopy, error: RegistryError) -> None:
        """Leave a destination that failed to a task of its own. Raises `error` where it is the only one."""
        if len(self.copies) == 1:
            raise error
        self.copies.remove(copy)
        job.split_off(self, CopyImage(self.source, [copy], self.platforms), error)

    def _stale(self, job: Job, copies: list[ImageCopy], wanted: Digest | None) -> list[ImageCopy]:
        """Those of `copies` that are not up to date; the others are done."""
        stale = []
        for copy in copies:
            copy.digest = wanted
            if job.force or not self._is_current(job, copy):
                stale.append(copy)
            else:
                self._skip(job, copy, "up to date")
        return stale

    def _is_current(self, job: Job, copy: ImageCopy) -> bool:
        if copy.previous is None or copy.digest is None:
            return False
        if copy.previous == copy.digest:
            return True
        # What is there may be what the filter makes of the source's index: an earlier run may know.
        filtered = self.platforms and job.ledger.cache.filtered(copy.digest, str(self.platforms))
        return copy.previous == filtered

    async def _resolve(self, job: Job) -> Descriptor:
        found = await job.repositories.source(self.source.repository).resolve(self.source.target)
        if found is None:
            raise source_not_found(str(self.source), self.source.repository.host)
        return found

    async def _bring(self, job: Job) -> None:
        source = job.repositories.source(self.source.repository)
        # The digest where it is known: the tag may have moved since it was asked for.
        found = await source.fetch_manifest(self.copies[0].digest or self.source.target)
        job.observer.notify(BytesMoved("pulled", self.source.repository.host, len(found.raw)))
        fetched: dict[Digest, bytes] = {}
        manifest = await self._filtered(job, found, fetched) if self.platforms else found
        if manifest is None:
            message = f"{self.source}: no platform is left by the filter"
            job.observer.notify(RuleWarning(self.copies[0].rule, message))
        elif manifest is not found:
            await self._look_again(job, manifest.digest)
        copies = self.copies
        for copy in copies:
            copy.digest = manifest.digest if manifest else None
        stale = [copy for copy in copies if manifest and (copy.previous != manifest.digest or job.force)]
        for copy in copies:
            if copy not in stale:
                self._skip(job, copy, "up to date" if manifest else "no platform is left by the filter")
        if manifest is None or not stale:
            return
        job.observer.notify(
            ImageStarted(stale[0].rule, self.source, tuple(copy.destination for copy in stale))
        )
        for copy in stale:
            why = f"it names {copy.previous} there" if copy.previous else "it is not there"
            job.observer.notify(Decision(str(copy.destination), f"gets {manifest.digest}: {why}"))
        successors = Successors(self.source.repository, manifest, stale, depth=0, fetched=fetched)
        successors.add_parts(job)
        for copy in stale:
            repository = copy.destination.repository
            known = job.ledger.has_manifest(repository, manifest.digest) and not job.force
            push = PushManifest(image_key(copy), manifest, repository, copy=copy)
            job.graph.add(push, needs=() if known else successors.needs(repository), replaces=self)

    async def _look_again(self, job: Job, filtered: Digest) -> None:
        """Ask destinations without a tag for what the filter has made: its digest is known only now."""
        for copy in list(self.copies):
            if copy.destination.tag or copy.previous:
                continue
            try:
                there = await job.repositories.destination(copy.destination.repository).resolve(filtered)
            except RegistryError as error:
                self._split_off(job, copy, error)
            else:
                copy.previous = there.digest if there else None

    async def _filtered(self, job: Job, found: Manifest, fetched: dict[Digest, bytes]) -> Manifest | None:
        """What the rule's platforms leave of an image; None if nothing. A config that is read goes into `fetched`."""
        if not found.is_index:
            content = await fetch_config(found, job.repositories.source(self.source.repository))
            job.observer.notify(BytesMoved("pulled", self.source.repository.host, len(content)))
            if found.config and 0 < len(content) <= _KEPT_CONFIG:
                fetched[found.config.digest] = content
            return found if self.platforms.matches(platform_in(content)) else None
        filtered = filter_index(found, self.platforms)
        if filtered is not None and filtered is not found:
            job.ledger.cache.record_filtered(found.digest, str(self.platforms), filtered.digest)
            kept = {child.digest for child in filtered.children}
            job.observer.notify(
                IndexFiltered(
                    self.copies[0].rule,
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

    def _skip(self, job: Job, copy: ImageCopy, reason: str) -> None:
        copy.finished = True
        job.observer.notify(Decision(str(copy.destination), f"left as it is: {reason}"))
        job.graph.settle(self, image_key(copy))
        job.observer.notify(
            ImageSkipped(copy.rule, copy.source, copy.destination, copy.digest, reason, copy.seconds)
        )

    def failed(self, job: Job, error: RegistryError) -> None:
        for copy in self.copies:
            if not copy.finished:
                copy.tell_failed(job.observer, error.as_failure())
