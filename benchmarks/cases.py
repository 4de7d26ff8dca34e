"""What is measured: each case as data. No process, no file."""

from dataclasses import dataclass, replace
from typing import Literal

from benchmarks.big_blobs import BigBlobs
from benchmarks.corpus import FULL, MANY_SMALL, CorpusSpec

MIB, GIB = 1024**2, 1024**3
PROC = 6
"""`--proc` of every contender that does not say otherwise; skopeo's is 6 and cannot be changed."""


@dataclass(frozen=True, slots=True)
class Line:
    """A way to one registry: round trip in milliseconds, rates in Mbit/s, 0 for no limit."""

    rtt_ms: float
    mbit: float = 0.0
    shared_mbit: float = 0.0


@dataclass(frozen=True, slots=True)
class Network:
    """The ways to both registries. None is loopback as it is."""

    name: str
    source: Line | None = None
    destination: Line | None = None


LOOPBACK = Network("loopback")
LONG_PATH = Network("long path", Line(rtt_ms=100, mbit=100), Line(rtt_ms=20, mbit=400))
THIN_PATH = Network("thin path", Line(rtt_ms=300, mbit=20), Line(rtt_ms=60, mbit=80))
"""So far and so thin that two cores carry both registries, both paths and four shares without being the limit."""
ONE_LINE = Network("one line of 100 Mbit/s", Line(rtt_ms=20, shared_mbit=100), Line(rtt_ms=20, mbit=400))


@dataclass(frozen=True, slots=True)
class Contender:
    """A program with its options. `once` is for those that take minutes: one run is enough to place them.

    With several `shares`, so many processes run at once, each with its part of the rules.
    """

    name: str
    program: Literal["syncer", "skopeo", "crane", "regsync", "regctl"] = "syncer"
    proc: int = PROC
    shares: int = 1
    once: bool = False


SYNCER = Contender("syncer")
ONE_TRANSFER = Contender("syncer --proc 1", proc=1)
SKOPEO = Contender("skopeo sync --all", "skopeo", once=True)

PEERS = (Contender("regsync", "regsync"), Contender("crane", "crane"), Contender("regctl", "regctl"))
"""Tools that `--peers` adds, with as many transfers as the first contender of the case."""

Before = Literal["nothing", "everything", "an older state"]


@dataclass(frozen=True, slots=True)
class CopyCase:
    """Copies `content` between two docker-registries. `before` is what the destination has of it.

    The first contender is the one that the others are compared with.
    """

    name: str
    title: str
    content: CorpusSpec | BigBlobs = FULL
    before: Before = "nothing"
    network: Network = LOOPBACK
    tls: bool = False
    contenders: tuple[Contender, ...] = (SYNCER, SKOPEO)

    def scaled(self, factor: float) -> "CopyCase":
        return replace(self, content=_scaled(self.content, factor))

    def with_peers(self) -> "CopyCase":
        peers = (replace(peer, proc=self.contenders[0].proc) for peer in PEERS)
        return replace(self, contenders=(*self.contenders, *peers))


@dataclass(frozen=True, slots=True)
class TagsCase:
    """So many tags that are up to date, between two registries in memory, each a process of its own."""

    name: str
    title: str
    tags: int
    contenders: tuple[Contender, ...] = (SYNCER,)

    def scaled(self, factor: float) -> "TagsCase":
        return replace(self, tags=max(10, round(self.tags * factor)))


@dataclass(frozen=True, slots=True)
class StartCase:
    """How long a program takes to start: `--version`, or until its first request arrives."""

    name: str
    title: str
    until: Literal["version", "request"]
    contenders: tuple[Contender, ...] = (SYNCER, replace(SKOPEO, name="skopeo", once=False))

    def scaled(self, _factor: float) -> "StartCase":
        return self


Case = CopyCase | TagsCase | StartCase

_SMALL_200 = replace(MANY_SMALL, images=200, repositories=5)
_FOUR_LAYERS = BigBlobs(images=4, nbytes=256 * MIB)
_SIX_BLOBS = BigBlobs(images=6, nbytes=GIB)
_SHARED_IMAGES = replace(
    FULL, images=80, repositories=40, bases=4, kinds=("docker", "oci"), largest=5_000_000, seed="scale"
)
_SHARED_TAGS = replace(MANY_SMALL, images=500, repositories=40)


def _shares(network: Network, proc: int = PROC) -> tuple["CopyCase", "CopyCase"]:
    """One process against two and four at once: a first copy, and nothing to do."""
    contenders = tuple(
        Contender(f"syncer, {shares} {'share' if shares == 1 else 'shares'}", proc=proc, shares=shares)
        for shares in (1, 2, 4)
    )
    name = f"shares-{network.name.partition(' ')[0]}"
    title = f"1, 2 and 4 shares, {network.name}"
    return (
        CopyCase(f"{name}-cold", f"{title}, cold", _SHARED_IMAGES, network=network, contenders=contenders),
        CopyCase(
            f"{name}-same",
            f"{title}, nothing to do",
            _SHARED_TAGS,
            "everything",
            network,
            contenders=contenders,
        ),
    )


CASES: tuple[Case, ...] = (
    StartCase("start-version", "Start: --version", "version"),
    StartCase("start-request", "Start: until the first request arrives", "request"),
    CopyCase("loopback-cold", "Loopback, cold"),
    CopyCase("loopback-same", "Loopback, nothing to do", before="everything"),
    CopyCase("loopback-changed", "Loopback, 5% of the tags changed", before="an older state"),
    CopyCase("long-cold", "Long path, cold", network=LONG_PATH),
    CopyCase("long-same", "Long path, nothing to do", before="everything", network=LONG_PATH),
    CopyCase(
        "long-blob",
        "Long path, one blob of 512 MiB",
        BigBlobs(images=1, nbytes=512 * MIB),
        network=LONG_PATH,
        contenders=(SYNCER, ONE_TRANSFER, SKOPEO),
    ),
    CopyCase("capped-cold", "One line of 100 Mbit/s for all connections, cold", network=ONE_LINE),
    CopyCase("small-200", "200 small images, cold", _SMALL_200, contenders=(SYNCER,)),
    CopyCase("small-cold", "2,000 small images, cold", MANY_SMALL),
    CopyCase("small-same", "2,000 small images, nothing to do", MANY_SMALL, "everything"),
    CopyCase("loopback-cold-tls", "Loopback, cold, TLS", tls=True),
    CopyCase("long-cold-tls", "Long path, cold, TLS", network=LONG_PATH, tls=True, contenders=(SYNCER,)),
    CopyCase(
        "long-cold-tls-24",
        "Long path, cold, TLS, 24 transfers",
        network=LONG_PATH,
        tls=True,
        contenders=(Contender("syncer --proc 24", proc=24),),
    ),
    CopyCase("loopback-same-tls", "Loopback, nothing to do, TLS", before="everything", tls=True),
    CopyCase("layers", "Four layers of 256 MiB", _FOUR_LAYERS),
    CopyCase("layers-tls", "Four layers of 256 MiB, TLS", _FOUR_LAYERS, tls=True),
    CopyCase("memory", "Six blobs of 1 GiB at once", _SIX_BLOBS),
    CopyCase("memory-tls", "Six blobs of 1 GiB at once, TLS", _SIX_BLOBS, tls=True),
    TagsCase("tags-10000", "10,000 tags, nothing to do", 10_000),
    TagsCase("tags-100000", "100,000 tags, nothing to do", 100_000),
    *_shares(THIN_PATH, proc=2),
    *_shares(LONG_PATH),
    *_shares(LOOPBACK),
)


def ideal_seconds(network: Network, nbytes: int, blobs: int, proc: int) -> float | None:
    """The time that the wire alone takes. None where nothing limits it.

    A blob may come over several connections (ranges), but goes up over one.
    """
    sides = ((network.source, proc), (network.destination, min(proc, blobs)))
    rates = [
        rate
        for line, connections in sides
        if line is not None
        for rate in (line.mbit * connections, line.shared_mbit)
        if rate
    ]
    return nbytes * 8 / (min(rates) * 1e6) if rates else None


def _scaled(content: CorpusSpec | BigBlobs, factor: float) -> CorpusSpec | BigBlobs:
    if isinstance(content, BigBlobs):
        return replace(content, nbytes=max(MIB, round(content.nbytes * factor)))
    images = max(2, round(content.images * factor))
    return replace(content, images=images, repositories=min(content.repositories, max(1, images // 2)))
