"""The log of the daemon. Masks new secrets after a reload, and changes its level while the daemon runs."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Literal, Self

from syncer.observe.log_observer import LogObserver
from syncer.observe.logs import Logging, configure_logging
from syncer.observe.progress import Progress


class DaemonLog:
    """The log. A context manager; raises `OSError` if the file cannot be opened.

    `own_secrets` are the secrets of the daemon, `secrets` those of the configuration. Both are masked. `bind` are
    fields of every JSON line.
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
        self.current = self._open(file, self._secrets)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.current.close()

    def tell(self, message: str) -> None:
        """Log a message that does not belong to a run."""
        self.current.logger.info("daemon", message=message)

    def observer(self) -> LogObserver:
        """Return the observer that logs the next run."""
        return LogObserver(self.current, beside_bars=self._stream.draws and self._file is None)

    def renew(self, secrets: Iterable[str]) -> None:
        """Mask new secrets. The previous ones stay masked, because responses may still contain them."""
        found = frozenset(secrets)
        if found == self._secrets:
            return
        before, self._secrets = self._secrets, found
        self.current.close()
        try:
            self.current = self._open(self._file, found | before)
        except OSError as error:
            # The folder of the log file is gone: log to the stream instead.
            self.current = self._open(None, found | before)
            self.current.logger.error("daemon", message=str(error))  # noqa: TRY400 - no traceback

    def reopen(self) -> None:
        """Open the log file again, after a program such as logrotate has renamed it."""
        try:
            self.current.reopen()
        except OSError as error:
            self.current.logger.error("daemon", message=str(error))  # noqa: TRY400 - no traceback

    def toggle_debug(self) -> None:
        """Switch between debug and the level set at start. If that level is debug, switch to info."""
        self._level = self._calm if self._level == "debug" else "debug"
        self.current.set_level(self._level)
        self.current.logger.warning("daemon", message=f"log level set to {self._level}")

    def _open(self, file: Path | None, secrets: frozenset[str]) -> Logging:
        return configure_logging(
            level=self._level,
            format=self._format,
            file=file,
            stream=self._stream,
            secrets=self._own | secrets,
            bind=self._bind,
        )
