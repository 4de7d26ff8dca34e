"""Standard streams, early signal handling and exit of the process.

Imports only modules that the interpreter has already loaded, so that signals are handled as early as possible.
"""

import os
import signal
import sys
from contextlib import suppress

from syncer.cli import exits

_DAEMON = "serve"


def prepare() -> None:
    """Handle signals until the command handles them, and open standard streams that are closed.

    Process 1 of a container does not receive a signal for which it has no handler.
    """
    is_daemon = sys.argv[1:2] == [_DAEMON]
    stopped = exits.DONE if is_daemon else exits.STOPPED
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: os._exit(stopped))
    if is_daemon:
        for number in (signal.SIGHUP, signal.SIGUSR1):
            # By default, they end the process.
            signal.signal(number, lambda *_: None)
    for descriptor in (0, 1, 2):
        # A file or socket that reuses the descriptor of a closed stream would receive the output.
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    sys.stdout = sys.stdout or open(1, "w", closefd=False)  # noqa: SIM115 - open for the process
    sys.stderr = sys.stderr or open(2, "w", closefd=False)  # noqa: SIM115


def say(text: str) -> bool:
    """Print a line to standard output and return whether that succeeded. The first failure is reported on standard error."""
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
    """Print a line to standard error, if possible."""
    with suppress(OSError, ValueError):
        sys.stderr.write(f"{text}\n")
        sys.stderr.flush()


def _discard_output() -> None:
    """Discard further output. Output errors after a run must not change its exit code."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.close(null)


def end(code: object) -> None:
    """Exit without finalizing the interpreter, which would take as long as a run that copies nothing.

    `code` is the code of `SystemExit`: a number, None for success, or anything else for failure.
    """
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    os._exit(code if isinstance(code, int) else exits.DONE if code is None else exits.FAILED)
