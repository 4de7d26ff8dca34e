"""The daemon: keeps time, starts runs, follows the user's files, and stops in order."""

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
from syncer.rules.rule import Rule
from syncer.state.history import History
from syncer.state.lock import StateLocked, StateUnusable

STOP_SECONDS = 23.5
"""From the signal to the end of the run: Kubernetes kills after 30."""
NOTIFY_SECONDS = 3.0
"""Of these, what notifications get once the run is over."""

_log = logging.getLogger(__name__)


class Stopping(Exception):
    """The daemon is about to end: no run is started any more."""


@dataclass(frozen=True, slots=True)
class Plan:
    """When runs begin, besides those that are asked for. `schedules` are for all rules without one of their own."""

    schedules: tuple[str, ...] = ()
    overlap: Literal["skip", "queue"] = "skip"
    run_on_start: bool = False


class Service:
    """All of the daemon but its front door. `now` is the time of day, in UTC; `sleep` waits for so many seconds."""

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
        self._waiting: frozenset[str] = frozenset()
        self._follow = anyio.Event()
        self._stop = anyio.Event()

    # --- life -----------------------------------------------------------------------------------------------------

    @property
    def stopping(self) -> bool:
        return self._stop.is_set()

    @property
    def ready(self) -> bool:
        """Whether the files are in force and the time is kept."""
        return self._group is not None and not self.stopping

    @property
    def queued(self) -> bool:
        """Whether another run follows the one in progress."""
        return bool(self._waiting)

    def stop(self) -> None:
        """Let `run` come to its end."""
        self._stop.set()

    async def run(self) -> None:
        """Until `stop`; the run in progress has `STOP_SECONDS` to be stopped in order."""
        async with anyio.create_task_group() as group:
            self._set_schedules()
            self._warn_of_idle_rules()
            group.start_soon(self._notifier.run)
            group.start_soon(self.live.tick)
            group.start_soon(self._follow_files)
            group.start_soon(self._follow_runs)
            group.start_soon(self._keep_time)
            self._group = group
            if self.plan.run_on_start:
                # A rule with a schedule of its own runs by that alone.
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

        Raises `Stopping`, `RunInProgress`, `StateLocked`, `StateUnusable`.
        """
        return await self._start("api", lambda _rule: True)

    async def cancel(self, run_id: str) -> bool:
        """Stop the run of that id, if it goes on."""
        current = self.runner.current
        if current is None or current.id != run_id:
            return False
        _log.info("run %s is cancelled", run_id)
        await self.runner.stop()
        return True

    async def _start(self, trigger: Trigger, wanted: Callable[[Rule], bool]) -> str:
        if self.stopping or self._group is None:
            raise Stopping
        if self.runner.busy:
            raise RunInProgress
        # Passwords and tokens in files of their own change without a change of the files that name them.
        await self._reload()
        if self.stopping:
            raise Stopping
        config = self.files.config
        rules = [rule for rule in config.rules if wanted(rule)]
        return await self.runner.start(config, rules, trigger, self._group)

    async def _begin(
        self, trigger: Trigger, wanted: Callable[[Rule], bool], due: frozenset[str] = frozenset()
    ) -> None:
        """Start a run that nobody waits for: why there is none is said in log and metric."""
        try:
            await self._start(trigger, wanted)
        except Stopping:
            pass
        except RunInProgress:
            self._overlap(due)
        except StateLocked as error:
            self.metrics.count_skipped_run("locked")
            _log.warning("a run was due and is skipped: %s", error)
        except StateUnusable as error:
            _log.error("a run was due and cannot begin: %s", error)
        except Exception:  # noqa: BLE001 - the next one may well begin
            _log.exception("a run was due and could not begin")

    async def _begin_scheduled(self, due: frozenset[str]) -> None:
        await self._begin("schedule", lambda rule: bool(due.intersection(self.schedules_of(rule))), due)

    def _overlap(self, due: frozenset[str]) -> None:
        if self.plan.overlap == "queue":
            if not self._waiting:
                _log.info("a run is due and follows the one that goes on")
            self._waiting |= due
            self._follow.set()
        else:
            self.metrics.count_skipped_run("overlap")
            _log.warning("a run was due and is skipped: another one goes on")

    async def _follow_runs(self) -> None:
        """Begin what had to wait."""
        while True:
            await self._follow.wait()
            await self.runner.wait()
            due, self._waiting = self._waiting, frozenset()
            self._follow = anyio.Event()
            await self._begin_scheduled(due)

    # --- time -----------------------------------------------------------------------------------------------------

    def schedules_of(self, rule: Rule) -> Sequence[str]:
        """What a rule runs by."""
        return self.plan.schedules if rule.schedule is None else (rule.schedule,)

    def _set_schedules(self) -> None:
        schedules = dict.fromkeys(self.plan.schedules)
        schedules |= dict.fromkeys(rule.schedule for rule in self.files.config.rules if rule.schedule)
        self.timetable.set_schedules(schedules, self._now())
        self._tell_next_runs()

    def _tell_next_runs(self) -> None:
        times = self.timetable.next_times()
        self.metrics.set_next_runs({text: when.timestamp() for text, when in times.items()})

    def _warn_of_idle_rules(self) -> None:
        idle = sum(not self.schedules_of(rule) for rule in self.files.config.rules)
        if idle and not self.plan.run_on_start:
            _log.warning("no --schedule is given: %s of the rules run only when asked to", idle)

    async def _keep_time(self) -> None:
        while not self.stopping:
            if due := self.timetable.take_due(self._now()):
                self._tell_next_runs()
                await self._begin_scheduled(due)
            await self._sleep(self.timetable.wait(self._now()))

    # --- files ----------------------------------------------------------------------------------------------------

    async def reload(self) -> None:
        """Read the files again, because somebody asked for it."""
        _log.info("reading the files again")
        await self._reload()

    async def _reload(self) -> None:
        before = self.files.config.rules
        if await self.files.reload() and self.files.config.rules != before:
            _log.info("the rules have changed: %s now", len(self.files.config.rules))
            self._set_schedules()

    async def _follow_files(self) -> None:
        while True:
            await anyio.sleep(LOOK_SECONDS)
            if await self.files.changed():
                _log.info("the files have changed")
                await self._reload()
