"""Shows the progress of a run: as bars on a terminal, as plain lines elsewhere, or not at all.

base.py     Progress: an observer, and a stream for the log
plain.py    a line every few seconds              totals.py        the totals of a run
bars.py     live bars, drawn by rich              run_progress.py  the state of a run
layout.py   the layout of the bars and the closing table
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, TextIO

from syncer.observe.progress.base import Progress, Sink
from syncer.observe.progress.plain import PlainProgress
from syncer.observe.progress.totals import Totals

__all__ = ["Progress", "Sink", "Totals", "open_progress"]

ProgressKind = Literal["auto", "bar", "plain", "none"]


@contextmanager
def open_progress(kind: ProgressKind, *, stream: TextIO, log_format: str) -> Iterator[Progress]:
    """Open the progress for `--progress` on `stream`. Bars are only used if the stream is a capable terminal.

    Write the log to the returned progress (a stream with `write` and `flush`), and register it before other observers:
    then the closing table appears before the last lines of the log.
    """
    progress = _progress(kind, stream, log_format)
    try:
        yield progress
    finally:
        progress.close()


def _progress(kind: ProgressKind, stream: TextIO, log_format: str) -> Progress:
    if kind == "none" or (kind == "auto" and log_format == "json"):
        return Progress(stream)
    if kind == "plain" or not can_draw(stream):
        return PlainProgress(stream)
    # Importing rich is slow: import it only for bars.
    from syncer.observe.progress.bars import BarProgress

    return BarProgress(stream)


def can_draw(stream: TextIO) -> bool:
    """Return whether the stream is a terminal with cursor movement."""
    return stream.isatty() and os.environ.get("TERM", "") not in {"", "dumb", "unknown"}
