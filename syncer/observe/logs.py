"""The log: one masked line for each event, as text or JSON.

Records that modules and libraries write with the standard `logging` are formatted and masked in the same way.
"""

import json
import logging
import sys
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from syncer.observe.masking import masker
from syncer.observe.progress.base import Progress, Sink
from syncer.untrusted import escaped

OWN = "syncer"
"""The parent of all loggers of this program."""
_MESSAGE = "message"
_FIELDS = "fields"
"""The attribute of a log record that holds the fields of `EventLogger`."""


class EventLogger:
    """Logs events with fields. `fields` are added to every event."""

    def __init__(self, logger: logging.Logger, fields: Mapping[str, object] | None = None) -> None:
        self._logger = logger
        self._fields = dict(fields or {})

    def bind(self, **fields: object) -> "EventLogger":
        """Return a logger that adds further fields to every event."""
        return EventLogger(self._logger, self._fields | fields)

    def debug(self, event: str, **fields: object) -> None:
        self._write(logging.DEBUG, event, fields)

    def info(self, event: str, **fields: object) -> None:
        self._write(logging.INFO, event, fields)

    def warning(self, event: str, **fields: object) -> None:
        self._write(logging.WARNING, event, fields)

    def error(self, event: str, **fields: object) -> None:
        self._write(logging.ERROR, event, fields)

    def _write(self, level: int, event: str, fields: dict[str, object]) -> None:
        if self._logger.isEnabledFor(level):
            self._logger.log(level, event, extra={_FIELDS: self._fields | fields})


class Logging:
    """The log of this process, set up by `configure_logging`. `logger` logs events with fields."""

    def __init__(self, handler: "_Handler", level: str, format_: Literal["text", "json"]) -> None:
        self.format = format_
        self._handler = handler
        logging.getLogger().addHandler(handler)
        logging.captureWarnings(capture=True)
        self._own = logging.getLogger(OWN)
        self.debug = False
        """Whether requests and decisions are logged."""
        self.set_level(level)
        self.logger = EventLogger(logging.getLogger(f"{OWN}.run"))

    def set_level(self, level: str) -> None:
        """Log records of this program from `level` up, and those of libraries from warning up."""
        number = logging.getLevelNamesMapping()[level.upper()]
        self._own.setLevel(number)
        self.debug = self._own.isEnabledFor(logging.DEBUG)
        logging.getLogger().setLevel(max(number, logging.WARNING))

    def write_line(self, line: str) -> None:
        """Write a line at any level, without prefix and without masking."""
        record = logging.LogRecord(f"{OWN}.run", logging.INFO, "", 0, line, None, None)
        record.bare = True
        self._handler.handle(record)

    def reopen(self) -> None:
        """Open the log file again: it may have been renamed. If that fails, raise `LogFileError` and keep the old one."""
        self._handler.reopen()

    def close(self) -> None:
        """Remove the log handler. Records written afterward are lost."""
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
    """Write the log to `file`, or to `stream` if there is no file.

    Every line is masked: `secrets`, and values at positions where secrets are expected. `bind` are fields that every
    JSON line has. If `stream` is a `Progress`, its own texts are masked too. Raises `LogFileError` if the file cannot be
    opened.
    """
    own = None if file is None else _open(file)
    formatter = _JsonFormatter if format == "json" else _TextFormatter
    handler = _Handler(own or stream, file)
    mask = masker(secrets)
    if isinstance(stream, Progress):
        stream.mask = mask
    handler.setFormatter(formatter(mask, bind or {}))
    return Logging(handler, level, format)


class LogFileError(OSError):
    """The log file cannot be opened. `str()` is a message for the user."""


def _open(file: Path) -> Any:
    try:
        return file.open("a", buffering=1, encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        raise LogFileError(f"the log file {file} cannot be opened for writing: {error.strerror}") from error


class _Handler(logging.Handler):
    """Writes to `sink`, which is closed at the end if it is `file`."""

    def __init__(self, sink: Any, file: Path | None) -> None:
        super().__init__()
        self._sink = sink
        self._file = file
        self._failed = False

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._sink.write(f"{self.format(record)}\n")
            self._sink.flush()
        except (OSError, ValueError) as error:
            # A full disk or a closed terminal must not stop the run.
            self._complain(error)

    def _complain(self, error: OSError | ValueError) -> None:
        """Report once on stderr, if possible, that the log file cannot be written."""
        if self._failed or self._file is None:
            return
        self._failed = True
        with suppress(OSError, ValueError):
            reason = getattr(error, "strerror", None) or error
            sys.stderr.write(f"error: cannot write to the log file: {reason}\n")
            sys.stderr.flush()

    def reopen(self) -> None:
        if self._file is None:
            return
        sink = _open(self._file)
        self.acquire()
        try:
            old, self._sink = self._sink, sink
        finally:
            self.release()
        with suppress(OSError):
            old.close()

    def close(self) -> None:
        if self._file is not None:
            try:
                self._sink.close()
            except OSError as error:
                self._complain(error)
        super().close()


class _JsonFormatter(logging.Formatter):
    """Formats a record as one JSON object with all its fields. `bind` are fields that every line has."""

    def __init__(self, mask: Callable[[str], str], bind: Mapping[str, str]) -> None:
        super().__init__()
        self._mask = mask
        self._bind = bind

    def format(self, record: logging.LogRecord) -> str:
        if hasattr(record, "bare"):
            return record.getMessage()
        fields = self._shown({"event": record.getMessage(), **getattr(record, _FIELDS, {})})
        if record.exc_info:
            fields["exception"] = self.formatException(record.exc_info)
        # Mask before time and level are added: a secret such as "2" must not mask them, or the names of fields.
        masked = {name: _masked(self._mask, value) for name, value in fields.items()}
        when = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line = {
            "timestamp": when.replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "event": masked.pop("event"),
            **self._bind,
            **masked,
        }
        if not record.name.startswith(f"{OWN}."):
            line["logger"] = record.name
        return self._render(line)

    def _shown(self, fields: dict[str, Any]) -> dict[str, Any]:
        return fields

    def _render(self, line: dict[str, Any]) -> str:
        return json.dumps(line)


class _TextFormatter(_JsonFormatter):
    """Formats a record as one sentence. Fields are only in the JSON format."""

    def _shown(self, fields: dict[str, Any]) -> dict[str, Any]:
        return {name: fields[name] for name in ("event", _MESSAGE) if name in fields}

    def _render(self, line: dict[str, Any]) -> str:
        # Untrusted text must not break the line or control the terminal.
        sentence = escaped(str(line.get(_MESSAGE, line["event"])))
        logger = f"{line['logger']}: " if "logger" in line else ""
        text = f"{line['timestamp']} {line['level'].upper():<7} {logger}{sentence}"
        if "exception" in line:
            text += "".join(f"\n    {escaped(part)}" for part in line["exception"].splitlines())
        return text


def _masked(mask: Callable[[str], str], value: object) -> object:
    if isinstance(value, bool | int | float | None):
        return value
    if isinstance(value, Mapping):
        return {key: _masked(mask, each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_masked(mask, each) for each in value]
    return mask(str(value))
