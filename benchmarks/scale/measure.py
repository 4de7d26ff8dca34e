"""Runs N shares at once, as processes of their own, against two docker-registries, and writes down what they took."""

import os
import shutil
from collections.abc import Iterator
from dataclasses import replace

import trustme

from benchmarks.cases import SYNCER, CopyCase
from benchmarks.contenders import copy_command
from benchmarks.counting import count
from benchmarks.processes import busy_seconds, cpu_seconds, run_together
from benchmarks.scale.measured import Run
from benchmarks.stage import Paths, Scratch, Stage, stage

LIMIT = 280.0
"""Seconds: then a run is stopped."""
QUIET = 0.2
"""Of all cores: a run beside which others took more is done once more."""


def measure(case: CopyCase, *, shares: int, proc: int, runs: int, room: Scratch) -> Iterator[Run]:
    """Runs of one case, each with the destination as it has to be before; up to twice as many, until `runs` of them
    had the machine for themselves. Raises RuntimeError for a bad copy.
    """
    quiet = 0
    with stage(case, room, trustme.CA()) as prepared:
        for _ in range(2 * runs):
            run = _run(prepared, shares, proc)
            yield run
            quiet += run.others <= QUIET * run.seconds * (os.cpu_count() or 1)
            if quiet == runs:
                break


def _run(prepared: Stage, shares: int, proc: int) -> Run:
    prepared.reset()
    programs = []
    with prepared.paths() as paths:
        for share in range(shares):
            folder = prepared.folder / f"share-{share}"
            shutil.rmtree(folder, ignore_errors=True)
            command = copy_command(
                replace(SYNCER, proc=proc),
                folder,
                prepared.corpus.repositories,
                paths.source,
                paths.destination,
            )
            programs.append((command + (["--shard", f"{share}/{shares}"] if shares > 1 else []), folder))
        before, busy = _cpu(prepared, paths), busy_seconds()
        used = run_together(programs, limit=LIMIT)
        busy = busy_seconds() - busy
        cpu = {part: round(seconds - before[part], 2) for part, seconds in _cpu(prepared, paths).items()}
        traffic = count(
            prepared.source.access_log(all_agents=True),
            prepared.destination.access_log(all_agents=True),
            prepared.sizes,
        )
        host = paths.destination
    problem = next((usage.problem for usage in used if usage.problem), "") or prepared.problem()
    if problem:
        raise RuntimeError(problem)
    cpu["program"] = round(sum(each.cpu_seconds for each in used), 2)
    seconds = max(each.started + each.seconds for each in used) - min(each.started for each in used)
    return Run(
        seconds=round(seconds, 2),
        shares=[round(each.seconds, 2) for each in used],
        cpu=cpu,
        source=dict(traffic.source),
        destination=dict(traffic.destination),
        pulled=traffic.pulled,
        pushed=traffic.pushed,
        destination_host=host,
        others=round(max(0.0, busy - sum(cpu.values())), 2),
    )


def _cpu(prepared: Stage, paths: Paths) -> dict[str, float]:
    """CPU seconds so far by part, but of the program."""
    processes = {"source": prepared.source.process, "destination": prepared.destination.process}
    proxies = {"source proxy": paths.source_proxy, "destination proxy": paths.destination_proxy}
    running = {part: found.pid for part, found in {**processes, **proxies}.items() if found}
    return {part: cpu_seconds(pid) for part, pid in running.items()}
