"""A daemon without a process: runs that do as they are told, a clock that moves when somebody sleeps."""

import json
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager, nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest

from syncer.accounts.book import AuthBook
from syncer.config import Config
from syncer.config.auth_reader import parse_auth
from syncer.config.json_reader import read_json
from syncer.config.rule_reader import rules_from
from syncer.daemon.files import ConfigFiles
from syncer.daemon.guard import Guard
from syncer.daemon.hooks.journal import Journal
from syncer.daemon.lag import Lag
from syncer.daemon.live import Live
from syncer.daemon.page import Pages
from syncer.daemon.runs import Prepared, Runner, Trigger, WatchedRun, Work
from syncer.daemon.schedule import Timetable
from syncer.daemon.service import Plan, Service
from syncer.daemon.web import application
from syncer.diagnostics import Findings
from syncer.events import Failure, ImageFailed, ImageSynced, RunFinished, RunStarted
from syncer.notify.changes import Ended, FailureWatch
from syncer.notify.notifier import Notifier
from syncer.observe.metrics import MetricsObserver
from syncer.observe.report import ReportObserver
from syncer.observers import Observer
from syncer.oci.digest import Digest
from syncer.oci.reference import Reference, Repository
from syncer.rules.rule import Rule
from syncer.run import Announced, Run, RunOptions, RunOutcome, RunResult
from syncer.state.behind import BehindTable
from syncer.state.database import open_database
from syncer.state.failures import FailureTable
from syncer.state.history import Bounds, History
from syncer.state.waiting_events import EventKey, WaitingEvents
from tests.support.rules import numbered

START = datetime(2026, 6, 1, 12, tzinfo=UTC)
PATIENCE = 10.0
DIGEST = Digest.of(b"image")
FAILURE = Failure("not_found", "no such image", "source.example", 404, permanent=True)


class Clock:
    """Goes on when somebody sleeps, and stops at `until`: a test lets it go on. Waits for whoever is `busy`."""

    def __init__(self) -> None:
        self.now = self.until = START
        self.idle = False
        self.busy: Callable[[], bool] = bool

    def __call__(self) -> datetime:
        return self.now

    async def sleep(self, seconds: float) -> None:
        wake = self.now + timedelta(seconds=max(seconds, 0.001))
        while self.until < wake or self.busy():
            self.idle = not self.busy()
            await anyio.sleep(0.001)
        self.idle = False
        self.now = max(self.now, wake)


class Scripted(WatchedRun):
    """A run that does what the test says instead of copying."""

    def __init__(self, work: Work, observers: Sequence[Observer], trigger: str, script: Any) -> None:
        super().__init__(work.rules, AuthBook(), RunOptions(), observers=observers, trigger=trigger)
        self.rules = work.rules
        self.first = work
        self.added: list[Work] = []
        self.trigger = trigger
        self.stopped = anyio.Event()
        self.go_on = anyio.Event()
        self.waiting = False
        self.behind = 0
        self._script = script

    @property
    def stopping(self) -> bool:
        return self.stopped.is_set()

    @property
    def announced_waiting(self) -> int:
        return self.behind

    def stop(self) -> None:
        self.stopped.set()
        self.go_on.set()

    def add_rules(self, rules: Sequence[Rule]) -> None:
        self.added.append(Work(rules))

    def announce(self, announced: Sequence[Announced]) -> None:
        self.added.append(Work(announced=announced))

    def tell(self, event: object) -> None:
        self._observer.notify(event)

    async def execute(self) -> RunResult:
        self.tell(RunStarted(self.run_id, self.trigger, len(self.rules)))
        outcome: RunOutcome = await self._script(self) or "success"
        if self.stopping:
            outcome = "interrupted"
        self.tell(RunFinished(self.run_id, self.trigger, outcome, 0.1))
        return RunResult(self.run_id, outcome, 0, 0, 0, 0.1)

    def synced(self, rule: int = 0) -> None:
        self.tell(
            ImageSynced(
                numbered(rule), reference("source.example"), reference("there.example"), DIGEST, None, 10, 0.1
            )
        )

    def failed(self, rule: int = 0, failure: Failure = FAILURE) -> None:
        self.tell(
            ImageFailed(numbered(rule), reference("source.example"), reference("there.example"), failure)
        )


def auth_book(document: dict[str, Any]) -> AuthBook:
    """What an auth file with this content says."""
    findings = Findings()
    node = read_json(json.dumps(document), "auth", "auth", findings)
    assert node is not None
    return parse_auth(node, folder=Path(), environment={}, findings=findings)


def reference(host: str) -> Reference:
    return Reference(Repository(host, "team/app"), "1.0")


async def at_once(_run: Scripted) -> None:
    """A run that has nothing to do."""


async def until_told(run: Scripted) -> None:
    """A run that goes on until the test, or a stop, ends it."""
    run.waiting = True
    await run.go_on.wait()
    run.waiting = False


@dataclass
class Daemon:
    """A service and what a test needs to play with it. `script` is what the next runs do; None lets them copy."""

    clock: Clock = field(default_factory=Clock)
    images: dict[str, object] = field(
        default_factory=lambda: {"source.example/team/app:1.0": "there.example/team/app"}
    )
    script: Callable[[Scripted], Any] | None = at_once
    auth: AuthBook = field(default_factory=AuthBook)
    patience: float = PATIENCE
    plan: Plan = field(default_factory=Plan)
    bounds: Bounds = field(default_factory=Bounds)
    guard: Guard = field(default_factory=lambda: Guard("127.0.0.1"))
    lock: Callable[[], AbstractContextManager[None]] = nullcontext
    load: Callable[[], Config] | None = None
    keeps_events: bool = False
    left: dict[EventKey, str] = field(default_factory=dict)
    write_outcome: Callable[[ReportObserver], None] = lambda _report: None
    runs: list[Scripted] = field(default_factory=list)
    ended: list[Ended] = field(default_factory=list)

    @contextmanager
    def built(self) -> Iterator[Service]:
        self.database = open_database(None)
        self.history = History(self.database, bounds=self.bounds)
        self.metrics = MetricsObserver()
        self.live = Live()
        self.lag = Lag(BehindTable(self.database), now=lambda: self.clock().timestamp())
        WaitingEvents(self.database).save(self.left)
        self.journal = Journal(WaitingEvents(self.database) if self.keeps_events else None)
        self.files = ConfigFiles(self.load or self._config, [], metrics=self.metrics)
        self.runner = Runner(
            prepare=self._prepare,
            history=self.history,
            metrics=self.metrics,
            live=self.live,
            lag=self.lag,
            journal=self.journal,
            lock=self.lock,
            on_finished=self.ended.append,
        )
        self.service = Service(
            plan=self.plan,
            timetable=Timetable(UTC),
            files=self.files,
            runner=self.runner,
            history=self.history,
            live=self.live,
            metrics=self.metrics,
            notifier=Notifier([], FailureWatch(FailureTable(self.database))),
            lag=self.lag,
            journal=self.journal,
            plan_of=self._plan_of,
            now=self.clock,
            sleep=self.clock.sleep,
        )
        self.clock.busy = lambda: self.runner.busy and not self.blocked
        self.service.restore_events()
        yield self.service

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Service]:
        with self.built() as service, anyio.fail_after(self.patience):
            async with anyio.create_task_group() as group:
                group.start_soon(service.run)
                await self.until(lambda: self.clock.idle)
                yield service
                service.stop()

    @property
    def blocked(self) -> bool:
        """Whether the run in progress waits for the test."""
        return bool(self.runs) and self.runs[-1].waiting and not self.runs[-1].go_on.is_set()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Let everybody work until it is so."""
        while not condition():  # noqa: ASYNC110 - any state of the daemon, with no event for it
            await anyio.sleep(0.001)

    async def settle(self) -> None:
        """Wait until no run goes on, or the one that does waits for the test."""
        await self.until(lambda: not self.runner.busy or self.blocked)

    async def advance(self, **time: float) -> None:
        """Let so much time pass, and all happen that is due in it."""
        self.clock.idle = False
        self.clock.until += timedelta(**time)
        await self.until(lambda: self.clock.idle)
        await self.settle()

    @property
    def triggers(self) -> list[str]:
        return [run.trigger for run in self.runs]

    def sources(self, number: int = -1) -> list[str]:
        """The rules of a run."""
        return [str(rule) for rule in self.runs[number].rules]

    def summaries(self) -> list[dict[str, Any]]:
        return [json.loads(text) for text in self.history.summaries(999)]

    def sample(self, name: str, **labels: str) -> float | None:
        return self.metrics.registry.get_sample_value(name, labels)

    def client(self, **options: Any) -> httpx.AsyncClient:
        app = application(self.service, self.guard, pages=Pages(self.service, self.guard).routes())
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        return httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8080", **options)

    def _config(self) -> Config:
        return Config(self.auth, rules_from(self.images))

    def _plan_of(self, config: Config, rules: Sequence[Rule]) -> tuple[Run, ReportObserver]:
        report = ReportObserver()
        options = RunOptions(retries=0, dry_run=True)
        return Run(rules, config.auth, options, observers=[report], trigger="api"), report

    def _prepare(
        self, config: Config, work: Work, observers: Sequence[Observer], trigger: Trigger
    ) -> Prepared:
        if self.script is None:
            real = WatchedRun(
                work.rules,
                config.auth,
                RunOptions(retries=0),
                observers=observers,
                trigger=trigger,
                tags=work.tags,
                announced=work.announced,
            )
            return Prepared(real, self.write_outcome)
        run = Scripted(work, observers, trigger, self.script)
        self.runs.append(run)
        return Prepared(run, self.write_outcome)


@pytest.fixture
def daemon() -> Iterator[Daemon]:
    made = Daemon()
    yield made
    made.database.close()
