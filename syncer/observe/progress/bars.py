"""Live bars on a terminal. rich redraws them a few times per second; events only update counters."""

import re
import time
from collections import deque
from typing import TextIO

import msgspec
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from syncer.events import ImageFailed, RuleWarning, RunFinished, RunStarted
from syncer.lazy_pattern import lazy_pattern
from syncer.observe.progress import layout
from syncer.observe.progress.base import Progress, Sink
from syncer.observe.progress.run_progress import INTERRUPTED, Clock, FailedImage, RunProgress

DRAWS_PER_SECOND = 5
_LOG_TIME = lazy_pattern(r"^\S+Z(?= (?:INFO|WARNING|ERROR|CRITICAL)\b)", re.MULTILINE)
_LOG_LEVEL = lazy_pattern(
    r"^\S+Z (?:(?P<info>INFO)|(?P<warning>WARNING)|(?P<error>ERROR)|(?P<critical>CRITICAL))\b", re.MULTILINE
)
_ASCII = str.maketrans({"✗": "x", "✓": "*", "→": ">", "·": "|", "…": "~"})


class BarProgress(Progress):
    """Draws bars, and prints failures, warnings and log lines above them.

    If `ticking` is False, the bars are only drawn by `draw`.
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
        terminal = _Terminal(stream, getattr(stream, "encoding", None) or "ascii")
        super().__init__(terminal)
        self._console = console or Console(highlight=False, force_terminal=True)
        # rich only writes to the file.
        self._console.file = terminal  # type: ignore[assignment]
        self._run = RunProgress(clock)
        self._ticking = ticking
        self._above: deque[RenderableType] = deque()
        self._bars: _Bars | None = None

    def notify(self, event: object) -> None:
        if isinstance(event, ImageFailed):
            # A registry may echo secrets that were sent to it.
            failure = msgspec.structs.replace(event.failure, message=self.mask(event.failure.message))
            event = msgspec.structs.replace(event, failure=failure)
        self._run.notify(event)
        super().notify(event)

    def on_run_started(self, _event: RunStarted) -> None:
        self.close()
        self._bars = _Bars(self._console, self._run, self._above, ticking=self._ticking)
        self._bars.start()

    def on_image_failed(self, event: ImageFailed) -> None:
        # A stopped run may interrupt hundreds of images: only the closing table counts them.
        if event.failure.kind != INTERRUPTED:
            self._show(layout.failure(FailedImage(event.source, event.destination, event.failure)))

    def on_rule_warning(self, event: RuleWarning) -> None:
        self._show(layout.warning(self.mask(event.message)))

    def on_run_finished(self, _event: RunFinished) -> None:
        self.close()
        self._show(layout.closing(self._run))

    def write(self, text: str, /) -> int:
        """Print whole lines above the bars at the next redraw."""
        lines = Text(text.removesuffix("\n"), no_wrap=True, overflow="ignore")
        lines.highlight_regex(_LOG_TIME, "dim")
        lines.highlight_regex(_LOG_LEVEL, style_prefix="logging.level.")
        self._show(lines)
        return len(text)

    def close(self) -> None:
        if self._bars is not None:
            self._bars.stop()
            self._bars = None

    def draw(self) -> None:
        """Draw the current state of the run."""
        if self._bars is not None:
            self._bars.refresh()

    def _show(self, content: RenderableType) -> None:
        self._above.append(content)
        if self._bars is None:
            _print_all(self._console, self._above)


class _Bars(Live):
    """The bars of one run. The queue `above` is printed above them at each redraw."""

    def __init__(
        self, console: Console, run: RunProgress, above: deque[RenderableType], *, ticking: bool
    ) -> None:
        super().__init__(
            console=console,
            auto_refresh=ticking,
            refresh_per_second=DRAWS_PER_SECOND,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
            get_renderable=lambda: layout.live(run, *console.size),
        )
        self._above = above

    def refresh(self) -> None:
        # Write both at once to avoid flicker.
        with self.console:
            super().refresh()
            _print_all(self.console, self._above)


def _print_all(console: Console, above: deque[RenderableType]) -> None:
    taken = [above.popleft() for _ in range(len(above))]
    if taken:
        # Do not crop log lines that are longer than the window.
        console.print(Group(*taken), crop=False)


class _Terminal:
    """A terminal. If it closes, or cannot encode a character, the run continues."""

    def __init__(self, stream: Sink, encoding: str) -> None:
        self._stream = stream
        self.encoding = encoding

    def write(self, text: str, /) -> None:
        if not self.encoding.lower().startswith("utf"):
            text = text.translate(_ASCII).encode(self.encoding, "replace").decode(self.encoding)
        try:
            self._stream.write(text)
        except (OSError, ValueError):
            return

    def flush(self) -> None:
        try:
            self._stream.flush()
        except (OSError, ValueError):
            return
