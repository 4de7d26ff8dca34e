"""The processes of a benchmark: measured programs, long paths, and registries in memory. All end with certainty."""

import json
import os
import signal
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tests.support.processes import Process

ROOT = Path(__file__).parent.parent
LAUNCH = Path(__file__).with_name("launch.py")
START_SECONDS = 120.0
"""Seconds: until a process of ours has to be there. Seeding 100,000 tags takes a while."""
END_SECONDS = 10.0
_KEPT = ("PATH", "LANG", "LC_ALL")


@dataclass(frozen=True, slots=True)
class Usage:
    """What a program took. `started` is a moment of `time.monotonic`; CPU is user and system; sizes are bytes."""

    started: float
    seconds: float
    cpu_seconds: float
    peak_bytes: int
    exit_code: int
    timed_out: bool
    said: str

    @property
    def problem(self) -> str:
        """Why the run does not count; empty for a good one."""
        if self.timed_out:
            return f"stopped after {self.seconds:.0f} s"
        return f"exit code {self.exit_code}: {self.said}" if self.exit_code else ""


def run_measured(command: Sequence[str], folder: Path, *, limit: float) -> Usage:
    """Run a program to its end, or `limit` seconds. `folder` is its home, working directory and where it logs to."""
    return run_together([(command, folder)], limit=limit)


def run_together(programs: Sequence[tuple[Sequence[str], Path]], *, limit: float) -> Usage:
    """Run several programs at once, each a command and its folder, as `run_measured` does.

    Gives the time until the last one ended, the CPU of all, and the memory of the largest.
    """
    with ExitStack() as stack:
        started = []
        for command, folder in programs:
            process = _launch(command, folder, limit)
            stack.callback(process.end)
            started.append(process)
        for process in started:
            process.wait()
    used = [_usage(command, folder) for command, folder in programs]
    begun = min(each.started for each in used)
    bad = next((each for each in used if each.problem), used[0])
    return replace(
        bad,
        started=begun,
        seconds=max(each.started + each.seconds for each in used) - begun,
        cpu_seconds=sum(each.cpu_seconds for each in used),
        peak_bytes=max(each.peak_bytes for each in used),
    )


def _launch(command: Sequence[str], folder: Path, limit: float) -> Process:
    folder.mkdir(parents=True, exist_ok=True)
    result, out, err = (folder / name for name in ("usage.json", "stdout", "stderr"))
    for left in (result, out, err):
        left.unlink(missing_ok=True)
    launch = [sys.executable, "-I", "-S", str(LAUNCH), str(result), str(limit), *command]
    return Process(launch, stdout=out, stderr=err, env=_environment(folder), cwd=folder)


def _usage(command: Sequence[str], folder: Path) -> Usage:
    result, err = folder / "usage.json", folder / "stderr"
    if not result.exists():
        raise RuntimeError(f"{command[0]} cannot be run: {err.read_text()[-1000:]}")
    said = " / ".join(err.read_text().splitlines()[-3:])
    return Usage(**json.loads(result.read_text()), said=said[-500:])


class Helper:
    """A process of ours whose first line is the address it listens on, and whose last line is JSON about its work."""

    def __init__(self, module: str, *arguments: str, folder: Path) -> None:
        self._module = module
        folder.mkdir(parents=True, exist_ok=True)
        name = f"{module.rpartition('.')[2]}-{time.monotonic_ns()}"
        self._process = Process(
            [sys.executable, "-m", module, *arguments],
            stdout=folder / f"{name}.out",
            stderr=folder / f"{name}.err",
            env=_environment(folder) | {"PYTHONUNBUFFERED": "1"},
            cwd=ROOT,
        )
        self.host = ""
        self.told: Mapping[str, Any] = {}

    def wait_until_up(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while "\n" not in (said := self._process.read_stdout()):
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{self._module} does not start: {self._process.read_stderr()}")
            time.sleep(0.01)
        self.host = said.splitlines()[0]

    def finish(self) -> None:
        """Ask it to end, and keep what it tells."""
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(END_SECONDS)
        self.told = json.loads(self._process.read_stdout().splitlines()[-1])

    def end(self) -> None:
        self._process.end()


@contextmanager
def helper(module: str, *arguments: str, folder: Path) -> Iterator[Helper]:
    """Up while the block runs. After a block without an exception `told` is filled."""
    started = Helper(module, *arguments, folder=folder)
    try:
        started.wait_until_up()
        yield started
        started.finish()
    finally:
        started.end()


def _environment(home: Path) -> dict[str, str]:
    kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
    return kept | {"HOME": str(home)}
