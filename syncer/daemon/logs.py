"""The log of a daemon: new secrets are masked as files change, and debugging is switched while it runs."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, Self

from syncer.events import Decision, RateLimitSeen, RequestSent
from syncer.observe.log_observer import LogObserver
from syncer.observe.logs import Logging, configure_logging
from syncer.observe.progress import Progress


class DaemonLog:
    """The log that is written now. A context manager; raises `OSError` where the file cannot be opened.

    `own_secrets` are the daemon's, `secrets` those of the files. `bind` are fields of every JSON line.
    """

    def __init__(
        self,
        *,
        level: str,
        format_: Literal["text", "json"],
        file: Path | None,
        stream: Progress,
        own_secrets: Iterable[str],
        secrets: Iterable[str],
        bind: Mapping[str, str],
    ) -> None:
        self._level = level.lower()
        self._calm = "info" if self._level == "debug" else self._level
        self._format = format_
        self._file = file
        self._stream = stream
        self._own = frozenset(own_secrets)
        self._bind = bind
        self._secrets = frozenset(secrets)
        self._watching: RunLog | None = None
        self.current = self._open(file, self._secrets)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.current.close()

    def tell(self, message: str) -> None:
        """Something that is no part of a run."""
        self.current.logger.info("daemon", message=message)

    def observer(self) -> "RunLog":
        """Writes the next run."""
        beside_bars = self._stream.draws and self._file is None
        self._watching = RunLog(self.current, beside_bars=beside_bars)
        return self._watching

    def renew(self, secrets: Iterable[str]) -> None:
        """Mask these from now on, and those of the time before, which others may still tell of."""
        found = frozenset(secrets)
        if found == self._secrets:
            return
        before, self._secrets = self._secrets, found
        self.current.close()
        try:
            self.current = self._open(self._file, found | before)
        except OSError as error:
            # The log's folder is gone: better told where somebody may see it than not at all.
            self.current = self._open(None, found | before)
            self.current.logger.error("daemon", message=str(error))  # noqa: TRY400 - no traceback

    def toggle_debug(self) -> None:
        """Tell everything, or what was asked for at the start: then less, if that was everything."""
        self._level = self._calm if self._level == "debug" else "debug"
        self.current.set_level(self._level)
        if self._watching is not None:
            self._watching.look_again()
        self.current.logger.warning("daemon", message=f"the log level is {self._level} now")

    def _open(self, file: Path | None, secrets: frozenset[str]) -> Logging:
        return configure_logging(
            level=self._level,
            format=self._format,
            file=file,
            stream=self._stream,
            secrets=self._own | secrets,
            bind=self._bind,
        )


class RunLog(LogObserver):
    """Writes one run; what is worth telling may change while it goes on."""

    def look_again(self) -> None:
        """The log level has changed."""
        wanted: dict[type, Any] = {
            RequestSent: self._request_sent,
            Decision: self._decision,
            RateLimitSeen: self._rate_limit_seen,
        }
        for kind, handler in wanted.items():
            self._handlers.pop(kind, None)
            if self._logging.debug:
                self._handlers[kind] = handler
