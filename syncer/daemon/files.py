"""Reloads the configuration files when they change. If they are invalid, the previous configuration stays in use."""

import hashlib
import logging
import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import anyio.to_thread

from syncer.config import Config
from syncer.config.rule_files import MAX_FILES, files_of
from syncer.diagnostics import ConfigError
from syncer.files import open_stored
from syncer.observe.metrics import MetricsObserver
from syncer.observe.words import count
from syncer.state.history import utc

LOOK_SECONDS = 2.0
"""Seconds between two checks of the files. A change counts once two checks see it, not while a file is being written."""

_log = logging.getLogger(__name__)

Fingerprint = tuple[bytes, ...]


class ConfigFiles:
    """The current configuration, and the problems of the last reload.

    `load` reads the files and the secrets that they name; it raises `ConfigError`. `paths` are the files and folders to watch.
    `now` returns the time in seconds since the epoch.
    """

    def __init__(
        self,
        load: Callable[[], Config],
        paths: Sequence[Path],
        *,
        metrics: MetricsObserver,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._load = load
        self._paths = tuple(paths)
        self._metrics = metrics
        self._now = now
        self._seen = self._candidate = _fingerprint(self._paths)
        self._config = load()
        self.problems: tuple[str, ...] = ()
        self.loaded_at = now()
        metrics.set_reload(successful=True)

    @property
    def config(self) -> Config:
        """The current configuration."""
        return self._config

    async def changed(self) -> bool:
        """Return whether two checks in a row found the same change since the files were last read."""
        found = await anyio.to_thread.run_sync(_fingerprint, self._paths)
        settled = found == self._candidate
        self._candidate = found
        return settled and found != self._seen

    async def reload(self) -> bool:
        """Read the files and return whether they are valid. If they are not, `problems` says why."""
        problems: tuple[str, ...] = ()
        try:
            self._seen = await anyio.to_thread.run_sync(_fingerprint, self._paths)
            self._config = await anyio.to_thread.run_sync(self._load)
            self.loaded_at = self._now()
        except ConfigError as error:
            problems = tuple(str(problem) for problem in error.problems)
        except Exception as error:  # noqa: BLE001 - the daemon keeps running with the previous configuration
            _log.exception("cannot read the configuration files")
            problems = (f"cannot read the configuration files: {error}",)
        self._metrics.set_reload(successful=not problems)
        if problems != self.problems:
            self._tell(problems)
        self.problems = problems
        return not problems

    def _tell(self, problems: tuple[str, ...]) -> None:
        for problem in problems:
            _log.error("%s", problem)
        if problems:
            _log.error(
                "configuration reload failed (%s); still using the version loaded at %s",
                count(len(problems), "problem"),
                utc(self.loaded_at),
            )
        else:
            _log.info("configuration reload succeeded")


def _fingerprint(paths: Sequence[Path]) -> Fingerprint:
    """Return the digests of the contents. Times and inodes do not detect every change, such as a replaced link."""
    return tuple(digest for path in paths for digest in _digests(path))


def _digests(path: Path) -> Iterator[bytes]:
    """Yield the digest of a file, or the names and digests of the files of a folder that are read."""
    if not path.is_dir():
        yield _digest(path)
        return
    try:
        files = files_of(path)
    except OSError as error:
        yield str(error.errno).encode()
        return
    for file in files[: MAX_FILES + 1]:
        yield os.fsencode(file)
        yield _digest(file)


def _digest(path: Path) -> bytes:
    try:
        # A pipe is not opened: that would wait for a writer, or take what is to be read.
        with open_stored(path) as file:
            return hashlib.file_digest(file, "sha256").digest()
    except OSError as error:
        return str(error.errno).encode()
