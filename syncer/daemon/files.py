"""The user's files while the daemon runs: read again when they change; a bad new one leaves the old in force."""

import hashlib
import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import anyio.to_thread

from syncer.config import Config
from syncer.diagnostics import ConfigError
from syncer.observe.metrics import MetricsObserver

LOOK_SECONDS = 2.0
"""How often the files are looked at. A change is taken up when it was seen twice: not while it is being written."""

_log = logging.getLogger(__name__)

Fingerprint = tuple[bytes, ...]


class ConfigFiles:
    """What is in force, and whether the files still say so.

    `load` reads them, with all secrets that they name; it raises `ConfigError`. `paths` are the files to watch.
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
        """What is in force."""
        return self._config

    async def changed(self) -> bool:
        """Whether the files say something else than when they were read last, twice in a row."""
        found = await anyio.to_thread.run_sync(_fingerprint, self._paths)
        settled = found == self._candidate
        self._candidate = found
        return settled and found != self._seen

    async def reload(self) -> bool:
        """Read the files. Whether what they say is in force now; else `problems` tells why not."""
        problems: tuple[str, ...] = ()
        try:
            self._seen = await anyio.to_thread.run_sync(_fingerprint, self._paths)
            self._config = await anyio.to_thread.run_sync(self._load)
            self.loaded_at = self._now()
        except ConfigError as error:
            problems = tuple(str(problem) for problem in error.problems)
        except Exception as error:  # noqa: BLE001 - whatever is wrong with them, the daemon goes on with what it has
            _log.exception("cannot read the files")
            problems = (f"cannot read the files: {error}",)
        self._metrics.set_reload(successful=not problems)
        if problems != self.problems:
            self._tell(problems)
        self.problems = problems
        return not problems

    def _tell(self, problems: tuple[str, ...]) -> None:
        for problem in problems:
            _log.error("%s", problem)
        if problems:
            _log.error("the files are not taken: what was read before stays in force")
        else:
            _log.info("the files are good again")


def _fingerprint(paths: Sequence[Path]) -> Fingerprint:
    """The content itself: times and inodes say less, and nothing of a link that was turned somewhere else."""
    return tuple(_digest(path) for path in paths)


def _digest(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").digest()
    except OSError as error:
        return str(error.errno).encode()
