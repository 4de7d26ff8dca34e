"""Runs, one at a time, each written down in the history whatever becomes of it."""

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
from syncer.daemon.live import Live
from syncer.daemon.outcomes import RuleOutcomes
from syncer.daemon.packing import pack_report
from syncer.durations import show_duration
from syncer.engine.graph import TaskGraph
from syncer.events import Observer, RunFinished
from syncer.observe.metrics import MetricsObserver
from syncer.observe.report import ReportObserver
from syncer.rules.rule import Rule
from syncer.run import Run
from syncer.state.history import Document, History, RuleResult, utc

TOUCH_SECONDS = 10.0
"""How often the history learns how far a run is: what is known of it should the process be killed."""
_LAST_WORDS = 2.0
"""Seconds that writing down a run may take when everything is to stop at once."""
_STOP_SECONDS = 0.05

Trigger = Literal["schedule", "api", "start"]
T = TypeVar("T")

_log = logging.getLogger(__name__)


class RunInProgress(Exception):
    """There is one already: only one goes on at a time."""


class WatchedRun(Run):
    """A run whose tasks can be counted from outside."""

    @property
    def graph(self) -> TaskGraph:
        return self._graph


@dataclass(frozen=True, slots=True)
class Prepared:
    """A run to be executed. `write_outcome` writes the files that the user wants of each run; it may block."""

    run: WatchedRun
    write_outcome: Callable[[ReportObserver], None]


class Prepare(Protocol):
    """Makes a run of some rules of the files that are in force. More observers than these may watch it."""

    def __call__(
        self, config: Config, rules: Sequence[Rule], observers: Sequence[Observer], trigger: Trigger
    ) -> Prepared: ...


@dataclass(frozen=True, slots=True)
class Ended:
    """A run that is over: its account of itself with totals, its report, how its rules did, and had done before."""

    summary: Document
    report: ReportObserver
    rules: dict[str, str]
    before: dict[str, RuleResult]


@dataclass(slots=True)
class Current:
    """The run in progress. `overdue` once it was stopped for taking too long."""

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
    """Starts runs and sees them to their end.

    `lock` is held for as long as a run goes on; it raises `StateLocked` where another process works with the same
    state. `told` hears of each run that is over; it may block. A run that takes longer than `max_seconds` is stopped
    as one that is cancelled.
    """

    def __init__(
        self,
        *,
        prepare: Prepare,
        history: History,
        metrics: MetricsObserver,
        live: Live,
        lock: Callable[[], AbstractContextManager[None]],
        told: Callable[[Ended], None],
        max_seconds: float | None = None,
    ) -> None:
        self._prepare = prepare
        self._history = history
        self._metrics = metrics
        self._live = live
        self._lock = lock
        self._told = told
        self._max_seconds = max_seconds
        self._busy = False
        self._idle = anyio.Event()
        self.current: Current | None = None

    @property
    def busy(self) -> bool:
        """Whether a run goes on, or is about to."""
        return self._busy

    async def start(self, config: Config, rules: Sequence[Rule], trigger: Trigger, group: TaskGroup) -> str:
        """Begin a run in `group` and return its id. Raises `RunInProgress`, `StateLocked`, `StateUnusable`."""
        if self._busy:
            raise RunInProgress
        self._busy = True
        self._idle = anyio.Event()
        with ExitStack() as held:
            held.callback(self._rest)
            held.enter_context(self._lock())
            report, outcomes = ReportObserver(), RuleOutcomes(rules)
            observers = (report, outcomes, self._metrics, self._live)
            prepared = self._prepare(config, rules, observers, trigger)
            current = Current(prepared, observers, report, outcomes, trigger, time.monotonic())
            # Known to the history before anybody hears its id.
            await self._keep(self._history.begin, _begun(current))
            self.current = current
            self._metrics.attach_graph(prepared.run.graph)
            self._live.attach_graph(prepared.run.graph)
            group.start_soon(self._execute, current, held.pop_all())
        return current.id

    async def stop(self) -> None:
        """Tell the run in progress to start nothing more; it ends within the engine's drain time."""
        current = self.current
        while current is not None and current is self.current and not current.prepared.run.stopping:
            # Before its workers are there, a run cannot be stopped yet.
            current.prepared.run.stop()
            await anyio.sleep(_STOP_SECONDS)

    async def wait(self) -> None:
        """Until no run goes on."""
        while self._busy:
            await self._idle.wait()

    def _rest(self) -> None:
        self._busy = False
        self._idle.set()

    async def _execute(self, current: Current, held: ExitStack) -> None:
        broken: Exception | None = None
        with held:
            try:
                await self._accompany(current)
            except Exception as error:  # noqa: BLE001 - a run that crashes is a failed run, and not the daemon's end
                broken = error
                _log.error("run %s broke off", current.id, exc_info=error)
                self._tell_end(current, "failure")
            except BaseException:
                self._tell_end(current, "interrupted")
                raise
            finally:
                ended = None
                with anyio.move_on_after(_LAST_WORDS, shield=True):
                    ended = await self._write_down(current, broken)
                self._metrics.attach_graph(None)
                self._live.attach_graph(None)
                self.current = None
            if ended is not None:
                await anyio.to_thread.run_sync(_attempt, self._told, ended, abandon_on_cancel=True)
            await anyio.to_thread.run_sync(
                _attempt, current.prepared.write_outcome, current.report, abandon_on_cancel=True
            )

    async def _accompany(self, current: Current) -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(self._touch, current)
            if self._max_seconds is not None:
                group.start_soon(self._stop_late, current, self._max_seconds)
            await current.prepared.run.execute()
            group.cancel_scope.cancel()

    async def _stop_late(self, current: Current, seconds: float) -> None:
        await anyio.sleep(seconds)
        _log.error(
            "run %s takes longer than --max-run-time (%s): stopped", current.id, show_duration(seconds)
        )
        current.overdue = True
        await self.stop()

    async def _touch(self, current: Current) -> None:
        while True:
            await anyio.sleep(TOUCH_SECONDS)
            await self._keep(self._history.touch, summary_of(current.report))

    def _tell_end(self, current: Current, outcome: Literal["failure", "interrupted"]) -> None:
        """What the run itself would have told."""
        event = RunFinished(current.id, current.trigger, outcome, time.monotonic() - current.began)
        for observer in current.observers:
            try:
                observer.notify(event)
            except Exception:  # noqa: BLE001 - the others must hear of it
                _log.exception("an observer of run %s broke", current.id)

    async def _write_down(self, current: Current, broken: Exception | None) -> Ended:
        rules = current.rules.outcomes()
        error = {}
        if broken is not None:
            rules = dict.fromkeys(current.rules.rules, "failure")
            error = {"error": f"the run broke off: {_first_cause(broken)}"}
        elif current.overdue and self._max_seconds is not None:
            limit = show_duration(self._max_seconds)
            error = {"error": f"the run took longer than --max-run-time ({limit}) and was stopped"}
        run = current.report.run() | error
        summary = run | {"totals": current.report.totals()}
        before = await self._keep(self._history.rule_results) or {}

        def write() -> None:
            self._history.finish(summary, pack_report(current.report, run), rules)

        await self._keep(write)
        return Ended(summary, current.report, rules, before)

    async def _keep(self, write: Callable[..., T], *arguments: object) -> T | None:
        """Have the history do something. It is not worth a run."""
        try:
            return await anyio.to_thread.run_sync(write, *arguments, abandon_on_cancel=True)
        except sqlite3.Error as error:
            _log.error("the history cannot be kept: %s", error)
        except Exception:  # noqa: BLE001 - nor is a defect in it
            _log.exception("the history cannot be kept")
        return None


def summary_of(report: ReportObserver) -> Document:
    """What a run's report says of the run as a whole, with its totals."""
    return report.run() | {"totals": report.totals()}


def _begun(current: Current) -> Document:
    """The same for a run that has not told of itself yet."""
    run = {"id": current.id, "trigger": current.trigger, "started": utc(time.time())}
    return summary_of(current.report) | run


def _attempt(function: Callable[..., Any], *arguments: object) -> None:
    try:
        function(*arguments)
    except Exception:  # noqa: BLE001 - it is no part of the run
        _log.exception("what follows a run broke")


def _first_cause(error: BaseException) -> str:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return f"{type(error).__name__}: {error}"
