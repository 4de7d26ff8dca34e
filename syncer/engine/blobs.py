"""`CopyBlob`: copy one blob to one or several repositories, by the cheapest method for each.

If the repository has the blob, nothing is sent. If another repository at the same registry has it, the blob is
mounted. Otherwise it is downloaded once and uploaded to every repository that needs it. Existence checks, mounts
and small blobs run in the metadata lane, large blobs in the transfer lane.
"""

import asyncio
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Literal

from syncer.engine.download import Download
from syncer.engine.image_copy import ImageCopy
from syncer.engine.mounts import find_holder, same_group
from syncer.engine.ranges import RangePrefetcher, may_be_split
from syncer.engine.relay import relay, relay_whole
from syncer.engine.targets import SourcedTask
from syncer.engine.task import Job, Key, Lane, Reschedule
from syncer.errors import DigestMismatch, Kind, RegistryError
from syncer.events import (
    BlobCompleted,
    BlobFinished,
    BlobProgress,
    BlobStarted,
    BytesMoved,
    Decision,
    RequestRetried,
)
from syncer.oci.descriptor import Descriptor
from syncer.oci.digest import Digest
from syncer.oci.reference import Repository
from syncer.places.content import Upload

Outcome = Literal["copied", "mounted", "present", "shared"]

SMALL = 256 * 1024
"""Bytes. Smaller blobs are copied in memory, in the metadata lane."""
ASK_FIRST_THRESHOLD = 32 * 1024 * 1024
"""Bytes. A blob of at least this size is checked even in a new repository: an interrupted run may have left it."""

CANCEL_SECONDS = 2.0
"""Seconds that canceling a failed upload session may take."""
_PASSING = frozenset({Kind.THROTTLED, Kind.TIMEOUT, Kind.CONNECTION, Kind.TLS})
"""Error kinds that do not tell whether the registry supports mounts."""
_UNFINISHED = RegistryError(Kind.INTERRUPTED, "the transfer was not finished")


def blob_key(repository: Repository, digest: Digest) -> Key:
    return ("blob", repository, digest)


class CopyBlob(SourcedTask):
    """Copies one blob of `source` to the repositories that are the keys of `targets`.

    `content` is set if the blob was fetched and verified before (small blobs only).
    """

    kind = "blob"
    __slots__ = (
        "absent",
        "blob",
        "content",
        "download",
        "failures",
        "mismatched",
        "sessions",
        "unmountable",
    )

    def __init__(
        self,
        blob: Descriptor,
        source: Repository,
        targets: Mapping[Repository, ImageCopy],
        content: bytes | None = None,
    ) -> None:
        self.blob = blob
        super().__init__(source, targets)
        self.content = content
        self.mismatched = False
        self.absent: set[Repository] = set()  # checked, blob not found
        self.unmountable: set[Repository] = set()  # mounts into these fail
        self.sessions: dict[Repository, Upload] = {}  # opened, or returned instead of a mount
        self.download: Download | None = None
        self.failures: dict[Repository, RegistryError | None] = {}

    def __str__(self) -> str:
        return f"blob {self.blob.digest[:19]} of {self.source}"

    @property
    def repositories(self) -> Iterable[Repository]:
        return (self.source, *self.targets)

    def key_for(self, target: Repository) -> Key:
        return blob_key(target, self.blob.digest)

    def split(self, target: Repository) -> "CopyBlob":
        part = CopyBlob(self.blob, self.source, {target: self.targets.pop(target)}, self.content)
        part.other_sources = list(self.other_sources)
        part.absent = self.absent & {target}
        part.unmountable = self.unmountable & {target}
        part.mismatched = self.mismatched
        if session := self.sessions.pop(target, None):
            part.sessions[target] = session
        return part

    async def run(self, job: Job) -> Reschedule | None:
        source = self.source
        try:
            return await self._advance(job)
        except RegistryError as error:
            if self.source == source:
                raise
            self._say(job, f"switched to {self.source}: {error}")
            return Reschedule(Lane.METADATA)

    async def _advance(self, job: Job) -> Reschedule | None:
        match self.lane:
            case Lane.METADATA:
                for target in list(self.targets):
                    try:
                        await self._try_without_bytes(job, target)
                    except RegistryError as error:
                        self.split_off(job, target, error)
                if not self.targets:
                    return None
                if others := self._uploaders(job):
                    self._say(job, "waiting for another upload to this registry, to mount from it")
                    return Reschedule(Lane.METADATA, after=others)
                if job.dry_run:
                    self._pretend(job)
                else:
                    self._begin_uploads(job)
                    if not 0 <= self.blob.size < SMALL:
                        return Reschedule(Lane.OPENING)
                    await self._open(job)
                    await self._deliver(job)
            case Lane.OPENING:
                await self._open(job)
                return Reschedule(Lane.TRANSFER)
            case Lane.TRANSFER:
                await self._deliver(job)
        # The remaining repositories at a registry mount the blob from the one that has it now.
        return Reschedule(Lane.METADATA) if self.targets else None

    async def _try_without_bytes(self, job: Job, target: Repository) -> None:
        digest = self.blob.digest
        if job.ledger.has(target, digest):
            self._complete(job, target, "shared")
            return
        if job.ledger.is_doubted(target, digest):
            # The registry reported the blob and then did not know it: only an upload helps.
            return
        if target in self.sessions or await self._is_mounted(job, target):
            return
        ledger = job.ledger
        ask = job.force or self.blob.size >= ASK_FIRST_THRESHOLD or not ledger.is_new(target)
        # An earlier run may have uploaded the blob without writing the tag.
        ask = ask or ledger.is_remembered(target, digest)
        if not ask or target in self.absent:
            return
        if await job.repositories.destination(target).has_blob(digest):
            self._say(job, f"{target} has it")
            self._complete(job, target, "present")
            if session := self.sessions.pop(target, None):
                await session.cancel()
            return
        self._say(job, f"{target} does not have it")
        self.absent.add(target)
        if target not in self.sessions:
            # In the meantime it may have been found in another repository.
            await self._is_mounted(job, target)

    def _say(self, job: Job, message: str) -> None:
        job.observer.notify(Decision(str(self), message))

    async def _is_mounted(self, job: Job, target: Repository) -> bool:
        """Try to mount the blob from the first repository that it may be mounted from. Return whether the mount succeeded."""
        if target in self.unmountable:
            return False
        holder = await find_holder(job, self.blob.digest, self.source, target, self.targets[target].rule)
        if holder is None:
            return False
        try:
            upload = await job.repositories.destination(target).mount(self.blob.digest, from_=holder)
        except RegistryError as error:
            if error.kind in _PASSING:
                raise
            # Only the mount was refused: an upload may still succeed.
            self._say(job, f"not mounted into {target} from {holder.path}: {error}")
            self.unmountable.add(target)
            return False
        if upload is None:
            self._say(job, f"mounted into {target} from {holder.path}")
            self._complete(job, target, "mounted")
            return True
        self._say(job, f"not mounted into {target} from {holder.path}: the registry opened an upload")
        self.sessions[target] = upload
        # The holder may have lost the blob. If it still has it, a later check records it again.
        job.ledger.cache.forget(holder, self.blob.digest)
        return False

    def _complete(self, job: Job, target: Repository, outcome: Outcome) -> None:
        digest = self.blob.digest
        job.ledger.record(target, digest)
        job.ledger.end_upload(target, digest)
        self.targets.pop(target).blobs[outcome] += 1
        job.observer.notify(BlobCompleted(outcome, digest, self.blob.size, target))
        job.graph.settle(self, self.key_for(target))

    def _uploaders(self, job: Job) -> tuple[Key, ...]:
        """Return the keys of other uploads of this blob from which it can be mounted afterward."""
        keys = []
        for target in self.targets:
            other = job.ledger.uploader(target, self.blob.digest)
            if other is None or other in self.targets or target in self.sessions:
                continue
            if job.ledger.is_doubted(target, self.blob.digest):
                continue
            destination = job.repositories.destination(target)
            key = blob_key(other, self.blob.digest)
            if same_group(destination, job.repositories.destination(other)) and job.graph.producer(key):
                keys.append(key)
        return tuple(keys)

    def _uploading(self, job: Job) -> list[Repository]:
        """Return the targets to upload to: one for each registry, since the others can mount from it."""
        chosen: list[Repository] = []
        for target in self.targets:
            destination = job.repositories.destination(target)
            if not any(same_group(destination, job.repositories.destination(other)) for other in chosen):
                chosen.append(target)
        return chosen

    def _begin_uploads(self, job: Job) -> None:
        for target in self._uploading(job):
            job.ledger.begin_upload(target, self.blob.digest)

    def _pretend(self, job: Job) -> None:
        size = max(self.blob.size, 0)
        if self.content is None:
            job.observer.notify(BytesMoved("pulled", self.source.host, size))
        self._account(job, dict.fromkeys(self._uploading(job)), size)

    async def _open(self, job: Job) -> None:
        """Start the download and the uploads at once, so that their round trips overlap. Raises the source's error."""

        def moved(nbytes: int) -> None:
            if self.lane is Lane.TRANSFER:
                job.observer.notify(BlobProgress(self.blob.digest, nbytes))

        def resumed(error: RegistryError) -> None:
            job.observer.notify(RequestRetried(error.registry, error.retry_reason, 0.0))

        # Every upload counts as failed until it is known to be complete.
        self.failures = dict.fromkeys(self._uploading(job), _UNFINISHED)
        self.download = Download(
            job.repositories.source(self.source), self.blob, moved, resumed, self.content
        )

        async def start(target: Repository) -> None:
            try:
                if target in self.sessions or await self._start_upload(job, target):
                    self.failures[target] = None
                else:
                    del self.failures[target]
            except RegistryError as error:
                self.failures[target] = error

        refused: RegistryError | None = None
        try:
            async with asyncio.TaskGroup() as group:
                for target in list(self.failures):
                    group.create_task(start(target))
                try:
                    await self.download.open()
                except RegistryError as error:
                    # Not raised in here: a task group would wrap it.
                    refused = error
            if refused is not None:
                raise self._judged(refused)
        except BaseException:
            self.failures = dict.fromkeys(self.failures, _UNFINISHED)
            await self._end(job)
            raise

    async def _start_upload(self, job: Job, target: Repository) -> bool:
        """Start an upload. Return False if it turned out that the repository has the blob, which completes the target.

        An interrupted run may have uploaded the blob to a repository that has no tag yet.
        """
        destination = job.repositories.destination(target)
        is_known = target in self.absent or job.ledger.is_doubted(target, self.blob.digest)
        if is_known or not job.ledger.is_new(target):
            self.sessions[target] = await destination.start_upload()
            return True
        upload = await destination.upload_if_missing(self.blob.digest)
        if upload is None:
            self._say(job, f"{target} has it")
            self._complete(job, target, "present")
            return False
        self.sessions[target] = upload
        return True

    async def _deliver(self, job: Job) -> None:
        """Transfer the blob. Raises the source's error, or that of a destination if it is retryable."""
        assert self.download is not None
        blob, tell = self.blob, job.observer.notify
        large = self.lane is Lane.TRANSFER
        ready = [target for target, failure in self.failures.items() if failure is None]
        if not ready:
            # No destination accepted an upload: do not read the blob.
            await self._end(job)
            self._account(job, self.failures, 0)
            return
        self.failures.update(dict.fromkeys(ready, _UNFINISHED))
        if large:
            tell(BlobStarted(blob.digest, blob.size, self.source, tuple(ready)))
        try:
            uploads = [self.sessions[target] for target in ready]
            outcomes = await (self._relay(job, uploads) if large else relay_whole(self.download, uploads))
            self.failures.update(zip(ready, outcomes, strict=True))
            for target in ready:
                if self.failures[target] is None:
                    del self.sessions[target]
            size = self.download.blob.size
            if None in outcomes:
                # The reader yields the last chunk only if the digest matches: the source has the blob.
                job.ledger.record_served(self.source, blob.digest)
        except RegistryError as error:
            raise self._judged(error) from None
        finally:
            if large:
                tell(BlobFinished(blob.digest, ok=not any(self.failures.values())))
            await self._end(job)
        self._account(job, self.failures, size)

    async def _relay(self, job: Job, uploads: list[Upload]) -> list[RegistryError | None]:
        """Transfer a large blob, over several connections if some are idle."""
        assert self.download is not None
        if not may_be_split(self.download.blob):
            return await relay(self.download, uploads)
        outcome: list[RegistryError | None] | RegistryError = _UNFINISHED
        source = job.repositories.source(self.source)
        async with RangePrefetcher(source, self.download.blob, job.idle_slots) as self.download.prefetcher:
            try:
                outcome = await relay(self.download, uploads)
            except RegistryError as error:
                # Not raised in here: a task group would wrap it.
                outcome = error
        if isinstance(outcome, RegistryError):
            raise outcome
        return outcome

    def _judged(self, error: RegistryError) -> RegistryError:
        """Return the source's error. A second digest mismatch is permanent: a single one may be a transmission error."""
        if isinstance(error, DigestMismatch):
            error = error.with_changes(permanent=error.permanent or self.mismatched)
            self.mismatched = True
        if self.fail_over(error):
            self.mismatched = False
        return error

    async def _end(self, job: Job) -> None:
        """Close the download and cancel the uploads that did not complete."""
        for target in self.failures:
            job.ledger.end_upload(target, self.blob.digest)
        if self.download is not None:
            job.observer.notify(BytesMoved("pulled", self.download.host, self.download.received))
        await self._give_up([target for target in self.failures if target in self.sessions])

    async def close(self) -> None:
        await self._give_up(list(self.sessions))

    async def _give_up(self, targets: Iterable[Repository]) -> None:
        download, self.download = self.download, None
        sessions = [self.sessions.pop(target) for target in targets]
        if not sessions and (download is None or not download.is_open):
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(CANCEL_SECONDS):
                if download is not None:
                    await download.__aexit__()
                for session in sessions:
                    await session.cancel()

    def _account(self, job: Job, failures: Mapping[Repository, RegistryError | None], size: int) -> None:
        """Settle the targets that succeeded and split off those that failed. Raises the error of the last one left."""
        for target, failure in failures.items():
            if failure is None:
                self.targets[target].nbytes += size
                job.observer.notify(BytesMoved("pushed", target.host, size))
                self._complete(job, target, "copied")
        for target, failure in failures.items():
            if failure is not None:
                self.split_off(job, target, failure)
