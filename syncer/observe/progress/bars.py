"""Live bars on a terminal: a thread draws a few times a second; the run itself only counts."""

import io
import threading
import time
from collections import deque
from collections.abc import Iterable
from typing import TextIO

import msgspec
from rich.console import Console, RenderableType
from rich.text import Text

from syncer.events import ImageFailed, RuleWarning, RunFinished, RunStarted
from syncer.observe.progress.base import Progress
from syncer.observe.progress.layout import (
    ASCII,
    FANCY,
    closing,
    failure_lines,
    live_lines,
    warning_line,
)
from syncer.observe.progress.region import Region
from syncer.observe.progress.run_progress import INTERRUPTED, Clock, FailedImage, RunProgress

DRAW_EVERY = 1 / 5
"""Seconds. More often looks no better, and takes its share of a core."""
_LEVELS = {"WARNING": "yellow", "ERROR": "bold red", "CRITICAL": "bold red", "INFO": "blue"}


class BarProgress(Progress):
    """Bars below, and above them what stays: failures, warnings, and lines that are written through it.

    `ticking` False leaves drawing to calls of `draw`.
    """

    draws = True

    def __init__(
        self,
        stream: TextIO,
        *,
        console: Console | None = None,
        clock: Clock = time.monotonic,
        ticking: bool = True,
    ) -> None:
        super().__init__(stream)
        # It only makes text: where it wrote itself, a terminal that goes away would break the run.
        self._console = console or Console(file=io.StringIO(), highlight=False, force_terminal=True)
        encoding = getattr(stream, "encoding", None) or "ascii"
        self._glyphs = FANCY if encoding.lower().startswith("utf") else ASCII
        self._region = Region(self._console, stream)
        self._progress_now = RunProgress(clock)
        # Text of the log that came as it is, or things of our own to be drawn.
        self._above: deque[str | Iterable[RenderableType]] = deque()
        self._ticking = ticking
        self._thread: threading.Thread | None = None
        self._over = threading.Event()
        self._live = False

    def notify(self, event: object) -> None:
        if isinstance(event, ImageFailed):
            # A registry may echo what it was sent.
            failure = msgspec.structs.replace(event.failure, message=self.mask(event.failure.message))
            event = msgspec.structs.replace(event, failure=failure)
        self._progress_now.notify(event)
        super().notify(event)

    def on_run_started(self, _event: RunStarted) -> None:
        self._live = True
        self._over.clear()
        if self._ticking:
            self._thread = threading.Thread(target=self._tick, name="progress", daemon=True)
            self._thread.start()

    def on_image_failed(self, event: ImageFailed) -> None:
        if event.failure.kind == INTERRUPTED:
            # A stopped run leaves hundreds: the closing table counts them.
            return
        failed = FailedImage(event.source, event.destination, event.failure)
        self._above.append(failure_lines(failed, self._glyphs))

    def on_rule_warning(self, event: RuleWarning) -> None:
        self._above.append((warning_line(self.mask(event.message), self._glyphs),))

    def on_run_finished(self, _event: RunFinished) -> None:
        self.close()
        self._above.append(closing(self._progress_now, self._console.width, self._glyphs))
        self._write_now(self._take_above())

    def write(self, text: str, /) -> int:
        """Put whole lines above the bars, at the next drawing."""
        self._above.append(text)
        if not self._live:
            self._write_now(self._take_above())
        return len(text)

    def close(self) -> None:
        if not self._live:
            return
        self._live = False
        self._over.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        self._region.erase()
        self._write_now(self._take_above())

    def draw(self) -> None:
        """Draw the run as it is now."""
        width, height = self._console.size
        lines = live_lines(self._progress_now, width, height, self._glyphs)
        self._region.draw(lines, above=self._take_above())

    def _tick(self) -> None:
        while not self._over.wait(DRAW_EVERY):
            self.draw()

    def _take_above(self) -> str:
        parts = []
        while self._above:
            part = self._above.popleft()
            if isinstance(part, str):
                parts.append("".join(self._log_line(line) for line in part.splitlines(keepends=True)))
            else:
                parts += [f"{self._region.ansi(each)}\n" for each in part]
        return "".join(parts)

    def _log_line(self, line: str) -> str:
        """A line of the text log with some color; others, and those of debug that come in floods, as they are."""
        time_, blank, rest = line.partition(" ")
        level = rest.partition(" ")[0]
        if not blank or level not in _LEVELS or not time_.endswith("Z"):
            return line
        body = rest.removeprefix(level).rstrip("\n")
        text = Text.assemble((time_, "dim"), " ", (level, _LEVELS[level]), body)
        with self._console.capture() as capture:
            self._console.print(text, soft_wrap=True)
        return capture.get()

    def _write_now(self, text: str) -> None:
        if text:
            self._region.write(text)
