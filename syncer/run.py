"""One run, from rules to outcome: the only place that puts the parts together."""

import secrets
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Literal

import anyio
import msgspec

from syncer.accounts.book import AuthBook
from syncer.accounts.credentials import Credentials
from syncer.descriptors import raise_limit
from syncer.engine.graph import TaskGraph
from syncer.engine.ledger import BlobCache, BlobLedger, ReadOnlyBlobCache
from syncer.engine.listing import ListTags, rule_key
from syncer.engine.pool import METADATA_WIDTH, WorkerPool
from syncer.engine.ranges import IdleSlots
from syncer.engine.task import Job
from syncer.errors import Kind, RegistryError
from syncer.events import ImageFailed, ImageSkipped, ImageSynced, Observer, Observers, RunFinished, RunStarted
from syncer.http.internal import AllowedHosts
from syncer.http.wire import ConnectionPool, Transport
from syncer.oci.reference import Repository
from syncer.places.open import PlaceDirectory
from syncer.rules.rule import Rule
from syncer.rules.shard import WHOLE, Shard

MIN_CONNECTIONS = 2
"""Requests at once for each account, however few descriptors there are: one that is read while another is sent."""
ABANDON_SECONDS = 3.0
"""How long a stopped run may take to give up what it had opened ahead."""

RunOutcome = Literal["success", "partial", "failure", "interrupted"]


class RunOptions(msgspec.Struct, frozen=True):
    """`transfers` blobs move at once (`--proc`); a failed task is tried `retries` times more.

    `force` trusts nothing at the destinations, `trust_sources` every image that names a blob (see `Job`). `dry_run` asks
    and decides everything, and changes nothing. `shard` says which share of the work the rules are.
    `allow_internal` are the internal hosts that registries with public addresses may send us to.
    """

    transfers: int = 5
    retries: int = 2
    force: bool = False
    trust_sources: bool = False
    dry_run: bool = False
    shard: Shard = WHOLE
    allow_internal: tuple[str, ...] = ()


class RunResult(msgspec.Struct, frozen=True):
    """How a run ended; `seconds` is how long it took."""

    run_id: str
    outcome: RunOutcome
    synced: int
    skipped: int
    failed: int
    seconds: float


class _Tally(Observer):
    def __init__(self) -> None:
        super().__init__()
        self.synced = self.skipped = self.failed = 0

    def on_image_synced(self, _event: ImageSynced) -> None:
        self.synced += 1

    def on_image_skipped(self, _event: ImageSkipped) -> None:
        self.skipped += 1

    def on_image_failed(self, _event: ImageFailed) -> None:
        self.failed += 1


class Run:
    """Brings the images of some rules to their destinations, once.

    `credentials` find the accounts: those of `auth`, and of other tools' logins where it has none. `cache` is what
    earlier runs knew of the destinations.
    """

    def __init__(
        self,
        rules: Sequence[Rule],
        auth: AuthBook,
        options: RunOptions,
        *,
        credentials: Credentials | None = None,
        cache: BlobCache | None = None,
        observers: Sequence[Observer] = (),
        trigger: str = "cli",
        transport: Callable[[float], Transport] = ConnectionPool,
    ) -> None:
        self.run_id = secrets.token_hex(6)
        self._rules = rules
        self._auth = auth
        self._credentials = credentials or Credentials(auth)
        known = cache or BlobCache()
        self._cache = ReadOnlyBlobCache(known) if options.dry_run else known
        self._options = options
        self._trigger = trigger
        self._transport = transport
        self._tally = _Tally()
        self._interrupted = False
        self._observer = Observers((self._tally, *observers))
        self._graph = TaskGraph(transfers=options.transfers, retries=options.retries)
        self._pool = WorkerPool(self._graph, transfers=options.transfers, rival_hosts=_rival_hosts(rules))

    @property
    def stopping(self) -> bool:
        """Whether `stop` was called."""
        return self._pool.stopping

    def stop(self) -> None:
        """Start nothing more, let running transfers end within the drain time."""
        self._pool.stop()

    async def execute(self) -> RunResult:
        """Run to the end, or until `stop`."""
        started = time.monotonic()
        tell = self._observer.notify
        options = self._options
        tell(
            RunStarted(self.run_id, self._trigger, len(self._rules), options.dry_run, **options.shard.fields)
        )
        width = options.transfers
        transport, connections = self._connections()
        directory = PlaceDirectory(
            account_for=self._credentials.account_for,
            settings_for=self._auth.settings_for,
            transport=transport,
            observer=self._observer,
            connections=connections,
            allowed=AllowedHosts(options.allow_internal),
            dry_run=self._options.dry_run,
        )
        shared_destinations = self._shared_destinations()
        job = Job(
            self._graph,
            directory,
            self._observer,
            IdleSlots(width, lambda: self._graph.transfers_wanted),
            BlobLedger(self._cache),
            force=self._options.force,
            trust_sources=self._options.trust_sources,
            dry_run=self._options.dry_run,
            shared_destinations=shared_destinations,
        )
        self._add_rules(shared_destinations)
        async with transport:
            await self._pool.run(job)
            if self._pool.stopping:
                await self._abandon(job)
        self._cache.flush()
        seconds = time.monotonic() - started
        outcome = self._outcome()
        tell(RunFinished(self.run_id, self._trigger, outcome, seconds))
        tally = self._tally
        return RunResult(self.run_id, outcome, tally.synced, tally.skipped, tally.failed, seconds)

    def _connections(self) -> tuple[Transport, int]:
        """What sends requests, and how many may be under way for each account: no more than there are descriptors."""
        wanted = (METADATA_WIDTH + 1) * self._options.transfers
        hosts = max(1, len(_hosts_of(self._rules, self._auth)))
        # As many again may wait for the next request, and be closed where room is needed.
        allowed = raise_limit(2 * wanted * hosts)
        return self._transport(float(allowed)), max(MIN_CONNECTIONS, min(wanted, allowed // hosts))

    async def _abandon(self, job: Job) -> None:
        stopped = RegistryError(Kind.INTERRUPTED, "the run was stopped before this was done")
        abandoned = list(self._graph.abandon())
        self._interrupted = bool(abandoned)
        for task in abandoned:
            task.failed(job, stopped)
        with anyio.move_on_after(ABANDON_SECONDS):
            for task in abandoned:
                await task.close()

    def _shared_destinations(self) -> frozenset[Repository]:
        """Destinations of several rules: the earlier rule wins there, tag by tag."""
        writers = Counter(
            repository
            for rule in self._rules
            for repository in {each.repository for each in rule.destinations}
        )
        return frozenset(repository for repository, rules in writers.items() if rules > 1)

    def _add_rules(self, shared_destinations: frozenset[Repository]) -> None:
        last: dict[Repository, Rule] = {}
        for rule in self._rules:
            repositories = {each.repository for each in rule.destinations} & shared_destinations
            earlier = {rule_key(last[repository]) for repository in repositories if repository in last}
            self._graph.add(ListTags(rule), after=earlier)
            last.update(dict.fromkeys(repositories, rule))

    def _outcome(self) -> RunOutcome:
        if self._interrupted:
            return "interrupted"
        if not self._tally.failed:
            return "success"
        return "partial" if self._tally.synced or self._tally.skipped else "failure"


def _rival_hosts(rules: Sequence[Rule]) -> frozenset[str]:
    """The registries that some rules speak to and others do not."""
    hosts = [
        frozenset((rule.source.host, *(each.repository.host for each in rule.destinations))) for rule in rules
    ]
    return frozenset().union(*hosts) - frozenset.intersection(*hosts) if hosts else frozenset()


def _hosts_of(rules: Sequence[Rule], auth: AuthBook) -> set[str]:
    """Every registry that a run may speak to, mirrors too."""
    return {
        host
        for rule in rules
        for repository in (rule.source, *(each.repository for each in rule.destinations))
        for host in (repository.host, *auth.settings_for(repository).mirrors)
    }
