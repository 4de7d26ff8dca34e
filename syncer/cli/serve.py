"""`syncer serve`: the process of the daemon, with its options, log and signals."""

import asyncio
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, nullcontext, suppress
from datetime import UTC, tzinfo
from pathlib import Path
from typing import Any, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import anyio
import click
import msgspec
from anyio.abc import TaskStatus

from syncer.accounts.credentials import Credentials
from syncer.accounts.settings import Secret
from syncer.cli import exits
from syncer.cli.base_path import read_base_path
from syncer.cli.files import describe_share, tell_errors, tell_problems
from syncer.cli.notifications import new_notifier, open_channels, secrets_of
from syncer.cli.once import load_config, new_run
from syncer.cli.once_options import OnceOptions
from syncer.cli.outcome_files import push_outcome, write_outcome
from syncer.cli.secret_files import read_secret
from syncer.config import Config
from syncer.config.rule_files import STANDARD_INPUT
from syncer.daemon.files import ConfigFiles
from syncer.daemon.guard import Guard
from syncer.daemon.hooks.journal import Journal
from syncer.daemon.lag import Lag
from syncer.daemon.live import Live
from syncer.daemon.logs import DaemonLog
from syncer.daemon.page import Pages
from syncer.daemon.runs import Prepared, Runner, Trigger, WatchedRun, Work
from syncer.daemon.schedule import Timetable
from syncer.daemon.server import Server, listen, server_for
from syncer.daemon.service import Plan, Service
from syncer.daemon.web import application
from syncer.diagnostics import ConfigError
from syncer.observe.metrics import MetricsObserver
from syncer.observe.outcomes import OutcomeLists
from syncer.observe.progress import Progress, open_progress
from syncer.observe.report import ReportObserver
from syncer.observers import Observer
from syncer.rules.rule import Rule
from syncer.rules.schedules import InvalidSchedule, check_schedule
from syncer.run import Run
from syncer.state.behind import BehindTable
from syncer.state.blob_cache import SqliteBlobCache
from syncer.state.database import Database, open_database
from syncer.state.history import IN_MEMORY, ON_DISK, History
from syncer.state.image_times import SqliteImageTimes
from syncer.state.lock import StateError, hold_lock
from syncer.state.waiting_events import WaitingEvents
from syncer.state.written_tags import SqliteWrittenTags

LAST_SECONDS = 25.0
"""Seconds from the signal until the process ends, even if it hangs. Kubernetes kills it after 30 seconds."""
_CLOSE_SECONDS = 2.0
_RECENT_NS = 1_000_000_000


class ServeOptions(OnceOptions, frozen=True, kw_only=True):
    """The options of `serve`, with their names on the command line."""

    schedule: Sequence[str] = ()
    timezone: str = "UTC"
    run_on_start: bool = False
    jitter: float = 0.0
    overlap: Literal["skip", "queue"] = "skip"
    listen: str = "127.0.0.1:8080"
    api_token_file: Path | None = None
    api_read_token_file: Path | None = None
    max_run_time: float | None = None
    hook_token_file: Path | None = None
    hook_delay: float = 5.0
    base_path: str = ""


def run_service(options: ServeOptions) -> int:
    """Serve until SIGTERM or SIGINT, and return the exit code: 0, or 2 if the daemon could not start."""
    plan = Plan(
        _schedules(options.schedule), options.overlap, options.run_on_start, hook_delay=options.hook_delay
    )
    zone = _zone(options.timezone)
    address = _address(options.listen)
    base_path = read_base_path(options.base_path)
    guard = Guard(
        address[0],
        token=_token("--api-token-file", options.api_token_file),
        read_token=_token("--api-read-token-file", options.api_read_token_file),
        hook_token=_token("--hook-token-file", options.hook_token_file),
    )
    channels = open_channels(options)
    metrics = MetricsObserver()
    try:
        with ExitStack() as stack:
            files = ConfigFiles(lambda: load_config(options), _paths(options), metrics=metrics)
            # A daemon usually has no terminal, so `auto` means no progress display.
            kind = "none" if options.progress == "auto" else options.progress
            progress = stack.enter_context(
                open_progress(kind, stream=sys.stderr, log_format=options.log_format)
            )
            own_secrets = secrets_of(options, channels)
            log = stack.enter_context(_log(options, progress, guard, files.config, own_secrets))
            if options.state_dir is not None:
                stack.enter_context(hold_lock(options.state_dir, "daemon"))
            database = open_database(options.state_dir)
            stack.callback(database.close)
            history = History(database, bounds=ON_DISK if options.state_dir else IN_MEMORY)
            notifier = new_notifier(options, channels, database, page="/runs/{run}")
            bound = listen(*address)
            stack.callback(bound.close)
            live = Live()
            lag = Lag(BehindTable(database))
            lag.restore()
            journal = Journal(WaitingEvents(database) if options.state_dir else None)
            preparation = _Preparation(options, log, progress, metrics, database)
            service = Service(
                plan=plan,
                timetable=Timetable(
                    zone, jitter=options.jitter, seed=f"{socket.gethostname()} {os.getpid()}"
                ),
                files=files,
                runner=Runner(
                    prepare=preparation,
                    history=history,
                    metrics=metrics,
                    live=live,
                    lag=lag,
                    journal=journal,
                    lock=lambda: hold_lock(options.state_dir, "run") if options.state_dir else nullcontext(),
                    on_finished=notifier.tell,
                    max_seconds=options.max_run_time,
                ),
                history=history,
                live=live,
                metrics=metrics,
                notifier=notifier,
                lag=lag,
                journal=journal,
                plan_of=preparation.plan,
            )
            _restore_history(history, metrics, log)
            service.restore_events()
            if share := describe_share(files.config, options.shard):
                log.tell(share)
            log.tell(f"listening on http://{_shown(bound)}")
            if guard.mode == "closed":
                log.tell(
                    "the API cannot start or cancel runs: --api-token-file is not set, and --listen is not a loopback address"
                )
            pages = Pages(service, guard).routes()
            server = server_for(application(service, guard, pages=pages, base_path=base_path))
            anyio.run(_serve, service, server, bound, log)
            log.tell("stopped")
    except ConfigError as error:
        tell_problems(error, options.log_format)
        return exits.UNUSABLE
    except (OSError, StateError) as error:
        tell_errors([str(error)], options.log_format)
        return exits.UNUSABLE
    if any(not thread.daemon and thread is not threading.main_thread() for thread in threading.enumerate()):
        # A thread that still waits for the network (a push, DNS) would delay the exit.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(exits.DONE)
    return exits.DONE


async def _serve(service: Service, server: Server, bound: socket.socket, log: DaemonLog) -> None:
    closed = asyncio.Event()

    async def answer() -> None:
        await server.serve(sockets=[bound])
        closed.set()

    async with anyio.create_task_group() as group:
        await group.start(_handle_signals, service, log)
        group.start_soon(answer)
        await service.run()
        service.live.close()
        server.should_exit = True
        with anyio.move_on_after(_CLOSE_SECONDS):
            await closed.wait()
        group.cancel_scope.cancel()


async def _handle_signals(service: Service, log: DaemonLog, *, task_status: TaskStatus[None]) -> None:
    """Handle signals. SIGTERM and SIGINT stop, a second one immediately; SIGHUP reloads; SIGUSR1 toggles debug logging."""
    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1)
    async with anyio.create_task_group() as group:
        with anyio.open_signal_receiver(*numbers) as signals:
            task_status.started()
            async for number in signals:
                match number:
                    case signal.SIGHUP:
                        log.reopen()
                        group.start_soon(service.reload)
                    case signal.SIGUSR1:
                        log.toggle_debug()
                    case _ if service.stopping:
                        os._exit(exits.DONE)
                    case _:
                        name = signal.Signals(number).name
                        log.tell(
                            f"received {name}: waiting for running tasks; send it again to stop immediately"
                        )
                        _schedule_exit()
                        _ignore(signal.SIGHUP, signal.SIGUSR1)
                        service.stop()


def _ignore(*numbers: signal.Signals) -> None:
    """Ignore signals until the end of the process. Without their handlers, they would end it."""
    for number in numbers:
        asyncio.get_running_loop().remove_signal_handler(number)
        signal.signal(number, signal.SIG_IGN)


def _schedule_exit() -> None:
    """End the process after `LAST_SECONDS`, even if something hangs."""
    timer = threading.Timer(LAST_SECONDS, os._exit, [0])
    timer.daemon = True
    timer.start()


class _Preparation:
    """Creates runs according to the options."""

    def __init__(
        self,
        options: ServeOptions,
        log: DaemonLog,
        progress: Progress,
        metrics: MetricsObserver,
        database: Database,
    ) -> None:
        self._options = options
        self._log = log
        self._progress = progress
        self._metrics = metrics
        self._database = database
        self._warnings: tuple[str, ...] = ()

    def __call__(
        self, config: Config, work: Work, observers: Sequence[Observer], trigger: Trigger
    ) -> Prepared:
        credentials = Credentials(config.auth)
        self._log.renew(credentials.secrets())
        warnings = tuple(str(warning) for warning in (*config.warnings, *credentials.warnings))
        if warnings != self._warnings:
            self._warnings = warnings
            for warning in warnings:
                self._log.current.logger.warning("config", message=warning)
        # Further rules may join the run.
        lists = OutcomeLists(config.rules)
        run = new_run(
            WatchedRun,
            config,
            self._options,
            credentials=credentials,
            **self._state(),
            observers=[self._progress, *observers, lists, self._log.observer()],
            rules=work.rules,
            tags=work.tags,
            announced=work.announced,
            trigger=trigger,
        )

        def write(report: ReportObserver) -> None:
            log = self._log.current
            write_outcome(self._options, log, report=report, metrics=self._metrics, lists=lists)
            push_outcome(self._options, log, self._metrics)

        return Prepared(run, write)

    def plan(self, config: Config, rules: Sequence[Rule]) -> tuple[Run, ReportObserver]:
        """Create a dry run, which is not in the history and not in the log."""
        report = ReportObserver()
        run = new_run(
            Run,
            config,
            msgspec.structs.replace(self._options, dry_run=True),
            credentials=Credentials(config.auth),
            **self._state(),
            observers=[report],
            rules=rules,
            trigger="api",
        )
        return run, report

    def _state(self) -> dict[str, Any]:
        """Return what earlier runs with the same state folder recorded, as arguments of a run."""
        if self._options.state_dir is None:
            return {}
        return {
            "cache": SqliteBlobCache(self._database),
            "image_times": SqliteImageTimes(self._database),
            "written": SqliteWrittenTags(self._database),
        }


# --- options ------------------------------------------------------------------------------------------------------


def _paths(options: ServeOptions) -> list[Path]:
    images = [path for path in options.images if path != STANDARD_INPUT]
    return [path for path in (options.auth, *images, options.config) if path is not None]


def _log(
    options: ServeOptions, progress: Progress, guard: Guard, config: Config, own: Sequence[str]
) -> DaemonLog:
    secrets = [
        token().reveal() for token in (guard.token, guard.read_token, guard.hook_token) if token is not None
    ]
    return DaemonLog(
        level=options.log_level,
        format_=options.log_format,
        file=options.log,
        stream=progress,
        own_secrets=[*secrets, *own],
        secrets=config.auth.secrets(),
        bind=options.shard.fields,
    )


def _restore_history(history: History, metrics: MetricsObserver, log: DaemonLog) -> None:
    """Restore the metrics from the history, and mark unfinished runs as interrupted."""
    for run_id in history.close_unfinished():
        log.tell(f"run {run_id} did not finish before the daemon exited; marked as interrupted")
    succeeded, completed = history.last_times()
    metrics.restore(succeeded=succeeded, completed=completed)


def _schedules(texts: Sequence[str]) -> tuple[str, ...]:
    try:
        return tuple(dict.fromkeys(check_schedule(text) for text in texts))
    except InvalidSchedule as error:
        raise click.BadParameter(str(error), param_hint="--schedule") from error


def _zone(name: str) -> tzinfo:
    if name.upper() == "UTC":
        return UTC
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise click.BadParameter(
            f"unknown time zone {name!r} (expected a name such as Europe/Berlin)",
            param_hint="--timezone",
        ) from error


def _address(text: str) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    if not colon or not (port.isascii() and port.isdigit()) or int(port) > 65535:
        raise click.BadParameter(f"expected HOST:PORT, found {text!r}", param_hint="--listen")
    return host.removeprefix("[").removesuffix("]") or "0.0.0.0", int(port)  # noqa: S104 - `:8080` means all addresses


def _token(name: str, path: Path | None) -> Callable[[], Secret] | None:
    """Return a function that reads the token again if its file changed, because mounted secrets change.

    If the file cannot be read, the function returns the last token.
    """
    if path is None:
        return None
    last = read_secret(name, path)
    seen: tuple[int, ...] = ()

    def token() -> Secret:
        nonlocal last, seen
        with suppress(OSError, click.BadParameter):
            found = path.stat()
            version = found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns
            # Two changes in quick succession can have the same time.
            if version != seen or time.time_ns() - found.st_mtime_ns < _RECENT_NS:
                last, seen = read_secret(name, path), version
        return last

    return token


# --- formatting ---------------------------------------------------------------------------------------------------


def _shown(bound: socket.socket) -> str:
    host, port = bound.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
