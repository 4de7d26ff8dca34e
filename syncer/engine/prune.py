"""`PruneRepository`: remove tags of a destination that no rule selects. It runs after all images of a run.

In doubt it removes nothing: every guard is either a reason to leave the repository alone, or a reason to keep a tag.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import msgspec

from syncer.engine.remaining import Descriptors, children_of, resolve_all
from syncer.engine.selections import RecordedSelections
from syncer.engine.task import Job, Key, Task
from syncer.engine.written import WrittenTag
from syncer.errors import Kind, RegistryError
from syncer.events import PruneFailed, PruneHeld, TagKept, TagPruned
from syncer.oci.digest import Digest
from syncer.oci.reference import Reference, Repository
from syncer.oci.referrers import cosign_tags, fallback_tag, is_referrer_tag
from syncer.places.content import Destination, RemovesTags
from syncer.rules.globs import matches_any
from syncer.rules.rule import Rule

MAX_RESOLVED = 5_000
"""Tags of one repository whose digests are compared, where a registry may remove a manifest with all of its tags."""


class Held(Exception):
    """Nothing is removed from the repository. The text says why."""


class _Removal(msgspec.Struct, frozen=True):
    """A tag to remove, and why. A signature does not count for the limit."""

    tag: str
    digest: Digest
    reason: str
    is_signature: bool = False


class PruneRepository(Task):
    """Removes tags of one repository.

    `rules` are the rules with `prune` that write to it, `writers` all rules of the configuration that may write to it.
    `trouble` is why the repository may be incomplete after this run; empty if it is not.
    """

    kind = "tags"
    __slots__ = ("repository", "rules", "selections", "trouble", "writers")

    def __init__(
        self,
        repository: Repository,
        rules: Sequence[Rule],
        writers: Sequence[Rule],
        selections: RecordedSelections,
        *,
        trouble: str = "",
    ) -> None:
        super().__init__([prune_key(repository)])
        self.repository = repository
        self.rules = rules
        self.writers = writers
        self.selections = selections
        self.trouble = trouble

    def __str__(self) -> str:
        return f"prune {self.repository}"

    @property
    def repositories(self) -> Iterable[Repository]:
        return (self.repository,)

    async def run(self, job: Job) -> None:
        try:
            destination = job.repositories.destination(self.repository)
            removals = await self._plan(job, destination)
        except Held as held:
            job.observer.notify(PruneHeld(self.rules[0], self.repository, str(held)))
            return
        if removals and not job.dry_run:
            await self._remove(job, destination, removals)
        elif removals:
            for removal in removals:
                self._tell_pruned(job, removal)

    def failed(self, job: Job, error: RegistryError) -> None:
        job.observer.notify(PruneHeld(self.rules[0], self.repository, f"its tags could not be read: {error}"))

    # --- what to remove -------------------------------------------------------------------------------------------

    async def _plan(self, job: Job, destination: Destination) -> Sequence[_Removal]:
        """Return what to remove. Raises `Held`, `RegistryError`."""
        if doubt := self.trouble or self.selections.doubt(self.repository, self.writers):
            raise Held(doubt)
        tags = await self._listed(destination)
        images = [tag for tag in tags if not is_referrer_tag(tag)]
        selected = self.selections.tags(self.repository)
        unselected = [tag for tag in images if tag not in selected and not self._is_kept(job, tag)]
        if not unselected:
            return []
        if not isinstance(destination, RemovesTags):
            raise Held("tags cannot be removed there")
        if not self._takes_foreign and not job.written.kept:
            raise Held(
                "without a state directory it is not known which tags this program wrote: set --state-dir,"
                " or `foreign: true` in `prune`"
            )
        own = _Own(job.written.of(self.repository), self._takes_foreign, self._others())
        mine = [tag for tag in unselected if self._is_own(job, own, tag)]
        if not mine:
            return []
        untags = await destination.untags()
        if not untags and len(tags) > MAX_RESOLVED:
            raise Held(
                f"it has {len(tags)} tags, and its registry may remove other tags of a manifest with a tag:"
                f" the digests of more than {MAX_RESOLVED} are not compared"
            )
        descriptors = await resolve_all(destination, mine if untags else tags)
        found = {tag: descriptors[tag].digest for tag in mine if tag in descriptors}
        candidates = {tag: digest for tag, digest in found.items() if self._is_own(job, own, tag, digest)}
        removable = await self._alone(job, destination, candidates, {} if untags else descriptors)
        self._check_limit(len(removable), len(images))
        signatures = await self._signatures(destination, removable, tags, own, descriptors, untags=untags)
        reason = f"no rule selects it (rule {', '.join(map(str, self.rules))})"
        return [
            *(_Removal(tag, digest, reason) for tag, digest in removable.items()),
            *(_Removal(tag, digest, "signs what was removed", True) for tag, digest in signatures.items()),
        ]

    async def _listed(self, destination: Destination) -> list[str]:
        found: dict[str, None] = {}
        try:
            async for page in destination.tags():
                found.update(dict.fromkeys(page))
        except RegistryError as error:
            if error.status == 404:
                return []  # nothing was pushed yet
            raise
        if doubt := destination.listing_doubt():
            raise Held(f"the list of its tags may be incomplete: {doubt}")
        return list(found)

    @property
    def _takes_foreign(self) -> bool:
        return all(rule.prune is not None and rule.prune.foreign for rule in self.rules)

    def _others(self) -> Mapping[str, Rule]:
        """Return the rules without `prune` that write to the repository, by their sources."""
        return {str(rule.source): rule for rule in self.writers if rule.prune is None}

    def _is_kept(self, job: Job, tag: str) -> bool:
        rule = next((each for each in self.rules if each.prune and matches_any(each.prune.keep, tag)), None)
        if rule is not None:
            self._tell_kept(job, tag, f"`keep` of rule {rule} matches it")
        return rule is not None

    def _is_own(self, job: Job, own: "_Own", tag: str, digest: Digest | None = None) -> bool:
        if reason := own.objection(tag, digest):
            self._tell_kept(job, tag, reason)
        return not reason

    async def _alone(
        self, job: Job, destination: Destination, candidates: Mapping[str, Digest], all_tags: Descriptors
    ) -> dict[str, Digest]:
        """Return the candidates that can be removed without a tag or an index that stays. `all_tags` is empty if all can."""
        digests = self.selections.digests(self.repository)
        removable = {tag: digest for tag, digest in candidates.items() if digest not in digests}
        if not all_tags:
            return removable
        while True:
            staying = {tag: each for tag, each in all_tags.items() if tag not in removable}
            named = {each.digest: tag for tag, each in staying.items()}
            parts = await children_of(destination, staying.values(), digests)
            kept = {
                tag: f"{named[digest]} names the same manifest, which the registry may remove"
                if digest in named
                else "an index that stays contains its manifest, which the registry may remove"
                for tag, digest in removable.items()
                if digest in named or digest in parts
            }
            if not kept:
                return removable
            for tag, reason in kept.items():
                self._tell_kept(job, tag, reason)
                del removable[tag]

    def _check_limit(self, removals: int, tags: int) -> None:
        limit = min(rule.prune.most_of(tags) for rule in self.rules if rule.prune is not None)
        if removals > limit:
            raise Held(
                f"{removals} of {tags} tags would be removed, and `limit` allows {limit}:"
                " check what the rule selects, or raise `limit` in `prune`"
            )

    async def _signatures(
        self,
        destination: Destination,
        removed: Mapping[str, Digest],
        tags: Sequence[str],
        own: "_Own",
        descriptors: Descriptors,
        *,
        untags: bool,
    ) -> dict[str, Digest]:
        """Return the signature and fallback tags whose subject goes: no tag that stays names it."""
        subjects: dict[str, Digest] = {}
        for digest in removed.values():
            subjects |= dict.fromkeys((fallback_tag(digest), *cosign_tags(digest)), digest)
        wanted = [tag for tag in tags if tag in subjects]
        if not wanted or len(tags) > MAX_RESOLVED:
            return {}
        if untags:
            # The subject may have further tags.
            descriptors = await resolve_all(destination, tags)
        staying = {
            each.digest for tag, each in descriptors.items() if tag not in removed and tag not in wanted
        }
        return {
            tag: descriptors[tag].digest
            for tag in wanted
            if tag in descriptors
            and subjects[tag] not in staying
            and descriptors[tag].digest not in staying
            and not own.objection(tag, descriptors[tag].digest)
        }

    # --- removing -------------------------------------------------------------------------------------------------

    async def _remove(self, job: Job, destination: Destination, removals: Sequence[_Removal]) -> None:
        assert isinstance(destination, RemovesTags)
        gone: set[Digest] = set()
        for removal in removals:
            reference = Reference(self.repository, removal.tag)
            try:
                now = await destination.resolve_certainly(removal.tag)
                if now is not None and now.digest == removal.digest:
                    await destination.remove_tag(removal.tag, removal.digest)
                    gone.add(removal.digest)
                elif now is not None or removal.digest not in gone:
                    continue  # somebody has just written or removed it
            except RegistryError as error:
                job.observer.notify(PruneFailed(self.rules[0], reference, removal.digest, error.as_failure()))
                if error.kind in {Kind.UNSUPPORTED, Kind.FORBIDDEN, Kind.UNAUTHORIZED} or error.status == 405:
                    return  # the others would fail as well
                continue
            job.written.forget(reference)
            self._tell_pruned(job, removal)

    def _tell_pruned(self, job: Job, removal: _Removal) -> None:
        reference = Reference(self.repository, removal.tag)
        job.observer.notify(TagPruned(self.rules[0], reference, removal.digest, removal.reason))

    def _tell_kept(self, job: Job, tag: str, reason: str) -> None:
        job.observer.notify(TagKept(self.rules[0], Reference(self.repository, tag), reason))


class _Own:
    """Tells which tags may be removed: those that this program wrote, or all if `takes_foreign`.

    `others` are the rules that remove nothing, by their sources: their tags stay.
    """

    def __init__(
        self, written: Mapping[str, WrittenTag], takes_foreign: bool, others: Mapping[str, Rule]
    ) -> None:
        self._written = written
        self._takes_foreign = takes_foreign
        self._others = others

    def objection(self, tag: str, digest: Digest | None = None) -> str:
        """Return why a tag is not to be removed; empty if it may be. `digest` is what it names, as far as it is known."""
        record = self._written.get(tag)
        if record is not None and (other := self._others.get(record.source)):
            return f"rule {other} wrote it, which has no `prune`"
        if self._takes_foreign:
            return ""
        if record is None:
            return "this program did not write it"
        if digest is not None and record.digest != digest:
            return "somebody else has written it since"
        return ""


def prune_key(repository: Repository) -> Key:
    return ("prune", repository)


def prune_tasks(
    selections: RecordedSelections,
    writers_of: Callable[[Repository], Sequence[Rule]],
    trouble_of: Callable[[Repository], str],
) -> Iterator[PruneRepository]:
    """Yield a task for each repository that rules with `prune` write to."""
    for repository, rules in selections.pruned().items():
        yield PruneRepository(
            repository, rules, writers_of(repository), selections, trouble=trouble_of(repository)
        )
