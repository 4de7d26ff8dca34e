"""The process itself: its standard streams, the signals before a command handles them, and its end.

Imports only what the interpreter has loaded already, so that signals are handled as early as possible.
"""

import os
import signal
import sys
from contextlib import suppress

from syncer.cli import exits

_COMMAND_THAT_ENDS_WELL = "serve"


def prepare() -> None:
    """Handle SIGTERM and SIGINT until a command does, and open the standard streams that are closed.

    As process 1 of a container, a program does not receive a signal that it has no handler for.
    """
    stopped = exits.DONE if sys.argv[1:2] == [_COMMAND_THAT_ENDS_WELL] else exits.STOPPED
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: os._exit(stopped))
    for descriptor in (0, 1, 2):
        # A file or a socket that took the place of a closed stream would get what is printed.
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    sys.stdout = sys.stdout or open(1, "w", closefd=False)  # noqa: SIM115 - open for the process
    sys.stderr = sys.stderr or open(2, "w", closefd=False)  # noqa: SIM115


def say(text: str) -> bool:
    """Print a line to standard output. False where it cannot be written: that is told once, on standard error."""
    try:
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()
    except (OSError, ValueError) as error:
        if not isinstance(error, BrokenPipeError):
            say_error(f"error: cannot write to standard output: {getattr(error, 'strerror', None) or error}")
        _discard_output()
        return False
    return True


def say_error(text: str) -> None:
    """Print a line to standard error, where that can be written."""
    with suppress(OSError, ValueError):
        sys.stderr.write(f"{text}\n")
        sys.stderr.flush()


def _discard_output() -> None:
    """Let further output go nowhere: what comes after a run never changes its exit code."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.close(null)


def end(code: object) -> None:
    """End at once: finalizing the interpreter would take as long as a run with nothing to do.

    `code` is what `SystemExit` holds: a number, None for success, or anything else for failure.
    """
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    os._exit(code if isinstance(code, int) else exits.DONE if code is None else exits.FAILED)
