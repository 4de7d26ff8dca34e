"""What a rule unfolds into: `ListTags`, `CopyImage`, `CopyManifest`, `PushManifest`. Blobs are next door.

A rule's tags become images; an image's manifest becomes blobs, child manifests and a push that waits for them all.
"""

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from syncer.config.rules import AllTags, MatchingTags, OneDigest, Rule, TheseTags
from syncer.engine.blobs import CopyBlob, blob_key
from syncer.engine.copies import ImageCopy
from syncer.engine.graph import Again, Key, Task
from syncer.engine.job import Job
from syncer.events import (
    BlobPlaced,
    BytesMoved,
    Decision,
    ImageFailed,
    ImageSkipped,
    ImageStarted,
    ImageSynced,
    RuleWarning,
    TagsListed,
)
from syncer.http.errors import Kind, RegistryError
from syncer.oci.descriptor import Descriptor
from syncer.oci.digest import Digest
from syncer.oci.manifest import Manifest
from syncer.oci.reference import Reference, Repository

MAX_DEPTH = 4
"""Indexes within indexes."""


def rule_key(rule: Rule) -> Key:
    return ("rule", rule.number)


def manifest_key(repository: Repository, digest: Digest) -> Key:
    return ("manifest", repository, digest)


class ListTags(Task):
    """Find out which images a rule means, and let them be opened one by one."""

    kind = "tags"
    __slots__ = ("rule",)

    def __init__(self, rule: Rule) -> None:
        super().__init__([rule_key(rule)])
        self.rule = rule

    def __str__(self) -> str:
        return f"list {self.rule.source}"

    async def run(self, job: Job) -> Again | None:
        rule = self.rule
        for destination in rule.destinations:
            await self._look_at(job, destination.repository)
        selected = await self._selected(job)
        if mismatch := rule.mismatch(len(selected)):
            raise RegistryError(Kind.INVALID, mismatch, registry=rule.source.host, permanent=True)
        if not selected:
            job.observer.notify(RuleWarning(rule.number, f"{rule}: no tag of {rule.source} is selected"))
        job.graph.expand(self._images(job, selected))
        return None

    async def _look_at(self, job: Job, repository: Repository) -> None:
        """Learn whether the destination is new: then nothing has to be asked for there."""
        if job.force or not job.ledger.begin_look(repository):
            return
        try:
            if await job.repositories.destination(repository).is_new():
                job.ledger.record_new(repository)
        except RegistryError as error:
            # Whatever stands in the way here, the images will meet it, and tell it better.
            job.observer.notify(Decision(str(repository), f"not known whether it is new: {error}"))

    async def _selected(self, job: Job) -> Sequence[str | None]:
        rule, selection = self.rule, self.rule.selection
        match selection:
            case TheseTags():
                return selection.tags
            case OneDigest():
                return (selection.tag,)
            case AllTags() | MatchingTags():
                found: list[str] = []
                async for page in job.repositories.source(rule.source).tags():
                    found += page
                # Registries may list a tag twice when it moves while pages are read.
                selected = [tag for tag in dict.fromkeys(found) if selection.matches(tag)]
                job.observer.notify(TagsListed(rule.number, rule.source, len(found), len(selected)))
                return selected

    def _images(self, job: Job, tags: Sequence[str | None]) -> Iterator[Task]:
        rule = self.rule
        digest = rule.selection.digest if isinstance(rule.selection, OneDigest) else None
        for index, tag in enumerate(tags):
            source = Reference(rule.source, tag, digest)
            copies = []
            for destination in rule.destinations:
                to_tag = destination.tag_for(tag, index)
                reference = Reference(destination.repository, to_tag, None if to_tag else digest)
                copy = ImageCopy(rule.number, source, reference)
                claimed_by = job.claim(reference, source)
                if claimed_by is None:
                    copies.append(copy)
                elif claimed_by != source:
                    error = RegistryError(
                        Kind.CONFLICT,
                        f"another rule already writes {claimed_by} there",
                        registry=reference.repository.host,
                        advice="give one of the two another destination",
                    )
                    tell_failed(job, copy, error)
            if copies:
                yield CopyImage(source, copies)

    def failed(self, job: Job, error: RegistryError) -> None:
        rule = self.rule
        tag = rule.selection.tag if isinstance(rule.selection, OneDigest) else None
        for destination in rule.destinations:
            copy = ImageCopy(rule.number, Reference(rule.source, tag), Reference(destination.repository, tag))
            tell_failed(job, copy, error)


class CopyImage(Task):
    """Bring one image to its destinations, unless it is there already.

    The destination is asked first: where it has nothing, the source's manifest is fetched without a HEAD.
    """

    kind = "image"
    __slots__ = ("copies", "source")

    def __init__(self, source: Reference, copies: list[ImageCopy]) -> None:
        super().__init__([_image_key(copy) for copy in copies])
        self.source = source
        self.copies = copies

    def __str__(self) -> str:
        return f"copy {self.source}"

    async def run(self, job: Job) -> Again | None:
        for copy in self.copies:
            copy.started = copy.started or time.monotonic()
        reached, unreached = await self._ask_destinations(job)
        if reached:
            stale = await self._stale(job, reached)
            if stale:
                job.observer.notify(
                    ImageStarted(stale[0].rule, self.source, tuple(copy.destination for copy in stale))
                )
                await self._bring(job, stale)
        if unreached:
            # Only these are tried again, or failed: what was reached has gone its way.
            self.copies = [copy for copy, _ in unreached]
            for copy, error in unreached:
                if error.permanent and len(unreached) > 1:
                    self.copies.remove(copy)
                    tell_failed(job, copy, error)
                    job.graph.settle(self, _image_key(copy), error)
            if self.copies:
                raise next(error for copy, error in unreached if copy in self.copies)
        return None

    async def _ask_destinations(
        self, job: Job
    ) -> tuple[list[ImageCopy], list[tuple[ImageCopy, RegistryError]]]:
        reached: list[ImageCopy] = []
        unreached: list[tuple[ImageCopy, RegistryError]] = []
        for copy in self.copies:
            repository = copy.destination.repository
            try:
                if not job.ledger.is_new(repository):
                    found = await job.repositories.destination(repository).find(copy.destination.target)
                    copy.previous = found.digest if found else None
                reached.append(copy)
            except RegistryError as error:
                unreached.append((copy, error))
        return reached, unreached

    async def _stale(self, job: Job, copies: list[ImageCopy]) -> list[ImageCopy]:
        """Those of `copies` that are not up to date; the others are done."""
        wanted = self.source.digest
        if wanted is None and any(copy.previous for copy in copies):
            wanted = (await self._resolve(job)).digest
            self.source = Reference(self.source.repository, self.source.tag, wanted)
        stale = []
        for copy in copies:
            copy.digest = wanted
            if copy.previous is None or copy.previous != wanted or job.force:
                stale.append(copy)
            else:
                copy.finished = True
                job.graph.settle(self, _image_key(copy))
                job.observer.notify(
                    ImageSkipped(copy.rule, copy.source, copy.destination, wanted, "up to date", copy.seconds)
                )
        return stale

    async def _resolve(self, job: Job) -> Descriptor:
        found = await job.repositories.source(self.source.repository).find(self.source.target)
        if found is None:
            raise RegistryError(
                Kind.NOT_FOUND,
                "404 not found",
                registry=self.source.repository.host,
                attempt=f"HEAD manifest {self.source}",
                status=404,
            )
        return found

    async def _bring(self, job: Job, copies: list[ImageCopy]) -> None:
        source = job.repositories.source(self.source.repository)
        # The digest where it is known: the tag may have moved since it was asked for.
        manifest = await source.fetch_manifest(self.source.target)
        job.observer.notify(BytesMoved("pulled", self.source.repository.host, len(manifest.raw)))
        for copy in copies:
            copy.digest = manifest.digest
        unfolding = _Unfolding(self.source.repository, manifest, copies, depth=0)
        unfolding.add_parts(job)
        for copy in copies:
            repository = copy.destination.repository
            known = job.ledger.has_manifest(repository, manifest.digest) and not job.force
            push = PushManifest(_image_key(copy), manifest, repository, copy=copy)
            job.graph.add(push, needs=() if known else unfolding.needs(repository), heir_of=self)

    def failed(self, job: Job, error: RegistryError) -> None:
        for copy in self.copies:
            if not copy.finished:
                tell_failed(job, copy, error)


class CopyManifest(Task):
    """Bring a child of an index to the destinations that have it not."""

    kind = "manifest"
    __slots__ = ("child", "copies", "depth", "source")

    def __init__(self, child: Descriptor, source: Repository, copies: list[ImageCopy], *, depth: int) -> None:
        super().__init__([manifest_key(copy.destination.repository, child.digest) for copy in copies])
        self.child = child
        self.source = source
        self.copies = copies
        self.depth = depth

    def __str__(self) -> str:
        return f"copy {self.source}@{self.child.digest}"

    async def run(self, job: Job) -> Again | None:
        missing = []
        for copy in self.copies:
            repository = copy.destination.repository
            if await self._is_there(job, repository):
                job.ledger.record_manifest(repository, self.child.digest)
                job.graph.settle(self, manifest_key(repository, self.child.digest))
            else:
                missing.append(copy)
        self.copies = missing
        if not missing:
            return None
        manifest = await job.repositories.source(self.source).fetch_manifest(self.child.digest)
        job.observer.notify(BytesMoved("pulled", self.source.host, len(manifest.raw)))
        unfolding = _Unfolding(self.source, manifest, missing, depth=self.depth)
        unfolding.add_parts(job)
        for copy in missing:
            repository = copy.destination.repository
            push = PushManifest(
                manifest_key(repository, manifest.digest), manifest, repository, copy=copy, child=True
            )
            job.graph.add(push, needs=unfolding.needs(repository), heir_of=self)
        return None

    async def _is_there(self, job: Job, repository: Repository) -> bool:
        """A manifest that is there implies its blobs: the registry took it only with them."""
        if job.force or job.ledger.is_new(repository):
            return False
        return await job.repositories.destination(repository).find(self.child.digest) is not None


class PushManifest(Task):
    """Store a manifest when all that it refers to is there. For an image's own manifest that is the last step."""

    kind = "manifest"
    __slots__ = ("child", "copy", "manifest", "repository")

    def __init__(
        self, key: Key, manifest: Manifest, repository: Repository, *, copy: ImageCopy, child: bool = False
    ) -> None:
        super().__init__([key])
        self.manifest = manifest
        self.repository = repository
        self.copy = copy
        self.child = child

    def __str__(self) -> str:
        return f"push {self.repository}@{self.manifest.digest}"

    async def run(self, job: Job) -> Again | None:
        manifest, copy = self.manifest, self.copy
        tag = None if self.child else copy.destination.tag
        await job.repositories.destination(self.repository).push_manifest(manifest, tag=tag)
        job.ledger.record_manifest(self.repository, manifest.digest)
        copy.nbytes += len(manifest.raw)
        job.observer.notify(BytesMoved("pushed", self.repository.host, len(manifest.raw)))
        if not self.child:
            copy.finished = True
            job.observer.notify(
                ImageSynced(
                    copy.rule,
                    copy.source,
                    copy.destination,
                    manifest.digest,
                    copy.previous,
                    copy.nbytes,
                    copy.seconds,
                    copy.blob_counts(),
                )
            )
        return None

    def failed(self, job: Job, error: RegistryError) -> None:
        if not self.child:
            tell_failed(job, self.copy, error)


@dataclass(frozen=True, slots=True)
class _Unfolding:
    """A manifest that goes to some destinations, and the tasks that its parts become."""

    source: Repository
    manifest: Manifest
    copies: Iterable[ImageCopy]
    depth: int

    def needs(self, repository: Repository) -> Iterator[Key]:
        """What has to be in `repository` before the manifest."""
        for blob in self.manifest.blobs:
            yield blob_key(repository, blob.digest)
        for child in self.manifest.children:
            yield manifest_key(repository, child.digest)

    def add_parts(self, job: Job) -> None:
        """Add a task for each part that is neither known to be there nor on its way."""
        # Two tags of one repository are one place.
        places = {copy.destination.repository: copy for copy in self.copies}
        if self.manifest.children and self.depth >= MAX_DEPTH:
            raise RegistryError(
                Kind.INVALID, f"indexes within indexes, more than {MAX_DEPTH} deep", registry=self.source.host
            )
        wanted = {
            place: copy
            for place, copy in places.items()
            if job.force or not job.ledger.has_manifest(place, self.manifest.digest)
        }
        for child in self.manifest.children:
            missing = [
                copy
                for place, copy in wanted.items()
                if not job.ledger.has_manifest(place, child.digest)
                and not job.graph.promised(manifest_key(place, child.digest))
            ]
            if missing:
                job.graph.add(CopyManifest(child, self.source, missing, depth=self.depth + 1))
        for blob in self.manifest.blobs:
            absent = {}
            for place, copy in wanted.items():
                if job.ledger.has(place, blob.digest) or job.graph.promised(blob_key(place, blob.digest)):
                    copy.blobs["shared"] += 1
                    job.observer.notify(BlobPlaced("shared", blob.digest, blob.size, place))
                else:
                    absent[place] = copy
            if absent:
                job.graph.add(CopyBlob(blob, self.source, absent))


def _image_key(copy: ImageCopy) -> Key:
    return ("image", copy.destination.repository, copy.destination.target)


def tell_failed(job: Job, copy: ImageCopy, error: RegistryError) -> None:
    """An image will not be at its destination: say so, once, with the root cause."""
    copy.finished = True
    job.observer.notify(
        ImageFailed(copy.rule, copy.source, copy.destination, error.as_failure(), copy.digest, copy.seconds)
    )
