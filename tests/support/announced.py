"""Registries without settings, as processes that print their address on 127.0.0.1."""

import re
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.support.judge import Open
from tests.support.processes import Process

START_SECONDS = 30


@contextmanager
def crane_registry(crane: Path, folder: Path) -> Iterator[Open]:
    """The registry inside `crane`, in memory."""
    command = [str(crane), "registry", "serve", "--address", "127.0.0.1:0"]
    with _running(command, folder, r"serving on port (\d+)") as registry:
        yield registry


@contextmanager
def demo_registry(folder: Path) -> Iterator[Open]:
    """The demo's registry, empty."""
    command = [sys.executable, "-m", "syncer.demo"]
    with _running(command, folder, r"127\.0\.0\.1:(\d+)\n") as registry:
        yield registry


@contextmanager
def _running(command: Sequence[str], folder: Path, port: str) -> Iterator[Open]:
    folder.mkdir(parents=True, exist_ok=True)
    process = Process(command, stdout=folder / "stdout", stderr=folder / "stderr")
    try:
        yield Open(f"127.0.0.1:{_announced_port(process, port)}")
    finally:
        process.end()


def _announced_port(process: Process, pattern: str) -> str:
    deadline = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        if found := re.search(pattern, process.read_stdout() + process.read_stderr()):
            return found[1]
        time.sleep(0.01)
    raise RuntimeError(f"{process.args!r} does not start:\n{process.read_stderr()}")
