"""`CopyReferrers`: bring what refers to a manifest to the destinations of the manifest, before a tag names it there."""

from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from syncer.engine.image_copy import ImageCopy
from syncer.engine.manifests import MAX_DEPTH as MAX_INDEX_DEPTH
from syncer.engine.manifests import PushManifest, Successors, add_manifests, manifest_key
from syncer.engine.targets import MultiTargetTask
from syncer.engine.task import Job, Key, Reschedule, Task
from syncer.errors import Attempt, Kind, RegistryError
from syncer.events import BytesMoved, Decision, SkipReason
from syncer.oci import media_types
from syncer.oci.descriptor import Descriptor
from syncer.oci.digest import Digest
from syncer.oci.manifest import Manifest
from syncer.oci.reference import Repository
from syncer.oci.referrers import MAX_REFERRERS, is_referrer_tag
from syncer.places.content import RecordsReferrers, Source
from syncer.rules.referrers import ReferrerFilter

MAX_DEPTH = 8
"""Referrers of referrers. A signature of a bill of materials of an image has depth 2."""

Targets = Mapping[Repository, ImageCopy]


class Wanted(msgspec.Struct, frozen=True):
    """The referrers to copy from a source. `depth` counts referrers of referrers, or indexes within indexes."""

    source: Repository
    filter: ReferrerFilter
    depth: int = 0

    @property
    def deeper(self) -> "Wanted":
        return Wanted(self.source, self.filter, self.depth + 1)


def _referrers_key(repository: Repository, subject: Digest, wanted: Wanted) -> Key:
    return ("referrers", repository, subject, wanted.filter)


def _children_key(repository: Repository, index: Digest, wanted: Wanted) -> Key:
    return ("referrers of children", repository, index, wanted.filter)


def _tag_key(repository: Repository, tag: str) -> Key:
    return ("referrer tag", repository, tag)


def add_image_referrers(
    job: Job, copies: Iterable[ImageCopy], index: Manifest | None = None
) -> Mapping[ImageCopy, Sequence[Key]]:
    """Add tasks for what refers to an image, or to a child of it. Return the keys that each copy must wait for.

    Each copy has the digest that its destination gets or has. `index` is its content, None if the destination has it.
    What refers to an index that was rewritten is not copied: it refers to other content.
    """
    keys: dict[ImageCopy, Sequence[Key]] = {}
    groups: dict[tuple[Digest, Wanted, bool, bool], list[ImageCopy]] = {}
    for copy in copies:
        # What a referrer tag names is copied with its own subject.
        is_own = copy.source.tag and is_referrer_tag(copy.source.tag)
        if copy.rule.referrers is not None and copy.digest is not None and not is_own:
            wanted = Wanted(copy.source.repository, copy.rule.referrers)
            is_index = index.is_index if index else not copy.is_single_there
            groups.setdefault((copy.digest, wanted, copy.source_digest is not None, is_index), []).append(
                copy
            )
    for (digest, wanted, rewritten, is_index), group in groups.items():
        targets = {copy.destination.repository: copy for copy in group}
        tasks: list[_ReferrersTask] = []
        if not rewritten:
            tasks.append(CopyReferrers(digest, wanted, targets))
            _add(job, tasks)
        if is_index:
            holder = job.repositories.destination(next(iter(targets)))
            children = CopyChildrenReferrers(digest, wanted, targets, holder, index)
            # The first task may find out that nothing at the source refers to anything.
            _add(job, [children], after=[key for task in tasks for key in task.keys])
            tasks.append(children)
        for copy in group:
            keys[copy] = [task.key_for(copy.destination.repository) for task in tasks]
    return keys


def _add(job: Job, tasks: Iterable["_ReferrersTask"], *, after: Sequence[Key] = ()) -> None:
    """Add tasks for the targets for which no task has done the same, or is about to."""
    for task in tasks:
        missing = {
            target: copy
            for target, copy in task.targets.items()
            if job.graph.producer(task.key_for(target)) is None
            and task.key_for(target) not in job.referrers.completed
        }
        if missing:
            job.graph.add(task.for_targets(missing), after=after)


class _ReferrersTask(MultiTargetTask[Repository]):
    """A task about what refers to `subject`, which each target has or gets."""

    kind = "manifest"
    __slots__ = ("subject", "wanted")

    def __init__(self, subject: Digest, wanted: Wanted, targets: Targets) -> None:
        self.subject = subject
        self.wanted = wanted
        super().__init__(targets)

    @abstractmethod
    def for_targets(self, targets: Targets) -> "_ReferrersTask":
        """Return a task that does the same for these targets."""

    @property
    def repositories(self) -> Iterable[Repository]:
        return (self.wanted.source, *self.targets)

    def split(self, target: Repository) -> "_ReferrersTask":
        return self.for_targets({target: self.targets.pop(target)})

    def complete(
        self, job: Job, needs: Mapping[Repository, Sequence[Key]], listed: Sequence[Descriptor]
    ) -> None:
        """Add the task that ends this one for each target, after the keys that it `needs`."""
        for target in self.targets:
            end = CompleteReferrers(self.key_for(target), target, self.subject, listed)
            job.graph.add(end, needs=needs.get(target, ()), replaces=self)


class CopyReferrers(_ReferrersTask):
    """Bring the manifests that refer to one manifest, cosign's tags for it, and what refers to those in turn."""

    __slots__ = ()

    def __str__(self) -> str:
        return f"copy referrers of {self.wanted.source}@{self.subject}"

    def key_for(self, target: Repository) -> Key:
        return _referrers_key(target, self.subject, self.wanted)

    def for_targets(self, targets: Targets) -> "CopyReferrers":
        return CopyReferrers(self.subject, self.wanted, targets)

    async def run(self, job: Job) -> Reschedule | None:
        source = job.repositories.source(self.wanted.source)
        found = await job.referrers.find(source, self.subject)
        chosen = [each for each in found.descriptors if self.wanted.filter.matches(each.artifact_type)]
        tags = {
            tag: named
            for tag, artifact_type in found.tags.items()
            if self.wanted.filter.matches(artifact_type) and (named := await source.resolve(tag))
        }
        if not chosen and not tags:
            job.referrers.completed.update(self.keys)
            return None
        if self.wanted.depth >= MAX_DEPTH:
            raise RegistryError(
                Kind.TOO_LARGE,
                f"referrers of referrers, more than {MAX_DEPTH} deep",
                attempt=Attempt(self.wanted.source.host, "GET", "referrers", str(self)),
            )
        for copy in self.targets.values():
            self._count(copy, chosen)
        for target in list(self.targets):
            try:
                await self._add_tags(job, source, tags, target)
            except RegistryError as error:
                self.split_off(job, target, error)
        self._add_all(job, chosen, tags)
        return None

    def _count(self, copy: ImageCopy, chosen: Sequence[Descriptor]) -> None:
        """Count the referrers of an image. Raises `RegistryError` if there are too many, whatever they refer to."""
        copy.awaited_referrers.update(each.digest for each in chosen)
        if len(copy.awaited_referrers) > MAX_REFERRERS:
            raise RegistryError(
                Kind.TOO_LARGE,
                f"the image has more than {MAX_REFERRERS} referrers, with what refers to those",
                attempt=Attempt(self.wanted.source.host, "GET", "referrers", str(self)),
            )

    async def _add_tags(
        self, job: Job, source: Source, tags: Mapping[str, Descriptor], target: Repository
    ) -> None:
        """Add tasks that write cosign's tags to one target, unless they are there."""
        copy = self.targets[target]
        for tag, named in tags.items():
            if job.graph.producer(_tag_key(target, tag)) is not None:
                continue
            there = None
            if not job.ledger.is_new(target):
                there = await job.repositories.destination(target).resolve(tag)
            if there is not None and there.digest == named.digest and not job.force:
                job.ledger.record_manifest(target, named.digest)
                continue
            manifest = await source.fetch_manifest(named.digest, tag=tag)
            job.observer.notify(BytesMoved("pulled", source.name.host, len(manifest.raw), "manifest"))
            copy.budget.charge(manifest, source.name)
            copy.awaited_referrers.add(manifest.digest)
            job.observer.notify(
                Decision(f"{target}:{tag}", f"gets {manifest.digest}, which refers to {self.subject}")
            )
            successors = Successors(source.name, manifest, [copy], depth=0)
            successors.add_parts(job)
            push = PushManifest(_tag_key(target, tag), manifest, target, copy=copy, child=named, tag=tag)
            job.graph.add(push, needs=successors.needs(target))

    def _add_all(self, job: Job, chosen: Sequence[Descriptor], tags: Mapping[str, Descriptor]) -> None:
        """Add tasks for the listed referrers and for what refers to them, and those that wait for all of it."""
        # An entry says what a manifest is there for. Nothing but its digest decides how a referrer is copied.
        bare = [Descriptor(each.media_type, each.digest, each.size) for each in chosen]
        add_manifests(job, self.wanted.source, bare, self.targets, depth=1)
        referring = list(
            dict.fromkeys([each.digest for each in chosen] + [each.digest for each in tags.values()])
        )
        nested = [CopyReferrers(digest, self.wanted.deeper, self.targets) for digest in referring]
        _add(job, nested)
        needs: dict[Repository, list[Key]] = {}
        for target in self.targets:
            parts = {each.digest: (str(each.digest), [manifest_key(target, each.digest)]) for each in chosen}
            for tag, named in tags.items():
                parts[named.digest] = (tag, [_tag_key(target, tag)])
            for digest, (name, required) in parts.items():
                part = CompleteReferrer((*self.key_for(target), digest), target, digest, name, self.subject)
                job.graph.add(part, needs=[*required, _referrers_key(target, digest, self.wanted)])
                needs.setdefault(target, []).extend(part.keys)
        self.complete(job, needs, chosen)


class CopyChildrenReferrers(_ReferrersTask):
    """Bring what refers to the children of an index. If `index` is None, it is fetched from `holder`."""

    __slots__ = ("holder", "index")

    def __init__(
        self, subject: Digest, wanted: Wanted, targets: Targets, holder: Source, index: Manifest | None = None
    ) -> None:
        self.holder = holder
        self.index = index
        super().__init__(subject, wanted, targets)

    def __str__(self) -> str:
        return f"copy referrers of the children of {self.wanted.source}@{self.subject}"

    def key_for(self, target: Repository) -> Key:
        return _children_key(target, self.subject, self.wanted)

    def for_targets(self, targets: Targets) -> "CopyChildrenReferrers":
        return CopyChildrenReferrers(self.subject, self.wanted, targets, self.holder, self.index)

    async def run(self, job: Job) -> Reschedule | None:
        if self.wanted.depth >= MAX_INDEX_DEPTH:
            raise RegistryError(
                Kind.INVALID,
                f"indexes within indexes, more than {MAX_INDEX_DEPTH} deep",
                attempt=Attempt(self.wanted.source.host),
            )
        source = job.repositories.source(self.wanted.source)
        if job.referrers.has_none(source):
            job.referrers.completed.update(self.keys)
            return None
        # A destination that continues an archive leaves out what that has.
        index = self.index or await _fetch(self.subject, self.holder, source)
        # Within an index that is on its way, the destination may not have the inner ones yet.
        holder = source if self.index else self.holder
        tasks: list[_ReferrersTask] = []
        for child in index.children:
            tasks.append(
                CopyReferrers(child.digest, Wanted(self.wanted.source, self.wanted.filter), self.targets)
            )
            if child.media_type in media_types.INDEXES:
                tasks.append(CopyChildrenReferrers(child.digest, self.wanted.deeper, self.targets, holder))
        _add(job, tasks)
        self.complete(job, {target: [task.key_for(target) for task in tasks] for target in self.targets}, ())
        return None


async def _fetch(digest: Digest, first: Source, second: Source) -> Manifest:
    try:
        return await first.fetch_manifest(digest)
    except RegistryError as error:
        if error.kind is not Kind.NOT_FOUND:
            raise
    return await second.fetch_manifest(digest)


class CompleteReferrer(Task):
    """Ends the copy of one referrer, and names it in the error if it failed. `name` is its digest or tag."""

    kind = "manifest"
    __slots__ = ("digest", "name", "repository", "subject")

    def __init__(self, key: Key, repository: Repository, digest: Digest, name: str, subject: Digest) -> None:
        super().__init__([key])
        self.repository = repository
        self.digest = digest
        self.name = name
        self.subject = subject

    def __str__(self) -> str:
        return f"referrer {self.name} of {self.repository}@{self.subject}"

    async def run(self, job: Job) -> Reschedule | None:
        # An index may go without an attestation that the registry refused. As a referrer, the same manifest is missed.
        if refusal := job.ledger.refusal(self.repository, self.digest):
            raise self.explain(refusal)
        return None

    def explain(self, error: RegistryError) -> RegistryError:
        return error.with_changes(message=f"referrer {self.name} of {self.subject}: {error.message}")


class CompleteReferrers(Task):
    """Makes sure that a destination lists the referrers of a manifest, all of which it has."""

    kind = "manifest"
    __slots__ = ("listed", "repository", "subject")

    def __init__(
        self, key: Key, repository: Repository, subject: Digest, listed: Sequence[Descriptor]
    ) -> None:
        super().__init__([key])
        self.repository = repository
        self.subject = subject
        self.listed = listed

    def __str__(self) -> str:
        return f"list referrers of {self.repository}@{self.subject}"

    @property
    def repositories(self) -> Iterable[Repository]:
        return (self.repository,)

    async def run(self, job: Job) -> Reschedule | None:
        destination = job.repositories.destination(self.repository)
        if self.listed and isinstance(destination, RecordsReferrers):
            await destination.record_referrers(self.subject, self.listed)
        job.referrers.completed.update(self.keys)
        return None


class SkipImage(Task):
    """Reports an unchanged image as skipped, once its referrers are at the destination."""

    kind = "manifest"
    __slots__ = ("copy", "reason")

    def __init__(self, key: Key, copy: ImageCopy, reason: SkipReason) -> None:
        super().__init__([key])
        self.copy = copy
        self.reason = reason

    def __str__(self) -> str:
        return f"complete {self.copy.destination}"

    async def run(self, job: Job) -> Reschedule | None:
        self.copy.tell_skipped(job.observer, self.reason)
        return None

    def failed(self, job: Job, error: RegistryError) -> None:
        self.copy.tell_failed(job.observer, error.as_failure())


class CopyListedReferrers(Task):
    """Brings the referrers that a fallback tag lists, whether or not their subject is copied. The tag is not pushed."""

    kind = "image"

    def __init__(self, key: Key, subject: Digest, copy: ImageCopy) -> None:
        super().__init__([key], priority=copy.priority)
        self.subject = subject
        self.copy = copy

    def __str__(self) -> str:
        return f"copy referrers that {self.copy.source} lists"

    async def run(self, job: Job) -> Reschedule | None:
        if (copy := self.copy).rule.referrers is not None:
            wanted, target = Wanted(copy.source.repository, copy.rule.referrers), copy.destination.repository
            task = CopyReferrers(self.subject, wanted, {target: copy})
            _add(job, [task])
            job.graph.add(CompleteListedReferrers(self.keys[0], copy), needs=task.keys, replaces=self)
        return None

    def failed(self, job: Job, error: RegistryError) -> None:
        self.copy.tell_failed(job.observer, error.as_failure())


class CompleteListedReferrers(SkipImage):
    """Reports a list of referrers, if some of them were pushed and no image counts them."""

    def __init__(self, key: Key, copy: ImageCopy) -> None:
        super().__init__(key, copy, SkipReason.UP_TO_DATE)

    async def run(self, job: Job) -> Reschedule | None:
        return await super().run(job) if self.copy.referrers else None
