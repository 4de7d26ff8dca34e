"""Holds back the last line of a log until everything else is written."""

from syncer.events import Observer, RunFinished


class ClosingLine(Observer):
    """Hands all events on as they come, but the end of the run only on `tell`: when everything is written down.

    Scripts look for the log's last line, so nothing may come after it.
    """

    def __init__(self, log: Observer) -> None:
        super().__init__()
        self._log = log
        self._end: RunFinished | None = None

    def notify(self, event: object) -> None:
        if isinstance(event, RunFinished):
            self._end = event
        else:
            self._log.notify(event)

    def tell(self) -> None:
        if self._end is not None:
            self._log.notify(self._end)
