"""`sync` and `plan`: one run from the command line, shown, logged and written down."""

import asyncio
import itertools
import os
import sys
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager, nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from syncer.accounts.credentials import Credentials
from syncer.cli import exits
from syncer.cli.files import (
    attested,
    describe_share,
    filtered,
    read_config,
    sharded,
    tell_errors,
    tell_problems,
    with_referrers,
    without_overwriting,
)
from syncer.cli.once_options import OnceOptions
from syncer.cli.process import say
from syncer.cli.signals import Signals
from syncer.config import Config
from syncer.diagnostics import ConfigError
from syncer.engine.ledger import BlobCache
from syncer.observe import words
from syncer.observe.closing_line import ClosingLine
from syncer.observe.log_observer import LogObserver
from syncer.observe.logs import LogFileError, Logging, configure_logging
from syncer.observe.outcomes import OutcomeLists
from syncer.observe.progress import Progress, open_progress
from syncer.observe.report import ReportObserver
from syncer.observers import Observer
from syncer.rules.attestations import Attestations
from syncer.rules.rule import Rule
from syncer.run import Run, RunOptions, RunResult
from syncer.state.lock import StateError, hold_lock

if TYPE_CHECKING:
    from syncer.cli.notifications import RunNotice
    from syncer.observe.metrics import MetricsObserver

EXITS = {
    "success": exits.DONE,
    "partial": exits.FAILED,
    "failure": exits.FAILED,
    "interrupted": exits.STOPPED,
}


def load_config(options: OnceOptions) -> Config:
    """The files, all of them checked, and of their rules what is to be done here. Raises `ConfigError`."""
    return narrowed(read_config(options), options)


def narrowed(config: Config, options: OnceOptions) -> Config:
    """Return what the options leave of checked files, for this process."""
    config = filtered(
        config,
        os_=list(itertools.chain(*options.os_)),
        arch=list(itertools.chain(*options.arch)),
    )
    config = attested(config, Attestations(options.attestations) if options.attestations else None)
    if options.no_clobber:
        config = without_overwriting(config)
    if options.referrers:
        config = with_referrers(config)
    return sharded(config, options.shard)


def run_once(options: OnceOptions) -> int:
    """Do what the options ask. The exit code; problems of the files are told on stderr."""
    return run_files(options, lambda config: run_config(config, options))


def run_files(
    options: OnceOptions,
    execute: Callable[[Config], Coroutine[Any, Any, int]],
    read: Callable[[], Config] | None = None,
) -> int:
    """Read the files and pass them to `execute`, which returns the exit code. Problems of the files are told on stderr.

    `read` reads them in another way than `load_config`, and raises the same errors.
    """
    try:
        config = read() if read else load_config(options)
        with _state_lock(options):
            return asyncio.run(execute(config))
    except ConfigError as error:
        tell_problems(error, options.log_format)
    except (StateError, LogFileError) as error:
        tell_errors([str(error)], options.log_format)
    return exits.UNUSABLE


def _state_lock(options: OnceOptions) -> AbstractContextManager[None]:
    """A daemon with the same state folder, or another run, must not work at the same time."""
    if options.state_dir is None or options.dry_run:
        return nullcontext()
    return hold_lock(options.state_dir, "run")


@contextmanager
def _state(options: OnceOptions) -> Iterator[dict[str, Any]]:
    """Yield what earlier runs with the same state folder recorded, as arguments of `Run`."""
    if options.state_dir is None:
        yield {}
        return
    from syncer.state.blob_cache import SqliteBlobCache
    from syncer.state.database import open_database
    from syncer.state.image_times import SqliteImageTimes
    from syncer.state.written_tags import SqliteWrittenTags

    with closing(open_database(options.state_dir)) as database:
        yield {
            "cache": SqliteBlobCache(database),
            "image_times": SqliteImageTimes(database),
            "written": SqliteWrittenTags(database),
        }


class Session:
    """What the command line needs around its runs: credentials, state, logs, progress, and what is written at the end."""

    def __init__(
        self,
        config: Config,
        options: OnceOptions,
        *,
        credentials: Credentials,
        log: Logging,
        progress: Progress,
        state: Mapping[str, Any],
        notice: "RunNotice | None",
        restore: Callable[[], None],
    ) -> None:
        self.config = config
        self.options = options
        self.log = log
        self.progress = progress
        self.report = ReportObserver()
        self.lists = OutcomeLists(config.rules)
        self.metrics = _metrics_observer(options)
        self.closing = ClosingLine(LogObserver(log, beside_bars=progress.draws and options.log is None))
        self._credentials = credentials
        self._state = state
        self._notice = notice
        self._signals = Signals(tell=self._tell, at_once=restore)

    @property
    def observers(self) -> list[Observer]:
        """Return the observers of a run, the log last."""
        recording: list[Observer] = [self.report, self.lists, *([self.metrics] if self.metrics else [])]
        if self._notice is not None:
            recording.append(self._notice.observer)
        return [self.progress, *recording, self.closing]

    async def execute(
        self,
        *,
        rules: Sequence[Rule] | None = None,
        observers: Sequence[Observer] | None = None,
        force: bool = False,
        **parts: Any,
    ) -> RunResult:
        """Run all rules, or some. `parts` are further arguments of `Run`."""
        run = new_run(
            Run,
            self.config,
            msgspec.structs.replace(self.options, force=force or self.options.force),
            credentials=self._credentials,
            **self._state,
            observers=self.observers if observers is None else observers,
            rules=rules,
            **parts,
        )
        self._signals.handle(run.stop)
        if self._signals.received:
            run.stop()
        result = await run.execute()
        # What is written about the run is written to its end, in threads: the second signal still ends the process.
        self._signals.handle(bool)
        return result

    def _tell(self, text: str) -> None:
        self.log.logger.warning("stopping", message=text)
        if self.options.log is not None:
            self.progress.write(f"{text}\n")
            self.progress.flush()

    async def finish(self) -> None:
        """Write the files that the options name, push metrics, send notifications, then write the last line of the log.

        A signal ends what is sent, not what is written.
        """
        if self.options.writes_outcome:
            from syncer.cli.outcome_files import write_outcome

            write = partial(write_outcome, report=self.report, metrics=self.metrics, lists=self.lists)
            await asyncio.to_thread(write, self.options, self.log)
        if self._notice is not None or (self.metrics is not None and self.options.metrics_push):
            sending = asyncio.ensure_future(self._send())
            self._signals.handle(sending.cancel)
            await asyncio.wait([sending])
            if sending.cancelled():
                self.log.logger.error("outcome", message="not everything was sent: stopped by a signal")
            else:
                sending.result()
        self.closing.tell()

    async def _send(self) -> None:
        if self.metrics is not None and self.options.metrics_push:
            from anyio import to_thread

            from syncer.cli.outcome_files import push_outcome

            # asyncio would wait for its threads at the end.
            await to_thread.run_sync(
                push_outcome, self.options, self.log, self.metrics, abandon_on_cancel=True
            )
        if self._notice is not None:
            await self._notice.send(self.report, self.options.state_dir)


@contextmanager
def open_session(config: Config, options: OnceOptions) -> Iterator[Session]:
    """Open logs, progress and state, and log the warnings. Raises `LogFileError` if the log cannot be opened."""
    credentials = Credentials(config.auth)
    secrets: list[str] = []
    notice = None
    if options.notifies:
        from syncer.cli.notifications import RunNotice, open_channels, secrets_of

        channels = open_channels(options)
        secrets = secrets_of(options, channels)
        if channels and not options.dry_run:
            notice = RunNotice(options, channels, config.rules)
    with ExitStack() as stack:
        progress = stack.enter_context(
            open_progress(
                "none" if options.dry_run else options.progress,
                stream=sys.stderr,
                log_format=options.log_format,
            )
        )
        log = configure_logging(
            level=options.log_level,
            format=options.log_format,
            file=options.log,
            stream=progress,
            secrets=[*credentials.secrets(), *secrets],
            bind=options.shard.fields,
        )
        stack.callback(log.close)
        for warning in (*config.warnings, *credentials.warnings):
            log.logger.warning("config", message=str(warning))
        if share := describe_share(config, options.shard):
            log.logger.info("shard", message=share)
        state = stack.enter_context(_state(options))
        yield Session(
            config,
            options,
            credentials=credentials,
            log=log,
            progress=progress,
            state=state,
            notice=notice,
            restore=stack.close,
        )


async def run_config(
    config: Config,
    options: OnceOptions,
    complete: Callable[[RunResult], None] | None = None,
    **parts: Any,
) -> int:
    """Run checked files, with everything that watches. The exit code. Raises `LogFileError` if the log cannot be opened.

    `complete` writes what is written last, for a run that is no dry run. It blocks, and may raise `OSError`. `parts` are
    further arguments of `Run`.
    """
    completed = True
    with open_session(config, options) as session:
        result = await session.execute(**parts)
        if options.dry_run:
            await asyncio.to_thread(_show_plan, session.report)
        fails_on_drift = options.fail_on_drift and result.drifted > 0
        if fails_on_drift:
            drifted = words.count(result.drifted, "image")
            message = f"{drifted} not overwritten, although the source has another image"
            session.log.logger.error("drift", message=message)
        if complete is not None and not options.dry_run:
            try:
                await asyncio.to_thread(complete, result)
            except OSError as error:
                completed = False
                session.log.logger.error("archive", message=f"cannot finish the archive: {error}")  # noqa: TRY400 - no traceback
        await session.finish()
    if result.failed and not options.dry_run:
        # Scripts written for image-syncer look for its last words.
        say("failed tasks exist")
    code = EXITS[result.outcome]
    return exits.FAILED if code == exits.DONE and (fails_on_drift or not completed) else code


R = TypeVar("R", bound=Run)


def new_run(
    kind: type[R],
    config: Config,
    options: OnceOptions,
    *,
    credentials: Credentials,
    observers: Sequence[Observer],
    rules: Sequence[Rule] | None = None,
    trigger: str = "cli",
    cache: BlobCache | None = None,
    **parts: Any,
) -> R:
    """A run of all rules, or of some, as the options want it. `parts` are further arguments of the run."""
    return kind(
        config.rules if rules is None else rules,
        config.auth,
        RunOptions(
            options.proc,
            options.retries,
            force=options.force,
            trust_sources=options.trust_sources,
            prune=options.prune,
            dry_run=options.dry_run,
            shard=options.shard,
            allow_internal=tuple(options.allow_internal),
            allowed=config.allowed,
        ),
        credentials=credentials,
        cache=cache,
        observers=observers,
        trigger=trigger,
        all_rules=config.every_rule,
        **parts,
    )


def _show_plan(report: ReportObserver) -> None:
    from syncer.observe.plan_table import render_plan

    styled = sys.stdout.isatty() and "NO_COLOR" not in os.environ
    import shutil

    width = shutil.get_terminal_size((100, 24)).columns
    for line in render_plan(report.plan(), width=width, styled=styled):
        if not say(line):
            return


def _metrics_observer(options: OnceOptions) -> "MetricsObserver | None":
    """Only where somebody wants them: their library takes a while to import."""
    if not (options.metrics_file or options.metrics_push):
        return None
    from syncer.observe.metrics import MetricsObserver

    return MetricsObserver()
