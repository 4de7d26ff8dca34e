"""The daemon: starts runs on schedule, reloads the configuration, and shuts down gracefully."""

import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

import anyio
from anyio.abc import TaskGroup

from syncer.daemon.files import LOOK_SECONDS, ConfigFiles
from syncer.daemon.live import Live
from syncer.daemon.notify import Notifier
from syncer.daemon.runs import RunInProgress, Runner, Trigger
from syncer.daemon.schedule import Timetable
from syncer.observe.metrics import MetricsObserver
from syncer.observe.words import count
from syncer.rules.rule import Rule
from syncer.state.history import History
from syncer.state.lock import StateLocked, StateUnusable

STOP_SECONDS = 23.5
"""Seconds from the signal until the run must have ended. Kubernetes kills the process after 30 seconds."""
NOTIFY_SECONDS = 3.0
"""Seconds of `STOP_SECONDS` in which pending notifications are sent after the run has ended."""

_log = logging.getLogger(__name__)


class Stopping(Exception):
    """The daemon is stopping and starts no run."""


@dataclass(frozen=True, slots=True)
class Plan:
    """When runs start. `schedules` apply to all rules that have no `schedule`."""

    schedules: tuple[str, ...] = ()
    overlap: Literal["skip", "queue"] = "skip"
    run_on_start: bool = False


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
        self.started_at = time.time()
        self._notifier = notifier
        self._now = now
        self._sleep = sleep
        self._group: TaskGroup | None = None
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
            self._group = group
            if self.plan.run_on_start:
                # A rule with a `schedule` runs only by that schedule.
                await self._begin("start", lambda rule: rule.schedule is None)
            await self._stop.wait()
            with anyio.move_on_after(STOP_SECONDS):
                await self.runner.stop()
                await self.runner.wait()
                with anyio.move_on_after(NOTIFY_SECONDS):
                    await self._notifier.drain()
            group.cancel_scope.cancel()

    # --- runs -----------------------------------------------------------------------------------------------------

    async def run_now(self) -> str:
        """Start a run of all rules and return its id.

        Raises `Stopping`, `RunInProgress`, `StateLocked` or `StateUnusable`.
        """
        return await self._start("api", lambda _rule: True)

    async def cancel(self, run_id: str) -> bool:
        """Stop the run `run_id` and return whether it was in progress."""
        current = self.runner.current
        if current is None or current.id != run_id:
            return False
        _log.info("cancelling run %s", run_id)
        await self.runner.stop()
        return True

    async def _start(self, trigger: Trigger, wanted: Callable[[Rule], bool]) -> str:
        if self.stopping or self._group is None:
            raise Stopping
        if self.runner.busy:
            raise RunInProgress
        # Files of passwords and tokens change without a change of the files that name them.
        await self._reload()
        if self.stopping:
            raise Stopping
        config = self.files.config
        rules = [rule for rule in config.rules if wanted(rule)]
        return await self.runner.start(config, rules, trigger, self._group)

    async def _begin(
        self, trigger: Trigger, wanted: Callable[[Rule], bool], due: frozenset[str] = frozenset()
    ) -> None:
        """Start a run that no client requested. If it cannot start, log the reason and count it as skipped."""
        try:
            await self._start(trigger, wanted)
        except Stopping:
            pass
        except RunInProgress:
            self._overlap(due)
        except StateLocked as error:
            self.metrics.count_skipped_run("locked")
            _log.warning("run skipped: %s", error)
        except StateUnusable as error:
            _log.error("run not started: %s", error)
        except Exception:  # noqa: BLE001 - the next run may succeed
            _log.exception("run not started")

    async def _begin_scheduled(self, due: frozenset[str]) -> None:
        await self._begin("schedule", lambda rule: bool(due.intersection(self.schedules_of(rule))), due)

    def _overlap(self, due: frozenset[str]) -> None:
        if self.plan.overlap == "queue":
            if not self._queued:
                _log.info("run queued until the current run finishes")
            self._queued |= due
            self._queue_changed.set()
        else:
            self.metrics.count_skipped_run("overlap")
            _log.warning("run skipped: the previous run is still in progress")

    async def _start_queued_runs(self) -> None:
        """Start queued runs."""
        while True:
            await self._queue_changed.wait()
            await self.runner.wait()
            due, self._queued = self._queued, frozenset()
            self._queue_changed = anyio.Event()
            await self._begin_scheduled(due)

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
