"""Holds back the last line of a log until everything else is written."""

from collections.abc import Callable
from typing import Any

from syncer.events import RunFinished
from syncer.observers import Observer, receiver_of


class ClosingLine(Observer):
    """Hands all events on as they come, but the end of the run only on `tell`: when everything is written down.

    Scripts look for the log's last line, so nothing may come after it.
    """

    def __init__(self, log: Observer) -> None:
        super().__init__()
        self._log = log
        self._end: RunFinished | None = None

    def handler_of(self, kind: type) -> Callable[[Any], None] | None:
        return self._hold if kind is RunFinished else receiver_of(self._log, kind)

    def _hold(self, end: RunFinished) -> None:
        self._end = end

    def tell(self) -> None:
        if self._end is not None:
            self._log.notify(self._end)
