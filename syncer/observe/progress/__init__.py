"""What a user sees of a run while it runs: bars on a terminal, plain lines elsewhere, or nothing.

base.py     Progress: an observer that the log can be written through
plain.py    a line every few seconds              totals.py        what a run came to, counted
bars.py     live bars, drawn by rich              run_progress.py  what is known of the run that is drawn
layout.py   how the bars and the closing table look
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
    """What `--progress` asks for, on `stream`. Bars only where the stream is a terminal that can do them.

    Hand the log's lines to the progress that this gives (it is a stream: `write`, `flush`), and put it before
    other observers: then the closing table stands before the last lines of the log.
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
    # rich takes its time to import: only where it draws.
    from syncer.observe.progress.bars import BarProgress  # noqa: PLC0415

    return BarProgress(stream)


def can_draw(stream: TextIO) -> bool:
    """Whether the stream is a terminal on which the cursor can be moved."""
    return stream.isatty() and os.environ.get("TERM", "") not in {"", "dumb", "unknown"}
