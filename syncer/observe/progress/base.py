"""The base class of all progress displays, which shows nothing itself."""

from collections.abc import Callable
from typing import Protocol

from syncer.observers import Observer


class Sink(Protocol):
    """A terminal or file to which text is written."""

    def write(self, text: str, /) -> object: ...
    def flush(self) -> object: ...


class Progress(Observer):
    """Shows the progress of a run. This class shows nothing, and passes text that is written to it on to the stream.

    The log is written to the progress, so that lines and bars do not overlap. `draws` is set if there are bars.
    """

    draws = False

    def __init__(self, stream: Sink) -> None:
        super().__init__()
        self._stream = stream
        # The mask of the log, once it is configured. It is applied to failures that are shown.
        self.mask: Callable[[str], str] = str

    def write(self, text: str, /) -> int:
        """Write text, in whole lines."""
        self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        self._stream.flush()

    def close(self) -> None:
        """Restore the terminal. The run may not have finished."""
