"""The daemon: starts runs on schedule, reloads the configuration, and shuts down gracefully."""

import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Literal, Protocol

import anyio
import anyio.lowlevel
from anyio.abc import TaskGroup

from syncer.config import Config
from syncer.daemon.files import LOOK_SECONDS, ConfigFiles
from syncer.daemon.hooks.arrivals import MAX_WAITING, Batch
from syncer.daemon.hooks.intake import Intake
from syncer.daemon.hooks.journal import Journal
from syncer.daemon.hooks.payloads import Pushed
from syncer.daemon.lag import Lag
from syncer.daemon.live import Live
from syncer.daemon.runs import RunInProgress, Runner, Trigger, Work
from syncer.daemon.schedule import Timetable
from syncer.daemon.selection import EVERYTHING, Selection, rules_named
from syncer.notify.notifier import Notifier
from syncer.observe.metrics import MetricsObserver
from syncer.observe.report import ReportObserver
from syncer.observe.words import count
from syncer.rules.rule import Rule
from syncer.run import Run
from syncer.state.history import Document, History
from syncer.state.lock import StateLocked, StateUnusable

STOP_SECONDS = 23.5
"""Seconds from the signal until the run must have ended. Kubernetes kills the process after 30 seconds."""
NOTIFY_SECONDS = 3.0
"""Seconds of `STOP_SECONDS` in which pending notifications are sent after the run has ended."""

PLAN_SECONDS = 120.0
"""Seconds that a plan may take."""
_BATCH_SECONDS = 0.05
"""Seconds between two additions of events to a run."""
_FLOOD = 200
"""Events since the last look, a second ago or more, that make a flood. The run for them starts when it is over."""
_MAX_FLOOD_SECONDS = 15
"""Seconds that the run waits for the end of a flood."""
_AGAIN_SECONDS = 5.0
"""Seconds until a run of events that could not start is tried again."""

_log = logging.getLogger(__name__)


class Stopping(Exception):
    """The daemon is stopping and starts no run."""


class PlanOf(Protocol):
    """Creates a dry run of some rules, and the report that it fills."""

    def __call__(self, config: Config, rules: Sequence[Rule]) -> tuple[Run, ReportObserver]: ...


@dataclass(frozen=True, slots=True)
class Plan:
    """When runs start. `schedules` apply to all rules that have no `schedule`.

    `hook_delay` is the time in seconds from an event to the run that it starts, so that a burst becomes one run.
    """

    schedules: tuple[str, ...] = ()
    overlap: Literal["skip", "queue"] = "skip"
    run_on_start: bool = False
    hook_delay: float = 5.0


def _work_of(wanted: Callable[[Rule], bool]) -> Callable[[Config], Work]:
    return lambda config: Work([rule for rule in config.rules if wanted(rule)])


def _is_named(names: frozenset[str], rule: Rule) -> bool:
    return rule.name in names


class Service:
    """The daemon without its HTTP server. `now` returns the current time in UTC; `sleep` takes seconds."""

    def __init__(
        self,
        *,
        plan: Plan,
        timetable: Timetable,
        files: ConfigFiles,
        runner: Runner,
        history: History,
        live: Live,
        metrics: MetricsObserver,
        notifier: Notifier,
        lag: Lag,
        journal: Journal,
        plan_of: PlanOf,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        sleep: Callable[[float], Awaitable[None]] = anyio.sleep,
    ) -> None:
        self.plan = plan
        self.timetable = timetable
        self.files = files
        self.runner = runner
        self.history = history
        self.live = live
        self.metrics = metrics
        self.lag = lag
        self._plan_of = plan_of
        self._planning = anyio.Lock()
        metrics.attach_lag(lambda: lag.by_host(self.files.config.rules))
        self.started_at = time.time()
        self._notifier = notifier
        self._now = now
        self._sleep = sleep
        self._group: TaskGroup | None = None
        self._journal = journal
        self._intake = Intake(lambda: files.config, lag, journal)
        self._queued: frozenset[str] = frozenset()
        self._queue_changed = anyio.Event()
        self._stop = anyio.Event()

    # --- lifecycle ------------------------------------------------------------------------------------------------

    @property
    def stopping(self) -> bool:
        return self._stop.is_set()

    @property
    def ready(self) -> bool:
        """Whether the configuration is loaded and schedules are active."""
        return self._group is not None and not self.stopping

    @property
    def queued(self) -> bool:
        """Whether a run is queued until the current run finishes."""
        return bool(self._queued)

    def stop(self) -> None:
        """Make `run` return."""
        self._stop.set()

    async def run(self) -> None:
        """Run until `stop` is called. The run in progress gets `STOP_SECONDS` to end."""
        async with anyio.create_task_group() as group:
            self._set_schedules()
            self._warn_of_idle_rules()
            group.start_soon(self._notifier.run)
            group.start_soon(self.live.tick)
            group.start_soon(self._watch_files)
            group.start_soon(self._start_queued_runs)
            group.start_soon(self._run_schedules)
            group.start_soon(self._journal.run)
            group.start_soon(self._run_events)
            self._group = group
            if self.plan.run_on_start:
                # A rule with a `schedule` runs only by that schedule.
                await self._begin("start", _work_of(lambda rule: rule.schedule is None))
            await self._stop.wait()
            with anyio.move_on_after(STOP_SECONDS):
                await self.runner.stop()
                await self.runner.wait()
                with anyio.move_on_after(NOTIFY_SECONDS):
                    await self._notifier.drain()
            group.cancel_scope.cancel()

    # --- runs -----------------------------------------------------------------------------------------------------

    async def run_now(self, selection: Selection = EVERYTHING) -> str:
        """Start a run and return its id.

        Raises `UnknownRule`, `Stopping`, `RunInProgress`, `StateLocked` or `StateUnusable`.
        """
        return await self._start("api", selection.work)

    async def plan_rule(self, name: str) -> Document:
        """Return what a run of a rule would do: the report of a dry run. One plan is made at a time.

        Raises `UnknownRule`, and `TimeoutError` after `PLAN_SECONDS`.
        """
        with anyio.fail_after(PLAN_SECONDS):
            async with self._planning:
                config = self.files.config
                rules = rules_named(name, config.rules)
                run, report = self._plan_of(config, rules)
                await run.execute()
                return report.plan()

    async def cancel(self, run_id: str) -> bool:
        """Stop the run `run_id` and return whether it was in progress."""
        current = self.runner.current
        if current is None or current.id != run_id:
            return False
        _log.info("cancelling run %s", run_id)
        await self.runner.stop()
        return True

    async def _start(self, trigger: Trigger, choose: Callable[[Config], Work]) -> str:
        if self.stopping or self._group is None:
            raise Stopping
        if self.runner.busy:
            raise RunInProgress
        # Files of passwords and tokens change without a change of the files that name them.
        await self._reload()
        if self.stopping:
            raise Stopping
        config = self.files.config
        return await self.runner.start(config, choose(config), trigger, self._group)

    async def _begin(self, trigger: Trigger, choose: Callable[[Config], Work]) -> bool:
        """Start a run that no client requested, and return whether it started.

        If another run is in progress, it is up to the caller. Other reasons are logged, and counted as skipped.
        """
        try:
            await self._start(trigger, choose)
        except (Stopping, RunInProgress):
            return False
        except StateLocked as error:
            self.metrics.count_skipped_run("locked")
            _log.warning("run skipped: %s", error)
        except StateUnusable as error:
            _log.error("run not started: %s", error)
        except Exception:  # noqa: BLE001 - the next run may succeed
            _log.exception("run not started")
        else:
            return True
        return False

    async def _begin_scheduled(self, due: frozenset[str]) -> None:
        def is_due(rule: Rule) -> bool:
            return bool(due.intersection(self.schedules_of(rule)))

        if not await self._begin("schedule", _work_of(is_due)) and self.runner.busy:
            self._overlap([rule for rule in self.files.config.rules if is_due(rule)])

    def _overlap(self, due: Sequence[Rule]) -> None:
        """Add due rules to the run in progress. Rules that it copies already are skipped or queued."""
        again = [rule for rule in due if self.runner.copies(rule)]
        if self.runner.is_open:
            fresh = [rule for rule in due if rule not in again]
            if fresh:
                _log.info("added to the run in progress: %s", count(len(fresh), "rule"))
                self.runner.add(Work(fresh))
        else:
            again = list(due)
        if not again:
            return
        if self.plan.overlap == "queue":
            if not self._queued:
                _log.info("run queued until the current run finishes")
            self._queued |= {rule.name for rule in again}
            self._queue_changed.set()
        else:
            self.metrics.count_skipped_run("overlap")
            _log.warning("run skipped: the previous run is still in progress")

    async def _start_queued_runs(self) -> None:
        """Start queued runs."""
        while True:
            await self._queue_changed.wait()
            await self.runner.wait()
            names, self._queued = self._queued, frozenset()
            self._queue_changed = anyio.Event()
            choose = _work_of(partial(_is_named, names))
            if not await self._begin("schedule", choose) and self.runner.busy:
                self._queued |= names
                self._queue_changed.set()

    # --- events ---------------------------------------------------------------------------------------------------

    async def take_events(self, pushes: Sequence[Pushed]) -> int:
        """Take pushes that registries announced. Return how many of them a rule selects. Raises `Stopping`.

        With a state folder, what was taken is stored when this returns.
        """
        if self.stopping:
            raise Stopping
        return await self._intake.put(pushes)

    def restore_events(self) -> None:
        """Take up the events that an earlier process left. Call this before `run`; it may block."""
        self._intake.restore()

    async def _run_events(self) -> None:
        """Copy announced tags: in the run in progress, or else in a run of their own."""
        while True:
            await self._intake.wait()
            if not self.runner.busy:
                await self._let_events_come()
            if self.runner.is_open and self.runner.events_waiting >= MAX_WAITING:
                # A run that is behind gets no more: what waits here is bounded, and each tag waits once.
                await anyio.sleep(_BATCH_SECONDS)
            elif self.runner.is_open:
                batch = self._intake.take(self.files.config)
                self.runner.add(Work(batch.rules, announced=batch.announced))
                await anyio.sleep(_BATCH_SECONDS)
            elif self.runner.busy:
                await anyio.sleep(_BATCH_SECONDS)
            elif self._intake and not await self._begin_announced():
                await self._sleep(_AGAIN_SECONDS)

    async def _let_events_come(self) -> None:
        """Wait for further events. A flood is answered before its images are copied, so that it is over sooner."""
        seen = self._intake.total
        await self._sleep(self.plan.hook_delay)
        for _ in range(_MAX_FLOOD_SECONDS):
            if self._intake.total - seen < _FLOOD:
                return
            seen = self._intake.total
            await self._sleep(1)

    async def _begin_announced(self) -> bool:
        taken: list[Batch] = []

        def choose(config: Config) -> Work:
            batch = self._intake.take(config)
            taken.append(batch)
            return Work(batch.rules, announced=batch.announced)

        if await self._begin("event", choose):
            return True
        for batch in taken:
            self._intake.put_back(batch)
        return False

    # --- time -----------------------------------------------------------------------------------------------------

    def schedules_of(self, rule: Rule) -> Sequence[str]:
        """Return the schedules of a rule."""
        return self.plan.schedules if rule.schedule is None else (rule.schedule,)

    def _set_schedules(self) -> None:
        schedules = dict.fromkeys(self.plan.schedules)
        schedules |= dict.fromkeys(rule.schedule for rule in self.files.config.rules if rule.schedule)
        self.timetable.set_schedules(schedules, self._now())
        self._update_next_runs()

    def _update_next_runs(self) -> None:
        times = self.timetable.next_times()
        self.metrics.set_next_runs({text: when.timestamp() for text, when in times.items()})

    def _warn_of_idle_rules(self) -> None:
        idle = sum(not self.schedules_of(rule) for rule in self.files.config.rules)
        if idle and not self.plan.run_on_start:
            _log.warning("no --schedule is set; rules that run on request only: %d", idle)

    async def _run_schedules(self) -> None:
        while not self.stopping:
            if due := self.timetable.take_due(self._now()):
                self._update_next_runs()
                await self._begin_scheduled(due)
            await self._sleep(self.timetable.wait(self._now()))

    # --- configuration --------------------------------------------------------------------------------------------

    async def reload(self) -> None:
        """Reload the configuration on request of the user."""
        _log.info("reloading the configuration")
        await self._reload()

    async def _reload(self) -> None:
        before = self.files.config.rules
        if await self.files.reload() and self.files.config.rules != before:
            _log.info("rules changed: %s", count(len(self.files.config.rules), "rule"))
            self._set_schedules()

    async def _watch_files(self) -> None:
        while True:
            await anyio.sleep(LOOK_SECONDS)
            if await self.files.changed():
                _log.info("configuration files changed")
                await self._reload()
