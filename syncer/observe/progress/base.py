"""What all ways to show progress have in common, and the one that shows nothing."""

from collections.abc import Callable
from typing import Protocol

from syncer.events import Observer


class Sink(Protocol):
    """A terminal or a file that text is written to."""

    def write(self, text: str, /) -> object: ...
    def flush(self) -> object: ...


class Progress(Observer):
    """Shows a run while it runs. This one shows nothing, and lets what is written to it pass.

    The log is written through it, so that lines and bars do not tear each other. `draws` says that there are bars.
    """

    draws = False

    def __init__(self, stream: Sink) -> None:
        super().__init__()
        self._stream = stream
        # The log's, once there is one: what is shown of failures goes through it.
        self.mask: Callable[[str], str] = str

    def write(self, text: str, /) -> int:
        """Put text where the run is shown, whole lines at a time."""
        self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        self._stream.flush()

    def close(self) -> None:
        """Leave the terminal as it was. The run may not have come to its end."""
