"""One run, from rules to outcome. Only this module connects the parts of a run."""

import asyncio
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import cache
from typing import TYPE_CHECKING, Literal

import msgspec

from syncer.accounts.book import AuthBook
from syncer.accounts.credentials import Credentials
from syncer.descriptors import raise_limit
from syncer.engine.ages import ImageTimes, ReadOnlyImageTimes
from syncer.engine.graph import TaskGraph
from syncer.engine.ledger import BlobCache, BlobLedger, ReadOnlyBlobCache
from syncer.engine.listing import ListTags, repositories_key, rule_key
from syncer.engine.pool import METADATA_WIDTH, WorkerPool
from syncer.engine.ranges import IdleSlots
from syncer.engine.selections import Selections
from syncer.engine.task import ImageOpener, Job, Key, Verifier
from syncer.engine.written import ReadOnlyWrittenTags, WrittenTags
from syncer.errors import Kind, RegistryError
from syncer.events import RunFinished, RunStarted
from syncer.http.internal import AllowedHosts
from syncer.http.transport import Transport
from syncer.http.wire import ConnectionPool
from syncer.observe.progress.totals import ImageTotals
from syncer.observers import Observer, Observers
from syncer.oci.digest import Digest
from syncer.oci.reference import Repository
from syncer.places.content import StreamsBlobs
from syncer.places.open import PlaceDirectory
from syncer.rules.allowlist import EVERYTHING, Allowlist
from syncer.rules.meeting import Step, arrange, outlines
from syncer.rules.referrers import VerificationKey
from syncer.rules.rule import Rule
from syncer.rules.shard import WHOLE, Shard

if TYPE_CHECKING:
    from syncer.engine.announced import ListAnnounced
    from syncer.engine.discovery import ListRepositories
    from syncer.engine.pruning import Pruning
    from syncer.places.layout.open import Layouts

MIN_CONNECTIONS = 2
"""The minimum of concurrent requests for each account: a download needs one while its upload uses another."""
ABANDON_SECONDS = 3.0
"""Seconds that a stopped run may take to close prepared transfers."""

RunOutcome = Literal["success", "partial", "failure", "interrupted"]


class RunOptions(msgspec.Struct, frozen=True):
    """Options of a run. `prune` carries out the key `prune` of the rules; a `dry_run` always shows what that would do.

    `transfers` is the number of concurrent blob transfers (`--proc`), `retries` the number of retries of a failed task.
    For `force` and `trust_sources` see `Job`. A `dry_run` makes every check and decision, and changes nothing. `shard`
    is the shard that the rules belong to. `allow_internal` lists internal hosts to which registries with public
    addresses may redirect. `allowed` limits the repositories that patterns find.
    """

    transfers: int = 5
    retries: int = 2
    force: bool = False
    trust_sources: bool = False
    prune: bool = False
    dry_run: bool = False
    shard: Shard = WHOLE
    allow_internal: tuple[str, ...] = ()
    allowed: Allowlist = EVERYTHING


class Announced(msgspec.Struct, frozen=True):
    """Tags of a rule that a registry has announced, each with the digest that the event named, if it did."""

    rule: Rule
    tags: Mapping[str | None, Digest | None]


class RunResult(msgspec.Struct, frozen=True):
    """The outcome of a run, and its duration in seconds. `drifted` images are also `skipped`."""

    run_id: str
    outcome: RunOutcome
    synced: int
    skipped: int
    failed: int
    seconds: float
    drifted: int = 0


class Run:
    """Copies the images of the given rules to their destinations, once.

    `credentials` finds the account for a repository: in `auth`, or else in the logins of other tools. `cache` has facts
    about the destinations from earlier runs, and `image_times` the ages of images. `open_image` is for runs that do
    something else than copy images. A `read_only` run writes nothing, and checks everything. `missing` is content that
    must be uploaded, even if a destination reports it. `tags` are globs: only matching tags of `rules` are copied.
    `announced` tags are copied in addition to `rules`, and before them. `layouts` opens image layouts; the caller
    closes it. The blobs of a `stream` are copied as they come, for the only rule. `written` are the tags that earlier
    runs wrote. `all_rules` are those of the configuration, if `rules` are only some.
    """

    def __init__(
        self,
        rules: Sequence[Rule],
        auth: AuthBook,
        options: RunOptions,
        *,
        credentials: Credentials | None = None,
        cache: BlobCache | None = None,
        image_times: ImageTimes | None = None,
        observers: Sequence[Observer] = (),
        trigger: str = "cli",
        open_image: ImageOpener | None = None,
        read_only: bool = False,
        missing: Iterable[tuple[Repository, Digest]] = (),
        transport: Callable[[float], Transport] = ConnectionPool,
        tags: Sequence[str] = (),
        announced: Sequence[Announced] = (),
        layouts: "Layouts | None" = None,
        stream: StreamsBlobs | None = None,
        written: WrittenTags | None = None,
        all_rules: Sequence[Rule] | None = None,
    ) -> None:
        self.run_id = os.urandom(6).hex()
        self._rules = rules
        self._tags = tags
        self._announced = announced
        self._announcing: list[ListAnnounced] = []
        self._auth = auth
        self._credentials = credentials or Credentials(auth)
        known = cache or BlobCache()
        self._cache = ReadOnlyBlobCache(known) if options.dry_run else known
        times = image_times or ImageTimes()
        self._image_times = ReadOnlyImageTimes(times) if options.dry_run else times
        self._options = options
        self._trigger = trigger
        self._open_image = open_image
        self._read_only = read_only
        self._missing = tuple(missing)
        self._transport = transport
        self._layouts = layouts
        self._stream = stream
        self._tally = ImageTotals()
        self._interrupted = False
        self._writers: dict[Repository, Rule] = {}
        self._shared_destinations: set[Repository] = set()
        wrote = written or WrittenTags()
        self._written = ReadOnlyWrittenTags(wrote) if options.dry_run else wrote
        self._pruning = self._new_pruning(rules if all_rules is None else all_rules)
        watching = (self._pruning,) if self._pruning else ()
        self._observer = Observers((self._tally, *watching, *observers))
        self._graph = TaskGraph(transfers=options.transfers, retries=options.retries)
        self._pool = WorkerPool(
            self._graph, transfers=options.transfers, rival_hosts=_rival_hosts(self._all_rules())
        )

    @property
    def stopping(self) -> bool:
        """Return whether `stop` was called."""
        return self._pool.stopping or (self._pruning is not None and self._pruning.stopping)

    def stop(self) -> None:
        """Start no further tasks, and let running transfers finish within the drain time."""
        if self._pool.over and self._pruning is not None:
            self._pruning.stop()
        self._pool.stop()

    async def execute(self) -> RunResult:
        """Run until all tasks are done, or until `stop` is called."""
        started = time.monotonic()
        tell = self._observer.notify
        options = self._options
        tell(
            RunStarted(
                self.run_id, self._trigger, len(self._all_rules()), options.dry_run, **options.shard.fields
            )
        )
        transport, connections = self._connections()
        directory = PlaceDirectory(
            account_for=self._credentials.account_for,
            settings_for=self._auth.settings_for,
            transport=transport,
            observer=self._observer,
            connections=connections,
            allowed=AllowedHosts(options.allow_internal),
            dry_run=self._options.dry_run or self._read_only,
            layouts=self._layouts,
        )
        ledger = BlobLedger(self._cache)
        for repository, digest in self._missing:
            ledger.doubt(repository, digest)
        job = Job(
            self._graph,
            directory,
            self._observer,
            IdleSlots(options.transfers, lambda: self._graph.transfers_wanted),
            ledger,
            force=self._options.force or self._read_only,
            trust_sources=self._options.trust_sources,
            dry_run=self._options.dry_run,
            shared_destinations=self._shared_destinations,
            open_image=self._open_image,
            image_times=self._image_times,
            verifier_for=cache(_verifier),
            selections=self._pruning.selections if self._pruning else Selections(),
            written=self._written,
        )
        if self._stream is not None:
            from syncer.engine.receiving import ReceiveBlobs

            self._graph.add(ReceiveBlobs(self._stream, self._rules[0]))
        self.add_rules(self._rules)
        self.announce(self._announced)
        async with transport:
            await self._pool.run(job)
            if self._pool.stopping:
                await self._abandon(job)
            elif self._pruning is not None:
                await self._pruning.run(job)
                self._interrupted = self._pruning.stopping
        directory.close()
        self._cache.flush()
        self._written.flush()
        seconds = time.monotonic() - started
        outcome = self._outcome()
        tell(RunFinished(self.run_id, self._trigger, outcome, seconds))
        tally = self._tally
        return RunResult(
            self.run_id, outcome, tally.synced, tally.skipped, tally.failed, seconds, tally.drifted
        )

    def _connections(self) -> tuple[Transport, int]:
        """Return the transport, and the limit of concurrent requests per account that the open file limit allows."""
        wanted = (METADATA_WIDTH + 1) * self._options.transfers
        hosts = max(1, len(_hosts_of(self._all_rules(), self._auth)))
        # As many idle connections may be kept, and are closed if descriptors are needed.
        allowed = raise_limit(2 * wanted * hosts)
        return self._transport(float(allowed)), max(MIN_CONNECTIONS, min(wanted, allowed // hosts))

    def _new_pruning(self, rules: Sequence[Rule]) -> "Pruning | None":
        """Return what removes tags after the images, or None for a run that removes none."""
        options = self._options
        if not (options.prune or options.dry_run) or self._tags or self._trigger == "event":
            return None
        # An audit does not copy images, and archives do not come from a configuration.
        if self._open_image or self._read_only or self._stream or not any(rule.prune for rule in rules):
            return None
        from syncer.engine.pruning import Pruning

        return Pruning(rules, transfers=options.transfers, retries=options.retries)

    async def _abandon(self, job: Job) -> None:
        stopped = RegistryError(Kind.INTERRUPTED, "the run was stopped before this was done")
        abandoned = list(self._graph.abandon())
        self._interrupted = bool(abandoned)
        for task in abandoned:
            task.failed(job, stopped)
        with suppress(TimeoutError):
            async with asyncio.timeout(ABANDON_SECONDS):
                for task in abandoned:
                    await task.close()

    # --- work -----------------------------------------------------------------------------------------------------

    @property
    def is_open(self) -> bool:
        """Return whether work can be added: the run has not ended, and was not stopped."""
        return not (self._pool.over or self._pool.stopping)

    @property
    def only_announced(self) -> bool:
        """Return whether nothing is left but announced tags."""
        return self._graph.only_urgent

    def add_rules(self, rules: Sequence[Rule]) -> None:
        """Add whole rules. Where several rules write to one destination, the earlier rule wins for each tag."""
        self._join(rules)
        arrangement = arrange(rules)
        self._shared_destinations.update(arrangement.shared)
        last: dict[Repository, Rule] = {}
        keys = [_step_key(step) for step in arrangement.steps]
        for step, key in zip(arrangement.steps, keys, strict=True):
            if self._graph.producer(key) is not None:
                continue  # it is not listed yet
            after = {keys[index] for index in step.after}
            if step.rules[0].pattern is not None:
                self._graph.add(self._list_repositories(step.rules, arrangement.competing), after=after)
                continue
            rule = step.rules[0]
            shared = _destinations(rule) & self._shared_destinations
            earlier = {rule_key(last[repository]) for repository in shared if repository in last}
            self._graph.add(self._list_tags(rule), after=earlier | after)
            last.update(dict.fromkeys(shared, rule))

    def _join(self, rules: Sequence[Rule]) -> None:
        if self._pruning is not None:
            self._pruning.add_rules(rules)
        self._share_destinations(rules)

    def _share_destinations(self, rules: Sequence[Rule]) -> None:
        """Find the destinations of several rules: for each tag, the rule that was added first wins there."""
        for rule in rules:
            for repository in _destinations(rule):
                writer = self._writers.setdefault(repository, rule)
                if writer.number != rule.number:
                    self._shared_destinations.add(repository)

    def _all_rules(self) -> Sequence[Rule]:
        rules = {rule.number: rule for rule in self._rules}
        return [*rules.values(), *(each.rule for each in self._announced if each.rule.number not in rules)]

    def _list_tags(self, rule: Rule) -> ListTags:
        if not self._tags:
            return ListTags(rule)
        from syncer.engine.announced import ListNarrowed

        return ListNarrowed(rule, self._tags)

    def _list_repositories(self, rules: Sequence[Rule], competing: Iterable[Rule]) -> "ListRepositories":
        from syncer.engine.discovery import Discovery, ListRepositories

        discovery = Discovery(
            self._list_tags,
            allowed=self._options.allowed,
            shared=self._shared_destinations,
            competing=competing,
        )
        return ListRepositories(rules, discovery)

    def announce(self, announced: Sequence[Announced]) -> None:
        """Add announced tags, ahead of all other work."""
        if not announced:
            return
        from syncer.engine.announced import ListAnnounced

        self._join([each.rule for each in announced])
        self._announcing = [each for each in self._announcing if each.waiting]
        for each in announced:
            self._announcing.append(ListAnnounced(each.rule, each.tags))
            self._graph.add(self._announcing[-1])

    @property
    def announced_waiting(self) -> int:
        """Return the number of announced images that are not begun yet."""
        return sum(each.waiting for each in self._announcing)

    def _outcome(self) -> RunOutcome:
        if self._interrupted:
            return "interrupted"
        if not self._tally.failed and not (self._pruning and self._pruning.failed):
            return "success"
        return "partial" if self._tally.synced or self._tally.skipped else "failure"


def _destinations(rule: Rule) -> frozenset[Repository]:
    return frozenset(destination.repository for destination in rule.destinations)


def _step_key(step: Step) -> Key:
    return repositories_key(step.rules) if step.rules[0].pattern is not None else rule_key(step.rules[0])


def _verifier(keys: tuple[VerificationKey, ...]) -> Verifier:
    from syncer.signatures import Verifier as KeyVerifier

    return KeyVerifier(keys)


def _rival_hosts(rules: Sequence[Rule]) -> frozenset[str]:
    """Return the registries that some rules use and others do not."""
    hosts = [frozenset((rule.source.host, *_hosts_written(rule))) for rule in rules]
    return frozenset().union(*hosts) - frozenset.intersection(*hosts) if hosts else frozenset()


def _hosts_of(rules: Sequence[Rule], auth: AuthBook) -> set[str]:
    """Return every registry that a run may use, including mirrors."""
    sources = {host for rule in rules for host in (rule.source.host, *auth.settings_for(rule.source).mirrors)}
    return sources | {host for rule in rules for host in _hosts_written(rule)}


def _hosts_written(rule: Rule) -> frozenset[str]:
    return frozenset(outline.partition("/")[0] for outline in outlines(rule))
