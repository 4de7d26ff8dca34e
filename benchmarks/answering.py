"""How fast the daemon answers while it copies: `python -m benchmarks.answering`, 50 requests a second over all its pages.

A daemon copies between two docker-registries, at a bandwidth that leaves the processors room, and is asked from another
process (this one). The table has the time of each path in milliseconds.
"""

import argparse
import json
import re
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx

from benchmarks import machine
from benchmarks.contenders import syncer_command
from benchmarks.corpus import FULL, write_corpus
from benchmarks.processes import START_SECONDS
from benchmarks.stage import scratch
from benchmarks.table import number, render
from tests.support.processes import Process
from tests.support.registries import Registry

PATHS = ("/", "/runs", "/runs/{run}", "/metrics", "/healthz", "/readyz", "/api/v1/status", "/api/v1/runs", "/api/v1/runs/{run}")  # fmt: skip
BANDWIDTH = "3MiB"
"""Of each registry, a second: the corpus takes longer than the measurement then."""
_LISTENING = re.compile(r"listening on (http://[\d.:]+)")


@contextmanager
def copying_daemon(folder: Path) -> Iterator[tuple[str, str]]:
    """A daemon with a run in progress: its address, and the run's id."""
    corpus = write_corpus(folder / "source/storage", FULL)
    source = Registry(folder / "source", folder / "source/storage")
    destination = Registry(folder / "destination", folder / "destination/storage")
    daemon: Process | None = None
    try:
        source.start()
        destination.start()
        images = {f"{source.host}/{name}": f"{destination.host}/{name}" for name in corpus.repositories}
        entry = {"plain_http": True, "bandwidth": BANDWIDTH}
        command = syncer_command(folder, images, {source.host: entry, destination.host: entry}, proc=6)
        command[3:3] = ["serve", "--listen", "127.0.0.1:0", "--run-on-start"]
        daemon = Process(command, stdout=folder / "out", stderr=folder / "err", cwd=folder)
        url = _wait_for(daemon, _address)
        run = _wait_for(daemon, lambda _said: _run_of(url))
        yield url, run
        daemon.terminate()
        daemon.wait(timeout=30)
    finally:
        for each in (source, destination):
            each.close()
        if daemon:
            daemon.end()


def _address(said: str) -> str | None:
    found = _LISTENING.search(said)
    return found[1] if found else None


def _run_of(url: str) -> str | None:
    run = httpx.get(f"{url}/api/v1/status", trust_env=False).json()["run"]
    return run["id"] if run and run["bytes"]["moved"] else None


def _wait_for(daemon: Process, look: Callable[[str], str | None]) -> str:
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end and daemon.poll() is None:
        if found := look(daemon.read_stderr()):
            return str(found)
        time.sleep(0.05)
    raise RuntimeError(f"the daemon does not copy: {daemon.read_stderr()[-1000:]}")


def measure(url: str, run: str, *, rate: float, seconds: float) -> Mapping[str, Sequence[float]]:
    """Ask for all paths in turn, `rate` times a second in all. Seconds of each answer, by path."""
    took: dict[str, list[float]] = defaultdict(list)
    with httpx.Client(base_url=url, trust_env=False) as client:
        begun = time.monotonic()
        for count in range(round(rate * seconds)):
            time.sleep(max(0.0, begun + count / rate - time.monotonic()))
            path = PATHS[count % len(PATHS)]
            asked = time.monotonic()
            client.get(path.format(run=run)).raise_for_status()
            took[path].append(time.monotonic() - asked)
        status = json.loads(client.get("/api/v1/status").content)
    if status["run"] is None:
        raise RuntimeError("the run was over before the measurement was: it says nothing")
    return took


def report(took: Mapping[str, Sequence[float]]) -> str:
    """The table, with a last line for all paths together."""
    rows = [_row(path, took[path]) for path in PATHS]
    rows.append(_row("all", [each for times in took.values() for each in times]))
    return render(["path", "requests", "median ms", "99% ms", "slowest ms"], rows, left=1)


def _row(name: str, times: Sequence[float]) -> list[str]:
    ordered = [1e3 * each for each in sorted(times)]
    middle, high = ordered[len(ordered) // 2], ordered[int(len(ordered) * 0.99)]
    return [f"`{name}`", number(len(ordered)), number(middle), number(high), number(ordered[-1])]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.answering", description=__doc__)
    parser.add_argument("--rate", type=float, default=50, metavar="N", help="requests a second (50)")
    parser.add_argument("--seconds", type=float, default=30, metavar="N", help="for so long (30)")
    options = parser.parse_args()
    with scratch() as room, copying_daemon(room.folder) as (url, run):
        took = measure(url, run, rate=options.rate, seconds=options.seconds)
    print("\n".join(f"- {name}: {value}" for name, value in machine.facts().items()), end="\n\n")
    print(report(took))
    return 0


if __name__ == "__main__":
    sys.exit(main())
