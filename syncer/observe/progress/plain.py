"""Progress as plain lines, for the logs of builds and cron jobs: one every few seconds during activity."""

import time

from syncer.events import RunFinished, RunStarted
from syncer.observe import words
from syncer.observe.progress.base import Progress, Sink
from syncer.observe.progress.run_progress import Clock, RunProgress

EVERY = 5.0
"""Minimum number of seconds between two lines."""


class PlainProgress(Progress):
    """Writes lines such as `12/60 images, 4 transfers, 180.2 MB at 45.0 MB/s, 2 failed`.

    Events trigger the lines: without events nothing is written, and no timer is needed.
    """

    def __init__(self, stream: Sink, clock: Clock = time.monotonic) -> None:
        super().__init__(stream)
        self._clock = clock
        self._progress_now = RunProgress(clock)
        self._next = 0.0
        self._last = ""

    def notify(self, event: object) -> None:
        self._progress_now.notify(event)
        kind, now = type(event), self._clock()
        if kind is RunStarted:
            self._progress_now.speed()
            self._next = now + EVERY
        elif kind is RunFinished:
            self._tell()
        elif now >= self._next and not self._progress_now.finished:
            self._next = now + EVERY
            self._tell()

    def _tell(self) -> None:
        line = plain_line(self._progress_now)
        if line != self._last:
            self._last = line
            self.write(f"{line}\n")
            self.flush()


def plain_line(progress_now: RunProgress) -> str:
    """Return the current progress of the run as one line."""
    parts = [f"{progress_now.done}/{progress_now.total} images"]
    if running := len(progress_now.transfers):
        parts.append(words.count(running, "transfer"))
    speed = progress_now.average() if progress_now.finished else progress_now.speed()
    parts.append(f"{words.size(progress_now.moved)} at {words.rate(speed)}")
    if progress_now.failed:
        parts.append(f"{progress_now.failed} failed")
    return ", ".join(parts)
