"""The lowest lines of a terminal, drawn over and over, with other text going up above them.

rich's `Live` does the same, but leaves torn lines behind when the window is made narrower while it draws.
"""

from collections.abc import Sequence

from rich.console import Console
from rich.text import Text

from syncer.observe.progress.base import Sink

_HIDE_CURSOR = "\x1b[?25l"
_SHOW_CURSOR = "\x1b[?25h"
_ERASE_LINE_END = "\x1b[K"
_ERASE_BELOW = "\x1b[J"


class Region:
    """Draws with the colors and the width of `console`, in one write each time: so nothing flickers."""

    def __init__(self, console: Console, stream: Sink) -> None:
        self._console = console
        self._stream = stream
        self._drawn: list[int] = []  # the widths of the lines that are on the screen

    def draw(self, lines: Sequence[Text], *, above: str = "") -> None:
        """Put `lines` in place of those that are there, below `above`, which stays for good."""
        out = [_HIDE_CURSOR, self._home()]
        if above:
            out += [_ERASE_BELOW, above]
        out += [f"{self.ansi(line)}{_ERASE_LINE_END}\n" for line in lines]
        out.append(_ERASE_BELOW)
        self._drawn = [line.cell_len for line in lines]
        self.write("".join(out))

    def erase(self) -> None:
        """Take the lines away and give the cursor back."""
        out = f"{self._home()}{_ERASE_BELOW}{_SHOW_CURSOR}"
        self._drawn = []
        self.write(out)

    def ansi(self, *parts: object) -> str:
        """What `console` makes of something, without the last line end."""
        with self._console.capture() as capture:
            self._console.print(*parts)
        return capture.get().removesuffix("\n")

    def write(self, text: str) -> None:
        """Put text where the cursor is."""
        try:
            self._stream.write(text)
            self._stream.flush()
        except (OSError, ValueError):
            # The terminal is gone; the copying goes on.
            self._drawn = []

    def _home(self) -> str:
        """To the first of the lines. A terminal that became narrower has broken the long ones into several."""
        width, height = self._console.size
        rows = sum(max(1, -(-cells // width)) for cells in self._drawn)
        return f"\r\x1b[{min(rows, height - 1)}A" if rows else "\r"
