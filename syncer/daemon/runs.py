"""Executes runs, one at a time, and records each one in the history, even if it crashes."""

import logging
import sqlite3
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeVar

import anyio
import anyio.to_thread
from anyio.abc import TaskGroup

from syncer.config import Config
from syncer.daemon.hooks.journal import Journal
from syncer.daemon.lag import Lag
from syncer.daemon.live import Live
from syncer.daemon.packing import pack_report
from syncer.durations import show_duration
from syncer.engine.graph import TaskGraph
from syncer.events import RunFinished
from syncer.notify.changes import Ended
from syncer.observe.metrics import MetricsObserver
from syncer.observe.report import ReportObserver
from syncer.observe.rule_outcomes import RuleOutcomes
from syncer.observers import Observer
from syncer.rules.rule import Rule
from syncer.run import Announced, Run
from syncer.state.history import Document, History, utc

TOUCH_SECONDS = 10.0
"""Seconds between two updates of the history during a run. If the process is killed, the last update remains."""
_RECORD_SECONDS = 2.0
"""Seconds that recording a run may take after it was cancelled."""
_STOP_SECONDS = 0.05

RUN_ABORTED = "the run was aborted: "
"""Prefix of the error of a run that ended with an exception."""

EVENT_SECONDS = 60.0
"""Seconds after which a run takes no more events if nothing else is left to do. They wait for the next run."""

Trigger = Literal["schedule", "api", "start", "event"]
T = TypeVar("T")

_log = logging.getLogger(__name__)


class RunInProgress(Exception):
    """Another run is in progress. Only one run is active at a time."""


@dataclass(frozen=True, slots=True)
class Work:
    """What a run copies: the tags of `rules` that a glob of `tags` matches (all without globs), and `announced` tags."""

    rules: Sequence[Rule] = ()
    tags: tuple[str, ...] = ()
    announced: Sequence[Announced] = ()

    @property
    def whole_rules(self) -> Sequence[Rule]:
        """The rules that are copied as a whole."""
        return () if self.tags else self.rules


class WatchedRun(Run):
    """A run that exposes its graph, so that its tasks can be counted."""

    @property
    def graph(self) -> TaskGraph:
        return self._graph


@dataclass(frozen=True, slots=True)
class Prepared:
    """A run that is ready to execute. `write_outcome` writes the output files of the run; it may block."""

    run: WatchedRun
    write_outcome: Callable[[ReportObserver], None]


class Prepare(Protocol):
    """Creates a run of some work. The implementation may add observers."""

    def __call__(
        self, config: Config, work: Work, observers: Sequence[Observer], trigger: Trigger
    ) -> Prepared: ...


@dataclass(slots=True)
class Current:
    """The run in progress. `overdue` is true once the run exceeded its time limit. `began` is a monotonic time in seconds."""

    prepared: Prepared
    observers: Sequence[Observer]
    report: ReportObserver
    rules: RuleOutcomes
    trigger: Trigger
    began: float
    overdue: bool = False

    @property
    def id(self) -> str:
        return self.prepared.run.run_id


class Runner:
    """Starts, stops and records runs.

    `lock` is held during a run. It raises `StateLocked` if another process uses the state folder. `on_finished` is
    called after each run; it may block. A run that takes longer than `max_seconds` is stopped like a cancelled run.
    """

    def __init__(
        self,
        *,
        prepare: Prepare,
        history: History,
        metrics: MetricsObserver,
        live: Live,
        lag: Lag,
        journal: Journal,
        lock: Callable[[], AbstractContextManager[None]],
        on_finished: Callable[[Ended], None],
        max_seconds: float | None = None,
    ) -> None:
        self._prepare = prepare
        self._history = history
        self._metrics = metrics
        self._live = live
        self._lag = lag
        self._journal = journal
        self._lock = lock
        self._on_finished = on_finished
        self._max_seconds = max_seconds
        self._busy = False
        self._idle = anyio.Event()
        self.current: Current | None = None

    @property
    def busy(self) -> bool:
        """Whether a run is in progress or is starting."""
        return self._busy

    @property
    def is_open(self) -> bool:
        """Whether work can be added to the run in progress."""
        current = self.current
        if current is None or not current.prepared.run.is_open:
            return False
        is_old = time.monotonic() - current.began > EVENT_SECONDS
        return not (is_old and current.prepared.run.only_announced)

    @property
    def events_waiting(self) -> int:
        """The number of announced images that the run in progress has not begun."""
        return self.current.prepared.run.announced_waiting if self.current is not None else 0

    def add(self, work: Work) -> None:
        """Add work to the run in progress, which must be open. Its images become a part of that run's report."""
        assert self.current is not None
        self.current.rules.add(work.whole_rules)
        self.current.prepared.run.add_rules(work.rules)
        self.current.prepared.run.announce(work.announced)

    def copies(self, rule: Rule) -> bool:
        """Return whether the run in progress copies the whole rule."""
        return self.current is not None and rule.name in self.current.rules.rules

    async def start(self, config: Config, work: Work, trigger: Trigger, group: TaskGroup) -> str:
        """Start a run in `group` and return its id. Raises `RunInProgress`, `StateLocked` or `StateUnusable`."""
        if self._busy:
            raise RunInProgress
        self._busy = True
        self._idle = anyio.Event()
        with ExitStack() as held:
            held.callback(self._set_idle)
            held.enter_context(self._lock())
            report, outcomes = ReportObserver(), RuleOutcomes(work.whole_rules)
            observers = (report, outcomes, self._metrics, self._live, self._lag, self._journal)
            prepared = self._prepare(config, work, observers, trigger)
            current = Current(prepared, observers, report, outcomes, trigger, time.monotonic())
            # Record the run before its id is returned.
            await self._keep(self._history.begin, _begun(current))
            self.current = current
            self._metrics.attach_graph(prepared.run.graph)
            self._live.attach_graph(prepared.run.graph)
            group.start_soon(self._execute, current, held.pop_all())
        return current.id

    async def stop(self) -> None:
        """Stop the run in progress. It starts no new task, and ends within the drain time of the engine."""
        current = self.current
        while current is not None and current is self.current and not current.prepared.run.stopping:
            # A run cannot be stopped before its workers have started, so try again.
            current.prepared.run.stop()
            await anyio.sleep(_STOP_SECONDS)

    async def wait(self) -> None:
        """Wait until no run is in progress."""
        while self._busy:
            await self._idle.wait()

    def _set_idle(self) -> None:
        self._busy = False
        self._idle.set()

    async def _execute(self, current: Current, held: ExitStack) -> None:
        crash: Exception | None = None
        with held:
            try:
                await self._execute_with_limits(current)
            except Exception as error:  # noqa: BLE001 - a crash of a run must not end the daemon
                crash = error
                _log.error("run %s was aborted", current.id, exc_info=error)
                self._notify_finished(current, "failure")
            except BaseException:
                self._notify_finished(current, "interrupted")
                raise
            finally:
                ended = None
                with anyio.move_on_after(_RECORD_SECONDS, shield=True):
                    ended = await self._record(current, crash)
                self._metrics.attach_graph(None)
                self._live.attach_graph(None)
                self.current = None
            if ended is not None:
                await anyio.to_thread.run_sync(_attempt, self._on_finished, ended, abandon_on_cancel=True)
            await anyio.to_thread.run_sync(
                _attempt, current.prepared.write_outcome, current.report, abandon_on_cancel=True
            )

    async def _execute_with_limits(self, current: Current) -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(self._touch, current)
            if self._max_seconds is not None:
                group.start_soon(self._stop_overdue, current, self._max_seconds)
            await current.prepared.run.execute()
            group.cancel_scope.cancel()

    async def _stop_overdue(self, current: Current, seconds: float) -> None:
        await anyio.sleep(seconds)
        _log.error("run %s exceeded --max-run-time (%s); stopping it", current.id, show_duration(seconds))
        current.overdue = True
        await self.stop()

    async def _touch(self, current: Current) -> None:
        while True:
            await anyio.sleep(TOUCH_SECONDS)
            await self._keep(self._history.touch, summary_of(current.report))
            await self._keep(self._lag.flush)

    def _notify_finished(self, current: Current, outcome: Literal["failure", "interrupted"]) -> None:
        """Send the event that the run itself could not send."""
        event = RunFinished(current.id, current.trigger, outcome, time.monotonic() - current.began)
        for observer in current.observers:
            try:
                observer.notify(event)
            except Exception:  # noqa: BLE001 - the other observers must get the event
                _log.exception("an observer of run %s failed", current.id)

    async def _record(self, current: Current, crash: Exception | None) -> Ended:
        rules = current.rules.outcomes()
        error = {}
        if crash is not None:
            rules = dict.fromkeys(current.rules.rules, "failure")
            error = {"error": f"{RUN_ABORTED}{_first_cause(crash)}"}
        elif current.overdue and self._max_seconds is not None:
            limit = show_duration(self._max_seconds)
            error = {"error": f"the run exceeded --max-run-time ({limit}) and was stopped"}
        run = current.report.run() | error
        summary = run | {"totals": current.report.totals()}
        complete = [] if crash else current.rules.complete_rules()
        if complete:
            began = time.time() - (time.monotonic() - current.began)
            self._lag.complete(complete, before=began)

        def write() -> None:
            self._history.finish(
                summary, pack_report(current.report, run), rules, {} if crash else current.rules.images()
            )
            self._lag.flush()

        await self._keep(write)
        return Ended(summary, current.report, complete)

    async def _keep(self, write: Callable[..., T], *arguments: object) -> T | None:
        """Call a function of the history. If it fails, log the error and return None: the run continues."""
        try:
            return await anyio.to_thread.run_sync(write, *arguments, abandon_on_cancel=True)
        except sqlite3.Error as error:
            _log.error("cannot write the history: %s", error)
        except Exception:  # noqa: BLE001 - a defect must not end the run either
            _log.exception("cannot write the history")
        return None


def summary_of(report: ReportObserver) -> Document:
    """Return the summary of a report, with its totals."""
    return report.run() | {"totals": report.totals()}


def _begun(current: Current) -> Document:
    """Return the summary of a run that has not sent any event yet."""
    run = {"id": current.id, "trigger": current.trigger, "started": utc(time.time())}
    return summary_of(current.report) | run


def _attempt(function: Callable[..., Any], *arguments: object) -> None:
    try:
        function(*arguments)
    except Exception:  # noqa: BLE001 - must not end the daemon
        _log.exception("an action after a run failed")


def _first_cause(error: BaseException) -> str:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return f"{type(error).__name__}: {error}"
