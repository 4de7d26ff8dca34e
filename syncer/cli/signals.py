"""SIGINT and SIGTERM of a command that ends with its run."""

import asyncio
import os
import signal
from collections.abc import Callable

from syncer.cli import exits


class Signals:
    """SIGINT and SIGTERM from the first run to the end of the process: the first stops gently, the second at once.

    `tell` says so to the user; `at_once` leaves the terminal as it was before the process is gone.
    """

    def __init__(self, *, tell: Callable[[str], None], at_once: Callable[[], None]) -> None:
        self.received = False
        self._tell = tell
        self._at_once = at_once
        self._stop: Callable[[], object] = bool

    def handle(self, stop: Callable[[], object]) -> None:
        """Call `stop` if the first signal comes from now on."""
        self._stop = stop
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._take, number)

    def _take(self, number: int) -> None:
        if self.received:
            try:
                self._at_once()
            finally:
                os._exit(exits.STOPPED)
        self.received = True
        # Stop even if nobody can be told.
        self._stop()
        name = signal.Signals(number).name
        self._tell(f"received {name}: waiting for running tasks; send it again to stop immediately")
