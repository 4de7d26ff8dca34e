"""From one measured case to the costs of the model, and from those to what the other cases should have taken."""

from dataclasses import dataclass

from benchmarks.big_blobs import BigBlobs
from benchmarks.cases import CASES, PROC, CopyCase, Line, Network
from benchmarks.scale.cases import BYTES, ELSEWHERE, ScaleCase
from benchmarks.scale.content import Blobs, Content, Repository, corpus_content
from benchmarks.scale.measured import PARTS, Measured, Run
from benchmarks.scale.model import Cost, Site, World, simulate
from benchmarks.scale.work import Work, split, work_of

FITTED = ("long-cold-1", "long-same-1")
"""The one case that is fitted: one share on the long path, its cold run and its run with nothing to do."""
START = 0.29
"""CPU seconds until the first request: `start-request` in benchmarks/RESULTS.md."""
CORES = 2
"""Of the machine that was measured on."""


@dataclass(frozen=True, slots=True)
class Prediction:
    """What the model says of one run of a case; `works` is what each share had to do."""

    case: ScaleCase
    run: Run
    works: tuple[Work, ...]
    seconds: float
    cpu: float

    @property
    def error(self) -> float:
        """0.1 for a tenth too long."""
        return self.seconds / self.run.seconds - 1


def costs(measured: Measured) -> dict[str, Cost]:
    """CPU of each part: of a byte from large blobs, of a request that reads from the run with nothing to do, of any
    other from what the cold run took besides.
    """
    cold, same = (measured.median(name) for name in FITTED)
    large = measured.median(BYTES.name)
    found = {}
    for part in PARTS:
        start = START if part == "program" else 0.0
        byte = (large.cpu[part] - start) / large.pulled
        read = (same.cpu[part] - start) / sum(_counts(same, part))
        reads, writes = _counts(cold, part)
        left = cold.cpu[part] - start - byte * cold.pulled - read * reads
        found[part] = Cost(read, left / writes, byte)
    return found


def _counts(run: Run, part: str) -> tuple[int, int]:
    """Requests that read tags or manifests, and others, that a part had to do with."""
    sides = {
        "program": (run.source, run.destination),
        "source": (run.source,),
        "destination": (run.destination,),
    }
    kinds = [kind for side in sides[part.removesuffix(" proxy")] for kind in side.items()]
    reads = sum(count for name, count in kinds if name in {"HEAD manifest", "GET manifest", "GET tags"})
    return reads, sum(count for _, count in kinds) - reads


def world_of(network: Network, proc: int, found: dict[str, Cost], taken: float = 0.0) -> World:
    """The machine of the measurements, with everything on it. `taken` is how many of its cores others had."""
    return World(
        _site(network.source, found, "source"),
        _site(network.destination, found, "destination"),
        found["program"],
        START,
        proc,
        CORES - taken,
    )


def _site(line: Line | None, found: dict[str, Cost], side: str) -> Site:
    if line is None:
        return Site(0.0, 0.0, found[side])
    mbit = 1e6 / 8
    return Site(
        line.rtt_ms / 1000,
        line.mbit * mbit,
        found[side],
        line=line.shared_mbit * mbit,
        proxy=found[f"{side} proxy"],
    )


def predictions(measured: Measured, case: ScaleCase) -> list[Prediction]:
    """Of every run of a case, the fastest first. Each has a split of its own, since names have the port in them."""
    found = costs(measured)
    content = corpus_content(case.content)
    predicted = []
    for run in sorted(measured.runs[case.name], key=lambda run: run.seconds):
        parts = split(content, run.destination_host, case.shares)
        works = tuple(work_of(part, content, case.kind) for part in parts)
        cpu = case.shares * START + sum(
            found["program"].of(
                work.source_reads + work.destination_reads,
                work.moved.count + work.destination_writes,
                work.moved.nbytes,
            )
            for work in works
        )
        world = world_of(case.network, case.proc, found, run.others / run.seconds)
        predicted.append(Prediction(case, run, works, simulate(world, works).seconds, cpu))
    return predicted


def median(predicted: list[Prediction]) -> Prediction:
    """That of the run with the median time."""
    return predicted[(len(predicted) - 1) // 2]


def elsewhere(measured: Measured) -> dict[str, float]:
    """Seconds that cases of `benchmarks.cases` should take, whose content and lines had no part in the fit."""
    found = costs(measured)
    predicted = {}
    for case in CASES:
        if isinstance(case, CopyCase) and case.name in ELSEWHERE:
            content = (
                _big(case.content) if isinstance(case.content, BigBlobs) else corpus_content(case.content)
            )
            work = work_of(content.repositories, content, "cold" if case.before == "nothing" else "same")
            predicted[case.name] = simulate(world_of(case.network, PROC, found), [work]).seconds
    return predicted


def _big(blobs: BigBlobs) -> Content:
    """Configs are left out: they are few."""
    own = Blobs(large=blobs.images, large_bytes=blobs.images * blobs.nbytes)
    return Content((Repository("corpus/big", blobs.images, blobs.images, own),), ())
