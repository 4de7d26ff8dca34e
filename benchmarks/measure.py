"""Measures the corpus from one docker-registry to another, by syncer and by `skopeo sync --all`.

`scripts/measure` prints wall and CPU time and peak memory of a cold run and of one with nothing to do.
CPU is user and system time, memory the largest resident set.
"""

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import yaml

from benchmarks.corpus import FULL, Corpus, write_corpus
from tests.support.registries import Registry

IN_MEMORY = Path("/dev/shm")
ROOM = 2 << 30


@dataclass(frozen=True, slots=True)
class Cost:
    """What a command took: seconds of wall and CPU, bytes of peak memory."""

    wall: float
    cpu: float
    memory: int


# Linux counts the memory of whoever starts a program towards its peak: so a small process does.
_LAUNCHER = """
import json, os, sys, time
started = time.monotonic()
pid = os.posix_spawnp(sys.argv[2], sys.argv[2:], os.environ)
_, status, usage = os.wait4(pid, 0)
taken = [time.monotonic() - started, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024]
with open(sys.argv[1], "w") as file:
    json.dump(taken, file)
sys.exit(os.waitstatus_to_exitcode(status))
"""


def cost_of(command: Sequence[str], *, log: Path) -> Cost:
    """Run a command to its end, its output to `log`. Raises `CalledProcessError` where it fails."""
    taken = log.with_suffix(".json")
    launcher = [sys.executable, "-I", "-S", "-c", _LAUNCHER, str(taken)]
    with log.open("w") as output:
        done = subprocess.run(
            [*launcher, *command],
            stdout=output,
            stderr=output,
            stdin=subprocess.DEVNULL,
            check=False,
        )
    if done.returncode:
        sys.stderr.write(log.read_text(errors="replace")[-2000:])
        done.check_returncode()
    return Cost(*json.loads(taken.read_text()))


def median(costs: Sequence[Cost]) -> Cost:
    """The middle of each figure on its own."""
    return Cost(
        statistics.median(cost.wall for cost in costs),
        statistics.median(cost.cpu for cost in costs),
        int(statistics.median(cost.memory for cost in costs)),
    )


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """A folder in memory where there is room: a disk would be what is measured."""
    roomy = IN_MEMORY.is_dir() and shutil.disk_usage(IN_MEMORY).free > ROOM
    with tempfile.TemporaryDirectory(prefix="measure-", dir=IN_MEMORY if roomy else None) as folder:
        yield Path(folder)


@contextmanager
def running(folder: Path) -> Iterator[Registry]:
    """A docker-registry over `folder/storage`."""
    registry = Registry(folder=folder, storage=folder / "storage")
    try:
        registry.start()
        yield registry
    finally:
        registry.close()


def syncer_command(folder: Path, corpus: Corpus, source: Registry, destination: Registry) -> list[str]:
    auth, images = folder / "auth.json", folder / "images.json"
    auth.write_text(json.dumps({each.host: each.auth_entry for each in (source, destination)}))
    images.write_text(json.dumps(corpus.rules(source.host, destination.host)))
    program = Path(sys.executable).with_name("syncer")
    return [
        str(program),
        *("sync", "--proc", "6", "--retries", "3", "--auth", str(auth), "--images", str(images)),
    ]


def skopeo_command(folder: Path, corpus: Corpus, source: Registry, destination: Registry) -> list[str]:
    listed = folder / "skopeo.yaml"
    tags: dict[str, list[str]] = {}
    for image in corpus.images:
        tags.setdefault(image.repository, []).append(image.tag)
    listed.write_text(yaml.safe_dump({source.host: {"tls-verify": False, "images": tags}}))
    return [
        *("skopeo", "sync", "--all", "--src", "yaml", "--dest", "docker"),
        *("--dest-tls-verify=false", str(listed), f"{destination.host}/copied"),
    ]


COMMANDS = {"syncer": syncer_command, "skopeo": skopeo_command}


def cold_and_idle(
    name: str, folder: Path, corpus: Corpus, source: Registry, rounds: int
) -> tuple[Cost, Cost]:
    """The corpus to a fresh destination, and the same command again when nothing is left to do."""
    cold, idle = [], []
    log = folder / f"{name}.log"
    for _ in range(rounds):
        place = folder / name
        with running(place) as destination:
            command = COMMANDS[name](folder, corpus, source, destination)
            cold.append(cost_of(command, log=log))
            idle.append(cost_of(command, log=log))
        shutil.rmtree(place)
    return median(cold), median(idle)


def version_seconds(rounds: int, log: Path) -> float:
    command = [str(Path(sys.executable).with_name("syncer")), "--version"]
    return median([cost_of(command, log=log) for _ in range(rounds)]).wall


def measure(rounds: int) -> Iterator[str]:
    """The lines of the table."""
    with scratch_folder() as folder:
        corpus = write_corpus(folder / "source/storage", FULL)
        yield corpus.summary()
        with running(folder / "source") as source:
            found = {name: cold_and_idle(name, folder, corpus, source, rounds) for name in COMMANDS}
        yield f"{'':24}{'wall':>9}{'CPU':>9}{'memory':>10}"
        for number, what in enumerate(("cold", "nothing to do")):
            for name, costs in found.items():
                cost = costs[number]
                yield f"{name + ', ' + what:24}{cost.wall:7.2f} s{cost.cpu:7.2f} s{cost.memory / 1e6:7.0f} MB"
            ours, theirs = (found[name][number] for name in COMMANDS)
            ratios = (ours.wall / theirs.wall, ours.cpu / theirs.cpu, ours.memory / theirs.memory)
            yield f"{'  ratio':24}{ratios[0]:7.2f}  {ratios[1]:7.2f}  {ratios[2]:7.2f}"
        yield f"syncer --version: {version_seconds(max(rounds, 5), folder / 'version.log'):.2f} s"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="medians of N runs (3)")
    for line in measure(parser.parse_args().rounds):
        print(line, flush=True)


if __name__ == "__main__":
    main()
