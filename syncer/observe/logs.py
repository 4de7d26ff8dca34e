"""The log: one masked line for each thing worth telling, as text or JSON, and `LogObserver`, which writes a run's.

What our own modules and the libraries write with the standard `logging` goes the same way.
"""

import json
import logging
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from syncer.events import (
    Decision,
    Failure,
    ImageFailed,
    ImageSkipped,
    ImageSynced,
    IndexNarrowed,
    QuotaLow,
    RateLimitSeen,
    RequestRetried,
    RequestSent,
    RoundStarted,
    RuleWarning,
    RunFinished,
    RunStarted,
    TagsListed,
    TaskEnded,
)
from syncer.observe import words
from syncer.observe.masking import masker
from syncer.observe.progress.base import Progress, Sink
from syncer.observe.progress.totals import Totals
from syncer.observe.structured import structlog

OWN = "syncer"
"""The logger above all of ours."""
_MESSAGE = "message"
_CONTROLS = {code: f"\\x{code:02x}" for code in (*range(32), 127, *range(128, 160))}


class Logging:
    """The log of this process, as `configure_logging` set it up. `logger` is for events with fields."""

    def __init__(self, handler: logging.Handler, level: str, format_: Literal["text", "json"]) -> None:
        self.format = format_
        self._handler = handler
        logging.getLogger().addHandler(handler)
        logging.captureWarnings(capture=True)
        self.set_level(level)
        self.logger: structlog.stdlib.BoundLogger = structlog.wrap_logger(
            logging.getLogger(f"{OWN}.run"),
            processors=[
                structlog.stdlib.filter_by_level,
                structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
            ],
            wrapper_class=structlog.stdlib.BoundLogger,
            cache_logger_on_first_use=True,
        )

    @property
    def debug(self) -> bool:
        """Whether requests and decisions are wanted."""
        return logging.getLogger(OWN).isEnabledFor(logging.DEBUG)

    def set_level(self, level: str) -> None:
        """Show what is at least `level` of ours, and of the libraries warnings and above."""
        number = logging.getLevelNamesMapping()[level.upper()]
        logging.getLogger(OWN).setLevel(number)
        logging.getLogger().setLevel(max(number, logging.WARNING))

    def write_line(self, line: str) -> None:
        """Write a line as it is, whatever the level: nothing is put before it, nothing is masked."""
        record = logging.LogRecord(f"{OWN}.run", logging.INFO, "", 0, line, None, None)
        record.bare = True
        self._handler.handle(record)

    def close(self) -> None:
        """Take the log down again. Lines written after that are lost."""
        logging.getLogger().removeHandler(self._handler)
        logging.captureWarnings(capture=False)
        self._handler.close()


def configure_logging(
    *,
    level: str,
    format: Literal["text", "json"],  # noqa: A002 - the option's name
    file: Path | None,
    stream: Sink,
    secrets: Iterable[str],
    bind: Mapping[str, str] | None = None,
) -> Logging:
    """Send the log to `file`, or else to `stream`.

    No line shows any of `secrets`, nor anything that stands where secrets stand. `bind` are fields that every
    JSON line has. Where `stream` is a progress, that masks what it shows itself, too. Raises `OSError` with a message for the user where the file cannot be written.
    """
    own = None if file is None else _open(file)
    render = _as_json if format == "json" else _as_text
    handler = _Handler(own or stream, closes=own is not None)
    mask = masker(secrets)
    if isinstance(stream, Progress):
        stream.mask = mask
    handler.setFormatter(_formatter(mask, render, bind or {}))
    return Logging(handler, level, format)


def _open(file: Path) -> Any:
    try:
        return file.open("a", buffering=1, encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        raise OSError(f"the log file {file} cannot be opened for writing: {error.strerror}") from error


class _Handler(logging.Handler):
    def __init__(self, sink: Any, *, closes: bool) -> None:
        super().__init__()
        self._sink = sink
        self._closes = closes

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._sink.write(f"{self.format(record)}\n")
            self._sink.flush()
        except (OSError, ValueError):
            # A full disk or a closed terminal must not stop the copying, and there is nowhere to tell it.
            pass

    def close(self) -> None:
        if self._closes:
            self._sink.close()
        super().close()


class _Formatter(structlog.stdlib.ProcessorFormatter):
    def format(self, record: logging.LogRecord) -> str:
        return record.getMessage() if hasattr(record, "bare") else super().format(record)


def _formatter(
    mask: Callable[[str], str], render: Callable[[dict[str, Any]], str], bind: Mapping[str, str]
) -> logging.Formatter:
    def processor(_logger: object, _name: str, fields: Any) -> str:
        record: logging.LogRecord = fields.pop("_record")
        fields.pop("_from_structlog", None)
        # Before time and level are there: a secret such as "2" must not eat them, nor any name of a field.
        masked = {name: _masked(mask, value) for name, value in fields.items()}
        when = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line = {
            "timestamp": when.replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "event": masked.pop("event"),
            **bind,
            **masked,
        }
        if not record.name.startswith(f"{OWN}."):
            line["logger"] = record.name
        return render(line)

    return _Formatter(processors=[structlog.processors.format_exc_info, processor])


def _masked(mask: Callable[[str], str], value: object) -> object:
    if isinstance(value, bool | int | float | None):
        return value
    if isinstance(value, Mapping):
        return {key: _masked(mask, each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_masked(mask, each) for each in value]
    return mask(str(value))


def _as_json(line: dict[str, Any]) -> str:
    return json.dumps(line)


def _as_text(line: dict[str, Any]) -> str:
    # Text has one sentence a line; what it does not say is in the JSON form. A stranger's words must neither
    # break the line nor steer the terminal.
    sentence = str(line.get(_MESSAGE, line["event"])).translate(_CONTROLS)
    logger = f"{line['logger']}: " if "logger" in line else ""
    text = f"{line['timestamp']} {line['level'].upper():<7} {logger}{sentence}"
    if "exception" in line:
        text += "".join(f"\n    {part.translate(_CONTROLS)}" for part in line["exception"].splitlines())
    return text


class LogObserver(Totals):
    """Writes what happens in a run.

    `beside_bars`: bars on the same terminal show images, failures, warnings and totals already, so they are
    not told a second time.
    """

    def __init__(self, log: Logging, *, beside_bars: bool = False) -> None:
        super().__init__()
        self._logging = log
        self._log = log.logger
        self._beside_bars = beside_bars and log.format == "text"
        self._tell = self._log.debug if self._beside_bars else self._log.info
        self._warned: set[tuple[str, str]] = set()
        if log.debug:
            # Thousands a second pass by: their methods exist only for those who look at them.
            self._handlers[RequestSent] = self._request_sent
            self._handlers[Decision] = self._decision
            self._handlers[RateLimitSeen] = self._rate_limit_seen

    # --- the run ------------------------------------------------------------------------------------------------

    def on_run_started(self, event: RunStarted) -> None:
        super().on_run_started(event)
        self._warned.clear()
        self._log = self._logging.logger.bind(run=event.run_id)
        self._tell = self._log.debug if self._beside_bars else self._log.info
        dry = ", a dry run: nothing will be changed" if event.dry_run else ""
        self._tell(
            "run started",
            message=f"run {event.run_id} started: {words.count(event.rules, 'rule')}{dry}",
            trigger=event.trigger,
            rules=event.rules,
            dry_run=event.dry_run,
        )

    def on_run_finished(self, event: RunFinished) -> None:
        last = (
            f"Synchronization finished, {self.failed} tasks failed, cost {words.go_duration(event.seconds)}."
        )
        if self._logging.format == "json":
            self._log.info(
                "run finished",
                message=last,
                outcome=event.outcome,
                seconds=round(event.seconds, 3),
                **self.as_fields(),
            )
            return
        stopped = "stopped before the end; " if event.outcome == "interrupted" else ""
        self._tell("totals", message=f"{stopped}{self.sentence()}")
        # As image-syncer writes it, since scripts look for it: at any level, and last.
        self._logging.write_line(last)

    def on_round_started(self, event: RoundStarted) -> None:
        self._log.info(
            "round started",
            message=f"trying again what failed, round {event.number}: {words.count(event.tasks, 'task')}",
            round=event.number,
            tasks=event.tasks,
        )

    def on_rule_warning(self, event: RuleWarning) -> None:
        if not self._beside_bars:
            self._log.warning("rule warning", message=event.message, rule=event.rule)

    def on_tags_listed(self, event: TagsListed) -> None:
        self._tell(
            "tags listed",
            message=f"{event.source}: {words.count(event.found, 'tag')}, {event.selected} selected",
            rule=event.rule,
            source=event.source,
            found=event.found,
            selected=event.selected,
        )

    # --- images -------------------------------------------------------------------------------------------------

    def on_index_narrowed(self, event: IndexNarrowed) -> None:
        self._tell(
            "index narrowed",
            message=f"{event.source}: {', '.join(event.kept) or 'nothing'} kept, {', '.join(event.dropped)} left out; "
            f"{words.short(event.digest)} becomes {words.short(event.narrowed)}",
            rule=event.rule,
            source=event.source,
            digest=event.digest,
            narrowed=event.narrowed,
            kept=event.kept,
            dropped=event.dropped,
        )

    def on_image_synced(self, event: ImageSynced) -> None:
        super().on_image_synced(event)
        change = f"replaces {words.short(event.previous)}" if event.previous else "new"
        if event.previous == event.digest:
            change = "pushed again"
        doubt = ", only a mirror vouches for it" if event.unverified else ""
        self._tell(
            "image synced",
            message=f"{'would sync' if self.dry_run else 'synced'} {event.source} -> {event.destination}: "
            f"{words.short(event.digest)} {change}, {words.size(event.nbytes)} in {words.duration(event.seconds)}{doubt}",
            rule=event.rule,
            source=event.source,
            destination=event.destination,
            digest=event.digest,
            previous_digest=event.previous,
            bytes=event.nbytes,
            seconds=round(event.seconds, 3),
            unverified=event.unverified,
        )

    def on_image_skipped(self, event: ImageSkipped) -> None:
        super().on_image_skipped(event)
        # That nothing was to do is the rule; that something was not done is news.
        tell = self._log.debug if event.reason == "up to date" else self._tell
        tell(
            "image skipped",
            message=f"skipped {event.source} -> {event.destination}: {event.reason}",
            rule=event.rule,
            source=event.source,
            destination=event.destination,
            digest=event.digest,
            reason=event.reason,
        )

    def on_image_failed(self, event: ImageFailed) -> None:
        super().on_image_failed(event)
        if self._beside_bars:
            return
        self._log.error(
            "image failed",
            message=f"{event.source} -> {event.destination}: {event.failure.message}",
            rule=event.rule,
            source=event.source,
            destination=event.destination,
            digest=event.digest,
            seconds=round(event.seconds, 3),
            **_failure_fields(event.failure),
        )

    # --- tasks and requests -------------------------------------------------------------------------------------

    def on_task_ended(self, event: TaskEnded) -> None:
        if event.failure is None or event.outcome == "done":
            return
        # A task that failed for good is told as the image that fails with it.
        tell, then = self._log.debug, "given up"
        if event.outcome == "retried":
            tell, then = self._log.warning, "put aside, to be tried again"
        tell(
            f"task {event.outcome}",
            message=f"{event.label}: {event.failure.message} ({then})",
            task=event.label,
            kind=event.kind,
            **_failure_fields(event.failure),
        )

    def on_request_retried(self, event: RequestRetried) -> None:
        super().on_request_retried(event)
        # The first of its kind is worth a warning; a registry in trouble gives hundreds.
        trouble = (event.registry, event.reason)
        known = trouble in self._warned or event.reason == "token"
        self._warned.add(trouble)
        (self._log.debug if known else self._log.warning)(
            "request retried",
            message=f"{event.registry}: {_TROUBLES[event.reason]}, trying again in {words.duration(event.wait)}"
            + ("" if known else "; more of these at level debug"),
            registry=event.registry,
            reason=event.reason,
            wait=round(event.wait, 3),
        )

    def on_quota_low(self, event: QuotaLow) -> None:
        self._log.warning(
            "quota low",
            message=f"{event.registry}: {words.count(event.remaining, 'pull')} left for {event.account}, "
            f"one every {words.duration(event.wait)} from now on",
            registry=event.registry,
            account=event.account,
            remaining=event.remaining,
            wait=round(event.wait, 3),
        )

    def _request_sent(self, event: RequestSent) -> None:
        self.on_request_sent(event)
        milliseconds = round(event.seconds * 1000, 1)
        self._log.debug(
            "request",
            message=f"{event.method} {event.registry}{event.target}: {event.status or 'broke off'} in {milliseconds} ms",
            method=event.method,
            registry=event.registry,
            endpoint=event.endpoint,
            path=event.target,
            status=event.status,
            milliseconds=milliseconds,
        )

    def _decision(self, event: Decision) -> None:
        self._log.debug("decision", message=f"{event.subject}: {event.message}", subject=event.subject)

    def _rate_limit_seen(self, event: RateLimitSeen) -> None:
        self._log.debug(
            "rate limit",
            message=f"{event.registry}: {event.remaining} requests left for {event.account}",
            registry=event.registry,
            account=event.account,
            remaining=event.remaining,
        )


_TROUBLES = {
    "timeout": "no answer in time",
    "connection": "the connection broke",
    "throttled": "too many requests for it",
    "server_error": "an error of the registry",
    "token": "the token is not taken any more",
}


def _failure_fields(failure: Failure) -> dict[str, object]:
    return {
        "error": failure.kind,
        "registry": failure.registry,
        "status": failure.status,
        "permanent": failure.permanent,
    }
