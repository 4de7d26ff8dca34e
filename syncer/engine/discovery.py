"""`ListRepositories`: find the repositories of a registry that rules with patterns select, and add a lazy task for each."""

from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence

from syncer.engine.image_copy import ImageCopy
from syncer.engine.listing import ListTags, repositories_key, rule_key
from syncer.engine.task import Job, Key, Lane, Priority, Reschedule, Task
from syncer.errors import Attempt, Kind, RegistryError
from syncer.events import RepositoriesListed, RuleWarning
from syncer.oci.digest import InvalidDigest
from syncer.oci.reference import InvalidReference, Reference, Repository
from syncer.places.content import RepositoryListing
from syncer.rules.allowlist import EVERYTHING, Allowlist
from syncer.rules.meeting import may_meet, meets_itself, outlines
from syncer.rules.rule import Rule

MakeListing = Callable[[Rule], ListTags]


class Discovery:
    """How the repositories that are found become tasks.

    `list_tags` makes the task for the rule of one repository. Repositories that `allowed` does not allow fail. `shared`
    are the destinations that several rules may write to: those of rules in `competing` are added to it.
    """

    def __init__(
        self,
        list_tags: MakeListing = ListTags,
        *,
        allowed: Allowlist = EVERYTHING,
        shared: set[Repository] | None = None,
        competing: Iterable[Rule] = (),
    ) -> None:
        self.list_tags = list_tags
        self.allowed = allowed
        self.shared = set() if shared is None else shared
        self.competing = frozenset(rule.number for rule in competing)


class PageEnd(Task):
    """Tells that the tasks of all repositories of one page were created."""

    kind = "tags"
    __slots__ = ()

    def __init__(self, key: Key) -> None:
        super().__init__([key], priority=Priority.LOW)

    def __str__(self) -> str:
        return "end of a page of repositories"

    async def run(self, _job: Job) -> None:
        return


class _Walk:
    """One listing on its way, for the rules that need it."""

    def __init__(self, listing: RepositoryListing) -> None:
        self.listing = listing
        self.rules: list[Rule] = []
        self.seen: set[str] = set()
        self.selected: dict[int, int] = {}
        self._pages: AsyncIterator[list[str]] | None = None

    async def next_page(self) -> list[str] | None:
        """Return the paths of the next page that were not seen before, or None at the end. Raises `RegistryError`."""
        if self._pages is None:
            self._pages = self.listing.pages()
        page = await anext(self._pages, None)
        if page is None:
            return None
        new = [path for path in dict.fromkeys(page) if path not in self.seen]
        self.seen.update(new)
        return new

    async def close(self) -> None:
        pages, self._pages = self._pages, None
        if pages is not None and (aclose := getattr(pages, "aclose", None)) is not None:
            await aclose()


class ListRepositories(Task):
    """Lists the repositories of one place for all rules with patterns there, each listing once.

    At most two pages are in progress: the next one is requested when the tasks of the one before the last were created.
    `rules` are in the order of the file. The key is settled when the tags of all repositories were listed.
    """

    kind = "tags"
    __slots__ = (
        "_discovery",
        "_later",
        "_listed",
        "_marker",
        "_number",
        "_open",
        "_retry",
        "_walks",
        "rules",
    )

    def __init__(self, rules: Sequence[Rule], discovery: Discovery) -> None:
        super().__init__([repositories_key(rules)], priority=Priority.LOW)
        self.rules = tuple(rules)
        self._discovery = discovery
        self._walks: deque[_Walk] | None = None
        self._retry: list[tuple[_Walk, RegistryError]] = []
        self._later = _stages(rules)
        self._listed: dict[int, list[Rule]] = {rule.number: [] for rule in self._later}
        self._open: list[Key] = []
        self._marker: Key | None = None
        self._number = 0

    def __str__(self) -> str:
        return f"list repositories of {self.rules[0].source.host}"

    @property
    def repositories(self) -> Iterable[Repository]:
        return (_prefix(self.rules[0]),)

    async def run(self, job: Job) -> Reschedule | None:
        if self._walks is None:
            self._walks = await self._find(job)
        while self._walks:
            walk = self._walks[0]
            try:
                page = await walk.next_page()
            except RegistryError as error:
                await self._give_up(job, walk, error)
                continue
            if page is None:
                self._walks.popleft()
                await walk.close()
                self._tell_end(job, walk)
                continue
            if found := self._rules_of(job, walk, page):
                return self._add(job, found)
            return Reschedule(Lane.METADATA)
        if self._retry:
            self._walks = deque(walk for walk, _ in self._retry)
            last = self._retry[-1][1]
            self._retry = []
            raise last
        if waits := [key for key in self._open if job.graph.producer(key) is not None]:
            self._open = []
            return Reschedule(Lane.METADATA, after=tuple(waits))
        if self._later:
            rule = self._later.pop(0)
            return self._add(job, self._listed.pop(rule.number), all_before=True)
        return None

    async def _find(self, job: Job) -> deque[_Walk]:
        walks: dict[int, _Walk] = {}
        for rule in self.rules:
            prefix = _prefix(rule)
            listing = await job.repositories.listing(prefix).listing(prefix.path)
            walks.setdefault(id(listing), _Walk(listing)).rules.append(rule)
        return deque(walks.values())

    def _rules_of(self, job: Job, walk: _Walk, page: Iterable[str]) -> list[Rule]:
        """Return the rules for the repositories of a page; those of later stages are kept back."""
        found: list[Rule] = []
        for path in page:
            for rule in walk.rules:
                concrete = self._concrete(job, rule, Repository(rule.source.host, path))
                if concrete is None:
                    continue
                walk.selected[rule.number] = walk.selected.get(rule.number, 0) + 1
                self._listed.get(rule.number, found).append(concrete)
        return found

    def _concrete(self, job: Job, rule: Rule, repository: Repository) -> Rule | None:
        try:
            concrete = rule.for_repository(repository)
        except (InvalidReference, InvalidDigest) as invalid:
            error = RegistryError(
                Kind.INVALID,
                f"no destination for {repository}: {invalid}",
                attempt=Attempt(repository.host),
                permanent=True,
                advice="name another destination for it, or exclude it with repositories",
            )
            _tell_failed(job, rule, repository, error)
            return None
        if concrete is None:
            return None
        if problem := next(self._discovery.allowed.problems([concrete]), None):
            error = RegistryError(
                Kind.FORBIDDEN, problem.message, attempt=Attempt(repository.host), permanent=True
            )
            _tell_failed(job, rule, repository, error)
            return None
        return concrete

    def _add(self, job: Job, rules: Sequence[Rule], *, all_before: bool = False) -> Reschedule:
        """Add lazy tasks for the rules, and wait until those of the page before were created."""
        before = self._marker
        self._number += 1
        self._marker = (*self.keys[0], self._number)
        job.graph.add_later(
            self._listings(rules),
            then=PageEnd(self._marker),
            repositories=(rules[0].source,) if rules else (),
        )
        if all_before or not (self._walks or self._retry):
            return Reschedule(Lane.METADATA, after=(self._marker,))
        return Reschedule(Lane.METADATA, after=() if before is None else (before,))

    def _listings(self, rules: Sequence[Rule]) -> Iterator[ListTags]:
        for rule in rules:
            task = self._discovery.list_tags(rule)
            if rule.number in self._discovery.competing:
                # The graph runs tasks with the same key one after the other.
                destinations = {each.repository for each in rule.destinations}
                self._discovery.shared.update(destinations)
                task.keys += tuple(("writes", repository) for repository in destinations)
                self._open.append(rule_key(rule))
            yield task

    async def _give_up(self, job: Job, walk: _Walk, error: RegistryError) -> None:
        """Let the other listings go on. What failed for a moment is listed again in the next round."""
        assert self._walks is not None
        self._walks.popleft()
        await walk.close()
        if error.permanent:
            for rule in walk.rules:
                _tell_failed(job, rule, rule.source, error)
        else:
            self._retry.append((walk, error))

    def _tell_end(self, job: Job, walk: _Walk) -> None:
        for rule in walk.rules:
            selected = walk.selected.get(rule.number, 0)
            listing = walk.listing
            job.selections.discovered(rule, listing.warning)
            job.observer.notify(
                RepositoriesListed(rule, listing.method, len(walk.seen), selected, listing.warning)
            )
            if not selected and rule.part is None:
                job.observer.notify(
                    RuleWarning(
                        rule, f"{rule}: no repository of {rule.source} is selected ({listing.method})"
                    )
                )

    async def close(self) -> None:
        for walk in self._walks or ():
            await walk.close()

    def failed(self, job: Job, error: RegistryError) -> None:
        rules = self.rules if self._walks is None else [rule for walk in self._walks for rule in walk.rules]
        for rule in rules:
            _tell_failed(job, rule, rule.source, error)


def _stages(rules: Sequence[Rule]) -> list[Rule]:
    """Return the rules whose repositories must wait until those of all earlier rules are done.

    Two rules of one page are in order by themselves if each has one destination for each source, and the same.
    """
    later: list[Rule] = []
    lines = [outlines(rule) for rule in rules]
    for number, rule in enumerate(rules):
        for earlier, of_earlier in zip(rules[:number], lines[:number], strict=True):
            same = rule.templates == earlier.templates and rule.source == earlier.source
            if may_meet(lines[number], of_earlier) and not (same and not meets_itself(rule)):
                later.append(rule)
                break
    return later


def _prefix(rule: Rule) -> Repository:
    assert rule.pattern is not None
    return Repository(rule.source.host, rule.pattern.prefix)


def _tell_failed(job: Job, rule: Rule, source: Repository, error: RegistryError) -> None:
    """Tell that nothing of a source is copied. The tags are not known, and the destinations may not be."""
    for template in rule.templates:
        host, _, path = template.written.partition("/")
        destination = Reference(Repository(host, path))
        ImageCopy(rule, Reference(source), destination).tell_failed(job.observer, error.as_failure())
