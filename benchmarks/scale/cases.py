"""What is measured with 1, 2 and 4 processes, as data."""

from dataclasses import dataclass, replace
from typing import Literal, get_args

from benchmarks.big_blobs import BigBlobs
from benchmarks.cases import LONG_PATH, LOOPBACK, MIB, PROC, Before, CopyCase, Line, Network
from benchmarks.corpus import MANY_SMALL, CorpusSpec

THIN_PATH = Network("thin path", Line(rtt_ms=300, mbit=20), Line(rtt_ms=60, mbit=80))
"""So far and so thin that two cores carry both registries, both paths and four shares without being the limit."""
IMAGES = CorpusSpec(
    images=80, repositories=40, bases=4, kinds=("docker", "oci"), largest=5_000_000, seed="scale"
)
TAGS = replace(MANY_SMALL, images=500, repositories=40)
LARGE = BigBlobs(images=4, nbytes=128 * MIB)
SHARES = (1, 2, 4)

Kind = Literal["cold", "same"]


@dataclass(frozen=True, slots=True)
class ScaleCase:
    """A run by `shares` processes at once: cold, or with nothing to do. `proc` is that of each."""

    kind: Kind
    network: Network
    shares: int
    proc: int = PROC

    @property
    def name(self) -> str:
        return f"{self.network.name.partition(' ')[0]}-{self.kind}-{self.shares}"

    @property
    def content(self) -> CorpusSpec:
        return IMAGES if self.kind == "cold" else TAGS

    @property
    def copy(self) -> CopyCase:
        before: Before = "nothing" if self.kind == "cold" else "everything"
        return CopyCase(self.name, self.name, self.content, before, self.network)


CASES = tuple(
    ScaleCase(kind, network, shares, proc)
    for network, proc in ((THIN_PATH, 2), (LONG_PATH, PROC), (LOOPBACK, PROC))
    for kind in get_args(Kind)
    for shares in SHARES
)
BYTES = CopyCase("bytes", "Large blobs, one process", LARGE, network=LONG_PATH)
"""What a GiB costs, apart from requests."""
ELSEWHERE = {
    "loopback-cold": 4.35,
    "loopback-same": 0.62,
    "long-cold": 6.34,
    "long-same": 0.81,
    "capped-cold": 25.0,
    "small-200": 6.68,
    "long-blob": 12.2,
}
"""Seconds of cases of `benchmarks.cases`, one process: medians in benchmarks/RESULTS.md, of 2026-11-22. Other content
than here, and nobody counted what else the machine had to do.
"""
