"""Progress as plain lines, for logs of builds and cron: one every few seconds, while something happens."""

import time

from syncer.events import RunFinished, RunStarted
from syncer.observe import words
from syncer.observe.progress.base import Progress, Sink
from syncer.observe.progress.run_progress import Clock, Picture

EVERY = 5.0
"""Seconds between two lines."""


class PlainProgress(Progress):
    """A line such as `12/60 images, 4 transfers, 180.2 MB at 45.0 MB/s, 2 failed`.

    Events drive it: where nothing happens nothing is written, and there is no timer to clean up after.
    """

    def __init__(self, stream: Sink, clock: Clock = time.monotonic) -> None:
        super().__init__(stream)
        self._clock = clock
        self._picture = Picture(clock)
        self._next = 0.0
        self._last = ""

    def notify(self, event: object) -> None:
        self._picture.notify(event)
        now = self._clock()
        if isinstance(event, RunStarted):
            self._picture.speed()
            self._next = now + EVERY
        elif isinstance(event, RunFinished):
            self._tell()
        elif now >= self._next and not self._picture.finished:
            self._next = now + EVERY
            self._tell()

    def _tell(self) -> None:
        line = plain_line(self._picture)
        if line != self._last:
            self._last = line
            self.write(f"{line}\n")
            self.flush()


def plain_line(picture: Picture) -> str:
    """Where the run is, in a few words."""
    parts = [f"{picture.done}/{picture.total} images"]
    if running := len(picture.transfers):
        parts.append(words.count(running, "transfer"))
    speed = picture.average() if picture.finished else picture.speed()
    parts.append(f"{words.size(picture.moved)} at {words.rate(speed)}")
    if picture.failed:
        parts.append(f"{picture.failed} failed")
    return ", ".join(parts)
