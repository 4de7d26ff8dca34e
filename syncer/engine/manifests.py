"""`CopyManifest` and `PushManifest`: a manifest becomes blobs, children, and a push that waits for them all."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType

import msgspec

from syncer.engine.blobs import CopyBlob, blob_key
from syncer.engine.image_copy import ImageCopy
from syncer.engine.platform_filter import WITHOUT_ATTESTATIONS
from syncer.engine.targets import SourcedTask
from syncer.engine.task import Job, Key, Lane, Reschedule, Task
from syncer.errors import Attempt, Kind, ManifestRefused, RegistryError
from syncer.events import (
    BlobCompleted,
    BytesMoved,
    Decision,
    ImageSynced,
    RuleWarning,
    SkipReason,
)
from syncer.oci.attestations import is_attestation
from syncer.oci.descriptor import Descriptor
from syncer.oci.digest import Digest
from syncer.oci.manifest import Manifest
from syncer.oci.reference import Reference, Repository

_PARTS_UNKNOWN = frozenset({"MANIFEST_BLOB_UNKNOWN", "BLOB_UNKNOWN", "MANIFEST_UNKNOWN"})

MAX_DEPTH = 4
"""Indexes within indexes."""


def manifest_key(repository: Repository, digest: Digest) -> Key:
    return ("manifest", repository, digest)


class CopyManifest(SourcedTask):
    """Bring a child of an index to the destinations that have it not."""

    kind = "manifest"
    __slots__ = ("child", "depth")

    def __init__(
        self, child: Descriptor, source: Repository, targets: Mapping[Repository, ImageCopy], *, depth: int
    ) -> None:
        self.child = child
        self.depth = depth
        super().__init__(source, targets)

    def __str__(self) -> str:
        return f"copy {self.source}@{self.child.digest}"

    @property
    def repositories(self) -> Iterable[Repository]:
        return (self.source, *self.targets)

    def key_for(self, target: Repository) -> Key:
        return manifest_key(target, self.child.digest)

    def split(self, target: Repository) -> "CopyManifest":
        part = CopyManifest(self.child, self.source, {target: self.targets.pop(target)}, depth=self.depth)
        part.other_sources = list(self.other_sources)
        return part

    async def run(self, job: Job) -> Reschedule | None:
        for repository in list(self.targets):
            try:
                found = await self._is_there(job, repository)
            except RegistryError as error:
                self.split_off(job, repository, error)
                continue
            if found:
                job.observer.notify(Decision(str(self), f"{repository} has it, and so its parts"))
                del self.targets[repository]
                job.ledger.record_manifest(repository, self.child.digest)
                job.graph.settle(self, self.key_for(repository))
        if not self.targets:
            return None
        for copy in self.targets.values():
            copy.budget.check(self.source)
        try:
            manifest = await job.repositories.source(self.source).fetch_manifest(self.child.digest)
        except RegistryError as error:
            if not self.fail_over(error):
                raise
            job.observer.notify(Decision(str(self), f"this source instead: {error}"))
            return Reschedule(Lane.METADATA)
        job.observer.notify(BytesMoved("pulled", self.source.host, len(manifest.raw), "manifest"))
        for copy in self.targets.values():
            copy.budget.charge(manifest, self.source)
        successors = Successors(self.source, manifest, list(self.targets.values()), depth=self.depth)
        successors.add_parts(job)
        for repository, copy in self.targets.items():
            push = PushManifest(
                manifest_key(repository, manifest.digest), manifest, repository, copy=copy, child=self.child
            )
            job.graph.add(push, needs=successors.needs(repository), replaces=self)
        return None

    async def _is_there(self, job: Job, repository: Repository) -> bool:
        """A manifest that is there implies its blobs: the registry took it only with them."""
        ledger = job.ledger
        if job.force or ledger.is_new(repository) or ledger.is_doubted(repository, self.child.digest):
            return False
        return await job.repositories.destination(repository).resolve(self.child.digest) is not None


class PushManifest(Task):
    """Store a manifest when all that it refers to is there. For an image's own manifest that is the last step.

    `child` is the entry of the index or the list of referrers that it is for; None for an image's own manifest. `tag` is
    the tag of a referrer.
    """

    kind = "manifest"
    __slots__ = ("child", "completed", "copy", "manifest", "refusal", "repository", "tag")

    def __init__(
        self,
        key: Key,
        manifest: Manifest,
        repository: Repository,
        *,
        copy: ImageCopy,
        child: Descriptor | None = None,
        tag: str | None = None,
    ) -> None:
        super().__init__([key], priority=copy.priority)
        self.manifest = manifest
        self.repository = repository
        self.copy = copy
        self.child = child
        self.tag = tag if child else copy.destination.tag
        self.completed = False  # its parts were brought once more
        self.refusal: RegistryError | None = None  # why it goes without its attestations

    def __str__(self) -> str:
        return f"push {self.repository}@{self.manifest.digest}"

    @property
    def repositories(self) -> Iterable[Repository]:
        return (self.repository,)

    async def run(self, job: Job) -> Reschedule | None:
        copy = self.copy
        for child in self.manifest.children:
            if refusal := job.ledger.refusal(self.repository, child.digest):
                self._leave_attestations_out(refusal)
                break
        manifest = self.manifest
        destination = job.repositories.destination(self.repository)
        try:
            stored = await destination.push_manifest(manifest, tag=self.tag)
            if self.tag is None and not self.child:
                await destination.keep(manifest)
        except RegistryError as error:
            if _PARTS_UNKNOWN.intersection(error.codes) and error.kind is not Kind.UNSUPPORTED:
                return self._complete(job, error)
            if isinstance(error, ManifestRefused):
                return self._answer_refusal(job, error)
            if error.kind is not Kind.IMMUTABLE or not await self._is_equal_there(job):
                raise
            return None
        job.ledger.record_manifest(self.repository, manifest.digest)
        if self.tag is not None:
            job.written.record(Reference(self.repository, self.tag), stored, copy.source.repository)
        copy.count_pushed(manifest.digest, len(manifest.raw))
        job.observer.notify(BytesMoved("pushed", self.repository.host, len(manifest.raw), "manifest"))
        if not self.child:
            copy.finished = True
            if self.refusal is not None:
                self._tell_of_refusal(job, self.refusal)
            job.observer.notify(
                ImageSynced(
                    copy.rule,
                    copy.source,
                    copy.destination,
                    stored,
                    copy.previous,
                    copy.nbytes,
                    copy.seconds,
                    copy.blob_counts(),
                    unverified=not job.repositories.source(copy.source.repository).is_authoritative(
                        copy.source.target
                    ),
                    source_digest=copy.source_digest,
                    referrers=copy.referrers,
                )
            )
        return None

    def _answer_refusal(self, job: Job, error: ManifestRefused) -> Reschedule | None:
        """Leave it to the index whether an attestation is missed; an index may go without. Else raises `error`."""
        if self.child and is_attestation(self.child):
            job.ledger.record_refusal(self.repository, self.manifest.digest, error)
            return None
        self._leave_attestations_out(error)
        return Reschedule(Lane.METADATA)

    def _leave_attestations_out(self, error: RegistryError) -> None:
        """Turn to the index without its attestations. Raises `error` where that may not be, or has none."""
        without = None
        if self.copy.may_lose_attestations and not self.child and self.manifest.is_index:
            without = WITHOUT_ATTESTATIONS.apply(self.manifest)
        if without is None or without is self.manifest:
            raise error
        self.refusal = error
        self.copy.source_digest = self.manifest.digest
        self.copy.digest = without.digest
        self.manifest = without

    def _tell_of_refusal(self, job: Job, error: RegistryError) -> None:
        copy = self.copy
        if copy.source_digest is not None:
            job.ledger.cache.record_filtered(
                copy.source_digest, str(WITHOUT_ATTESTATIONS), self.manifest.digest
            )
        job.observer.notify(
            RuleWarning(
                copy.rule,
                f"{copy.source} -> {copy.rule.destination_name(copy.destination)}: copied without its attestations, since {self.repository.host} refuses"
                f' them ({error.message}); set "attestations": "drop" for it in the auth file, or in the rule',
            )
        )

    def _complete(self, job: Job, error: RegistryError) -> Reschedule:
        """The registry lacks parts that it had, or said it had: bring them, and push again."""
        self.completed = not self.completed
        if not self.completed:
            # What was brought is not seen yet, or was deferred itself: another round may find it there.
            raise error.with_changes(
                message=f"{error.message}, though all that it refers to was pushed again", permanent=False
            )
        job.observer.notify(Decision(str(self), f"its parts are pushed again: {error}"))
        for blob in self.manifest.blobs:
            job.ledger.forget(self.repository, blob.digest)
            job.ledger.doubt(self.repository, blob.digest)
        for child in self.manifest.children:
            job.ledger.forget_manifest(self.repository, child.digest)
            job.ledger.doubt(self.repository, child.digest)
        job.ledger.forget_manifest(self.repository, self.manifest.digest)
        successors = Successors(self.copy.source.repository, self.manifest, [self.copy], depth=0)
        successors.add_parts(job)
        return Reschedule(Lane.METADATA, after=tuple(successors.needs(self.repository)))

    async def _is_equal_there(self, job: Job) -> bool:
        """Whether an immutable tag names an index of the same images, in other bytes. Then that is told."""
        copy, manifest = self.copy, self.manifest
        if self.child or not manifest.is_index:
            return False
        there = await job.repositories.destination(self.repository).fetch_manifest(copy.destination.target)
        if {child.digest for child in there.children} != {child.digest for child in manifest.children}:
            return False
        copy.digest = there.digest
        copy.tell_skipped(job.observer, SkipReason.IMMUTABLE)
        return True

    def failed(self, job: Job, error: RegistryError) -> None:
        if not self.child:
            self.copy.tell_failed(job.observer, error.as_failure())


class Successors(msgspec.Struct, frozen=True):
    """A manifest that goes to some destinations, and the tasks that its parts become.

    `fetched` is the content of small blobs that is known already, `dropped` the children that are not wanted in a
    repository.
    """

    source: Repository
    manifest: Manifest
    copies: Sequence[ImageCopy]
    depth: int
    fetched: Mapping[Digest, bytes] = {}
    dropped: Mapping[Repository, frozenset[Digest]] = {}

    def needs(self, repository: Repository) -> Iterator[Key]:
        """What has to be in `repository` before the manifest."""
        for blob in self.manifest.blobs:
            yield blob_key(repository, blob.digest)
        dropped = self.dropped.get(repository, frozenset())
        for child in self.manifest.children:
            if child.digest not in dropped:
                yield manifest_key(repository, child.digest)

    def add_parts(self, job: Job) -> None:
        """Add a task for each part that is neither known to be there nor on its way."""
        # Two tags of one repository are one place.
        repositories = {copy.destination.repository: copy for copy in self.copies}
        if self.manifest.children and self.depth >= MAX_DEPTH:
            raise RegistryError(
                Kind.INVALID,
                f"indexes within indexes, more than {MAX_DEPTH} deep",
                attempt=Attempt(self.source.host),
            )
        wanted = {
            place: copy
            for place, copy in repositories.items()
            if job.force or not job.ledger.has_manifest(place, self.manifest.digest)
        }
        add_manifests(
            job, self.source, self.manifest.children, wanted, depth=self.depth + 1, dropped=self.dropped
        )
        for blob in self.manifest.blobs:
            absent = {}
            for place, copy in wanted.items():
                if job.ledger.has(place, blob.digest) or _is_on_its_way(
                    job, blob_key(place, blob.digest), self.source, copy
                ):
                    copy.blobs["shared"] += 1
                    job.observer.notify(BlobCompleted("shared", blob.digest, blob.size, place))
                else:
                    absent[place] = copy
            if absent:
                job.graph.add(CopyBlob(blob, self.source, absent, self.fetched.get(blob.digest)))


def add_manifests(
    job: Job,
    source: Repository,
    manifests: Iterable[Descriptor],
    targets: Mapping[Repository, ImageCopy],
    *,
    depth: int,
    dropped: Mapping[Repository, frozenset[Digest]] = MappingProxyType({}),
) -> None:
    """Add a task for each manifest that is neither known to be at a target nor on its way there.

    `dropped` are the manifests that are not wanted in a repository.
    """
    for manifest in manifests:
        missing = {
            place: copy
            for place, copy in targets.items()
            if manifest.digest not in dropped.get(place, ())
            and not job.ledger.has_manifest(place, manifest.digest)
            and not job.ledger.refusal(place, manifest.digest)
            and not _is_on_its_way(job, manifest_key(place, manifest.digest), source, copy)
        }
        if missing:
            job.graph.add(CopyManifest(manifest, source, missing, depth=depth))


def _is_on_its_way(job: Job, key: Key, source: Repository, copy: ImageCopy) -> bool:
    """Whether another image brings it already; if so, that task learns where this image would take it from.

    The task gets the priority of `copy`, if that is higher.
    """
    producer = job.graph.producer(key)
    if isinstance(producer, SourcedTask):
        producer.offer(source)
    if producer is not None and copy.priority < producer.priority:
        job.graph.promote(producer)
    return producer is not None
