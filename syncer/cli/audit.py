"""`syncer audit`: check that images are complete at their destinations, and copy what is missing on request."""

import time
from collections import Counter
from collections.abc import Iterable, Sequence

from syncer.cli.once import EXITS, Session, open_session, run_files
from syncer.cli.once_options import OnceOptions
from syncer.cli.process import say
from syncer.config import Config
from syncer.engine.audit import Audit
from syncer.events import ImageFailed, RunFinished, RunStarted, SkipReason
from syncer.observers import Observer, Observers
from syncer.oci.reference import Reference
from syncer.run import RunOutcome, RunResult


class AuditOptions(OnceOptions, frozen=True, kw_only=True):
    """The options of `audit`. If `deep`, blobs are downloaded and hashed. If `repair`, what is missing is copied."""

    deep: bool = False
    repair: bool = False


def run_audit(options: AuditOptions) -> int:
    """Audit the images of all rules. Return the exit code."""
    return run_files(options, lambda config: _audit(config, options))


async def _audit(config: Config, options: AuditOptions) -> int:
    audit = Audit(deep=options.deep, quiet=options.repair)
    failures = _Failures()
    with open_session(config, options) as session:
        started = time.monotonic()
        # An audit is no run for alerts on the last success: its metrics have no start and no end.
        observers: list[Observer] = [
            _Part([each], first=each is not session.metrics) for each in session.observers
        ]
        observers.append(failures)
        results = [await session.execute(observers=observers, open_image=audit.tasks, read_only=True)]
        if audit.quiet and audit.images:
            if results[0].outcome == "interrupted":
                _tell_failed(audit, observers)
            else:
                results += await _repair(session, audit, observers)
        outcome = _outcome(results, failures)
        end = RunFinished(results[0].run_id, "cli", outcome, time.monotonic() - started)
        if session.metrics is not None:
            hosts = {each.repository.host: 0 for rule in config.rules for each in rule.destinations}
            failed = Counter(destination.repository.host for destination in failures.found)
            session.metrics.set_incomplete(hosts | failed)
        Observers(each for each in session.observers if each is not session.metrics).notify(end)
        await session.finish()
    lines = {
        copy.rule.destination_name(destination): f"repaired ({error})"
        for destination, (copy, error) in audit.images.items()
    }
    for destination, event in failures.found.items():
        lines[event.rule.destination_name(destination)] = event.failure.message
    for name in sorted(lines):
        say(f"{name}: {lines[name]}")
    return EXITS[outcome]


async def _repair(session: Session, audit: Audit, observers: Sequence[Observer]) -> Sequence[RunResult]:
    """Copy what the audit found to be missing, and audit these images again. Return the results of the two runs."""
    numbers = {copy.rule.number for copy, _ in audit.images.values()}
    rules = [rule for rule in session.config.rules if rule.number in numbers]
    copied = await session.execute(
        rules=rules,
        observers=[_Part([session.progress, session.closing], first=False)],
        open_image=audit.repairs,
        force=True,
        missing=audit.content,
    )
    if copied.outcome == "interrupted":
        _tell_failed(audit, observers)
        return [copied]
    again = Audit(deep=audit.deep, only=frozenset(audit.images), complete=SkipReason.REPAIRED)
    checked = await session.execute(
        rules=rules,
        observers=[_Part(observers, first=False)],
        open_image=again.tasks,
        read_only=True,
    )
    return [checked]


def _tell_failed(audit: Audit, observers: Iterable[Observer]) -> None:
    """Report the incomplete images that will not be repaired."""
    for observer in observers:
        for copy, error in audit.images.values():
            copy.tell_failed(observer, error.as_failure())


def _outcome(results: Sequence[RunResult], failures: "_Failures") -> RunOutcome:
    if any(result.outcome == "interrupted" for result in results):
        return "interrupted"
    if not failures.found:
        return "success"
    return "partial" if any(result.skipped for result in results) else "failure"


class _Part(Observer):
    """Passes on the events of one of several runs that the user sees as one run."""

    def __init__(self, observers: Sequence[Observer], *, first: bool = True) -> None:
        super().__init__()
        self._observers = Observers(observers)
        self._dropped = (RunFinished,) if first else (RunStarted, RunFinished)

    def notify(self, event: object) -> None:
        if not isinstance(event, self._dropped):
            self._observers.notify(event)


class _Failures(Observer):
    """The images that are incomplete, or could not be checked."""

    def __init__(self) -> None:
        super().__init__()
        self.found: dict[Reference, ImageFailed] = {}

    def on_image_failed(self, event: ImageFailed) -> None:
        self.found[event.destination] = event
