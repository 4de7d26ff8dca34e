"""Audits images at their destinations: the manifest of each, all children and all blobs must be there.

`AuditImage` reads the manifest of a tag and adds a task for each part. `CompletePart` ends when all parts of a manifest
are there. A part that several images share is checked once. Nothing is written.
"""

import time
from collections.abc import Container, Iterable, Iterator, Sequence
from typing import ClassVar

import msgspec

from syncer.engine.blobs import blob_key
from syncer.engine.download import Download
from syncer.engine.image_copy import ImageBudget, ImageCopy
from syncer.engine.images import CopyImage, image_key
from syncer.engine.manifests import MAX_DEPTH, manifest_key
from syncer.engine.task import Job, Key, Lane, Reschedule, Task
from syncer.engine.task import Kind as TaskKind
from syncer.errors import Attempt, DigestMismatch, Kind, RegistryError
from syncer.events import BlobFinished, BlobProgress, BlobStarted, BytesMoved, ImageSkipped, SkipReason
from syncer.oci.descriptor import Descriptor
from syncer.oci.digest import Digest
from syncer.oci.manifest import Manifest
from syncer.oci.reference import Reference, Repository
from syncer.rules.rule import Rule


class Audit(msgspec.Struct, frozen=True):
    """An audit, and what it found.

    If `deep`, blobs are downloaded and hashed instead of requested with HEAD. If `only` is set, only images at these
    destinations are audited. `complete` is the reason that complete images are reported with. If `quiet`, incomplete
    images are not reported as failed, because they will be repaired. `images` are the incomplete images by destination,
    `content` is what is missing or wrong in a repository.
    """

    deep: bool = False
    only: Container[Reference] | None = None
    complete: SkipReason = SkipReason.COMPLETE
    quiet: bool = False
    images: dict[Reference, tuple[ImageCopy, RegistryError]] = msgspec.field(default_factory=dict)
    content: set[tuple[Repository, Digest]] = msgspec.field(default_factory=set)

    def tasks(self, _rule: Rule, _source: Reference, copies: Sequence[ImageCopy]) -> Iterator[Task]:
        """Yield a task for each destination of an image."""
        for copy in copies:
            if self.only is None or copy.destination in self.only:
                yield AuditImage(self, copy)

    def repairs(self, rule: Rule, source: Reference, copies: Sequence[ImageCopy]) -> Iterator[Task]:
        """Yield a task that copies an image to the destinations at which it is incomplete.

        A tag that the rule does not overwrite gets the same digest again.
        """
        others = []
        for copy in copies:
            if copy.destination not in self.images:
                continue
            digest = self.images[copy.destination][0].digest
            if digest is not None and rule.keeps(copy.destination.tag):
                kept = Reference(source.repository, source.tag, digest)
                yield CopyImage(rule, kept, [msgspec.structs.replace(copy, source=kept)])
            else:
                others.append(copy)
        if others:
            yield CopyImage(rule, source, others)

    def missing(self, repository: Repository, digest: Digest, what: str) -> RegistryError:
        """Record that content is missing, and return the error for the images that need it."""
        self.content.add((repository, digest))
        return RegistryError(
            Kind.NOT_FOUND,
            f"{what} {digest} is missing",
            attempt=Attempt(repository.host),
            status=404,
            permanent=True,
        )

    def wrong(self, repository: Repository, digest: Digest, error: RegistryError) -> RegistryError:
        """Record that content does not match its digest, and return the error for the images that need it."""
        self.content.add((repository, digest))
        return error.with_changes(permanent=True)


class _Part(Task):
    """A manifest that is audited. `copy` is the image, None for a child of an index."""

    kind: ClassVar[TaskKind] = "manifest"
    __slots__ = ("audit", "budget", "copy", "depth", "repository")

    def __init__(
        self,
        key: Key,
        audit: Audit,
        repository: Repository,
        *,
        budget: ImageBudget,
        depth: int = 0,
        copy: ImageCopy | None = None,
    ) -> None:
        super().__init__([key])
        self.audit = audit
        self.repository = repository
        self.budget = budget
        self.depth = depth
        self.copy = copy

    @property
    def repositories(self) -> Iterable[Repository]:
        return (self.repository,)

    async def _fetch(self, job: Job, target: str) -> Manifest:
        manifest = await job.repositories.destination(self.repository).fetch_manifest(target)
        job.observer.notify(BytesMoved("pulled", self.repository.host, len(manifest.raw), "manifest"))
        self.budget.charge(manifest, self.repository)
        return manifest

    def _continue(self, job: Job, manifest: Manifest) -> None:
        """Add tasks for the parts of the manifest, and one that ends when they are all there."""
        repository, audit = self.repository, self.audit
        if manifest.children and self.depth >= MAX_DEPTH:
            raise RegistryError(
                Kind.INVALID,
                f"indexes within indexes, more than {MAX_DEPTH} deep",
                attempt=Attempt(repository.host),
            )
        needs = []
        for child in manifest.children:
            key = manifest_key(repository, child.digest)
            if job.ledger.has_manifest(repository, child.digest):
                continue
            needs.append(key)
            if job.graph.producer(key) is None:
                job.graph.add(
                    AuditChild(key, audit, repository, child, budget=self.budget, depth=self.depth + 1)
                )
        for blob in manifest.blobs:
            key = blob_key(repository, blob.digest)
            if job.ledger.has(repository, blob.digest):
                continue
            needs.append(key)
            if job.graph.producer(key) is None:
                job.graph.add(AuditBlob(audit, repository, blob))
        end = CompletePart(
            self.keys[0],
            audit,
            repository,
            manifest.digest,
            budget=self.budget,
            copy=self.copy,
        )
        job.graph.add(end, needs=needs, replaces=self)

    def failed(self, job: Job, error: RegistryError) -> None:
        if self.copy is not None:
            if error.kind in (Kind.NOT_FOUND, Kind.DIGEST_MISMATCH):
                self.audit.images[self.copy.destination] = (self.copy, error)
                if self.audit.quiet:
                    return
            self.copy.tell_failed(job.observer, error.as_failure())


class AuditImage(_Part):
    """Reads the manifest that a tag or digest names at the destination, and adds a task for each of its parts."""

    kind = "image"

    def __init__(self, audit: Audit, copy: ImageCopy) -> None:
        super().__init__(
            image_key(copy.destination),
            audit,
            copy.destination.repository,
            budget=ImageBudget(),
            copy=copy,
        )

    def __str__(self) -> str:
        assert self.copy is not None
        return f"audit {self.copy.destination}"

    async def run(self, job: Job) -> Reschedule | None:
        copy = self.copy
        assert copy is not None
        copy.started = copy.started or time.monotonic()
        reference = copy.destination
        self.budget = ImageBudget()
        try:
            manifest = await self._fetch(job, reference.target)
        except DigestMismatch as error:
            if reference.digest and not reference.tag:
                raise self.audit.wrong(self.repository, reference.digest, error) from None
            raise error.with_changes(permanent=True) from None
        except RegistryError as error:
            if error.kind is not Kind.NOT_FOUND:
                raise
            raise RegistryError(
                Kind.NOT_FOUND,
                "the image is not there",
                attempt=Attempt(self.repository.host),
                status=404,
                permanent=True,
            ) from None
        copy.digest = manifest.digest
        self._continue(job, manifest)
        return None


class AuditChild(_Part):
    """Reads a child of an index, and adds a task for each of its parts."""

    __slots__ = ("child",)

    def __init__(
        self,
        key: Key,
        audit: Audit,
        repository: Repository,
        child: Descriptor,
        *,
        budget: ImageBudget,
        depth: int,
    ) -> None:
        super().__init__(key, audit, repository, budget=budget, depth=depth)
        self.child = child

    def __str__(self) -> str:
        return f"audit {self.repository}@{self.child.digest}"

    async def run(self, job: Job) -> Reschedule | None:
        digest = self.child.digest
        try:
            manifest = await self._fetch(job, digest)
        except DigestMismatch as error:
            raise self.audit.wrong(self.repository, digest, error) from None
        except RegistryError as error:
            if error.kind is not Kind.NOT_FOUND:
                raise
            raise self.audit.missing(self.repository, digest, "the child manifest") from None
        self._continue(job, manifest)
        return None


class CompletePart(_Part):
    """Ends the audit of a manifest, when all of its parts are there."""

    __slots__ = ("digest",)

    def __init__(
        self,
        key: Key,
        audit: Audit,
        repository: Repository,
        digest: Digest,
        *,
        budget: ImageBudget,
        copy: ImageCopy | None,
    ) -> None:
        super().__init__(key, audit, repository, budget=budget, copy=copy)
        self.digest = digest

    def __str__(self) -> str:
        return f"audited {self.repository}@{self.digest}"

    async def run(self, job: Job) -> Reschedule | None:
        job.ledger.record_manifest(self.repository, self.digest)
        if (copy := self.copy) is not None:
            copy.finished = True
            job.observer.notify(
                ImageSkipped(
                    copy.rule,
                    copy.source,
                    copy.destination,
                    self.digest,
                    self.audit.complete,
                    copy.seconds,
                )
            )
        return None


class AuditBlob(Task):
    """Checks one blob: with HEAD, or by its content if the audit is deep."""

    kind = "blob"
    __slots__ = ("audit", "blob", "repository")

    def __init__(self, audit: Audit, repository: Repository, blob: Descriptor) -> None:
        super().__init__([blob_key(repository, blob.digest)])
        self.audit = audit
        self.repository = repository
        self.blob = blob

    def __str__(self) -> str:
        return f"audit blob {self.blob.digest[:19]} of {self.repository}"

    @property
    def repositories(self) -> Iterable[Repository]:
        return (self.repository,)

    async def run(self, job: Job) -> Reschedule | None:
        if self.audit.deep:
            if self.lane is not Lane.TRANSFER:
                return Reschedule(Lane.TRANSFER)
            await self._read(job)
        elif not await job.repositories.destination(self.repository).has_blob(
            self.blob.digest, size=self.blob.size
        ):
            # The registry may have refused the HEAD request only.
            await self._open(job)
        job.ledger.record(self.repository, self.blob.digest)
        return None

    async def _open(self, job: Job) -> None:
        """Request the blob with GET, compare its size, and read nothing."""
        try:
            async with Download(
                job.repositories.destination(self.repository), self.blob, lambda _: None
            ) as download:
                await download.open()
        except RegistryError as error:
            raise self._judged(error) from None

    async def _read(self, job: Job) -> None:
        """Download the blob. The download compares size and digest."""
        blob, tell = self.blob, job.observer.notify
        tell(BlobStarted(blob.digest, blob.size, self.repository, ()))
        ok = False
        try:
            async with Download(
                job.repositories.destination(self.repository),
                blob,
                lambda nbytes: tell(BlobProgress(blob.digest, nbytes)),
            ) as download:
                async for chunk in download.chunks():
                    tell(BytesMoved("pulled", self.repository.host, len(chunk)))
            ok = True
        except RegistryError as error:
            raise self._judged(error) from None
        finally:
            tell(BlobFinished(blob.digest, ok=ok))

    def _judged(self, error: RegistryError) -> RegistryError:
        if isinstance(error, DigestMismatch):
            return self.audit.wrong(self.repository, self.blob.digest, error)
        if error.kind is Kind.NOT_FOUND:
            return self.audit.missing(self.repository, self.blob.digest, "the blob")
        return error
