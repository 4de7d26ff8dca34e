"""The model: each share is two lanes of workers in a closed network of queues, and does its work at the rate that comes of it.

A worker of a lane takes a task, waits for round trips and for the rate of its connection (a delay that no other
worker makes longer), and queues wherever something is shared: its process' one thread, the cores of a machine, a
registry, a line. Mean value analysis (Schweitzer's approximation) gives the tasks a second of every lane; they are
constant until a lane has no work left, then they are computed anew. So a million tags take no longer than a hundred.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from benchmarks.scale.work import Work
from syncer.engine.pool import METADATA_WIDTH

PRECISE = 1e-3
"""Of a rate: when the analysis has settled."""
TOGETHER = 0.005
"""Lanes that end within this part of the time so far are taken to end without making others faster."""


@dataclass(frozen=True, slots=True)
class Cost:
    """CPU seconds of one request that reads tags or a manifest, of any other request, and of a byte of a blob."""

    read: float = 0
    write: float = 0
    byte: float = 0

    def of(self, reads: float, writes: float, nbytes: float) -> float:
        return self.read * reads + self.write * writes + self.byte * nbytes


@dataclass(frozen=True, slots=True)
class Site:
    """A registry and the way to it. Seconds of a round trip, bytes a second of one connection and of the whole line
    (0: no limit). `cores` are the registry's own; 0 where it is on the machine of the shares.
    """

    rtt: float
    rate: float
    registry: Cost
    line: float = 0
    cores: float = 0
    proxy: Cost = Cost()
    """Of a process with one thread that is the way, in a measurement."""


@dataclass(frozen=True, slots=True)
class World:
    """`start` is CPU seconds until the first request. All shares run on one machine of `cores`, or with 0 each on
    one of its own.
    """

    source: Site
    destination: Site
    program: Cost
    start: float
    proc: int
    cores: float = 0


@dataclass(slots=True)
class Lane:
    """Tasks that are left, for so many workers: each task has a delay, and demands service at stations (seconds)."""

    name: str
    tasks: float
    workers: int
    delay: float
    demands: Mapping[str, float]
    ramp: float
    """Seconds before it gets going and after the last: round trips one after the other that nothing overlaps."""
    queues: dict[str, float] = field(default_factory=dict)

    @property
    def busy(self) -> float:
        return min(self.workers, self.tasks)


@dataclass(frozen=True, slots=True)
class Ended:
    """When each share ended, in seconds; which lane of the slowest share ended last; and for which part of the whole
    time each station was busy.
    """

    shares: tuple[float, ...]
    last: str
    busy: Mapping[str, float]

    @property
    def seconds(self) -> float:
        return max(self.shares)

    @property
    def balance(self) -> float:
        """The time of the slowest share over the mean."""
        return self.seconds * len(self.shares) / sum(self.shares)


def simulate(world: World, works: Sequence[Work]) -> Ended:
    """Run shares with this work, all begun at once."""
    contention = max(1.0, len(works) / world.cores) if world.cores else 1.0
    now = begun = world.start * contention
    lanes = [(share, lane) for share, work in enumerate(works) for lane in lanes_of(world, work, share)]
    served: Counter[str] = Counter()
    for _, lane in lanes:
        served.update({station: demand * lane.tasks for station, demand in lane.demands.items()})
    ends = [(begun, "")] * len(works)
    while lanes:
        rates = throughputs([lane for _, lane in lanes])
        times = [lane.tasks / rate for (_, lane), rate in zip(lanes, rates, strict=True)]
        step = min(times)
        left = []
        for (share, lane), rate, time in zip(lanes, rates, times, strict=True):
            if time - step <= TOGETHER * (now + step - begun):
                ends[share] = max(ends[share], (now + time + lane.ramp, lane.name))
            else:
                lane.tasks -= rate * step
                left.append((share, lane))
        lanes = left
        now += step
    seconds, last = max(ends)
    return Ended(
        tuple(end for end, _ in ends), last, {station: each / seconds for station, each in served.items()}
    )


def throughputs(lanes: Sequence[Lane]) -> list[float]:
    """Tasks a second of each lane, all at work together."""
    total: dict[str, float] = {}
    for lane in lanes:
        if lane.queues.keys() != lane.demands.keys():
            lane.queues = dict.fromkeys(lane.demands, 0.0)
        for station, queue in lane.queues.items():
            total[station] = total.get(station, 0.0) + queue
    rates = [0.0] * len(lanes)
    while True:
        settled = True
        for number, lane in enumerate(lanes):
            # A worker that arrives finds all others, but not itself.
            stays = {
                station: demand * (1 + total[station] - lane.queues[station] / max(1.0, lane.busy))
                for station, demand in lane.demands.items()
            }
            rate = lane.busy / (lane.delay + sum(stays.values()))
            settled = settled and abs(rate - rates[number]) <= PRECISE * rate
            rates[number] = rate
            for station, stay in stays.items():
                total[station] += rate * stay - lane.queues[station]
                lane.queues[station] = rate * stay
        if settled:
            return rates


def lanes_of(world: World, work: Work, share: int) -> list[Lane]:
    """The lanes of one share: short requests and small blobs in one, bytes in the other."""
    source, destination, moved = world.source, world.destination, work.moved
    both, rate = max(source.rtt, destination.rtt), _slower(source.rate, destination.rate)
    short = _Tasks(
        count=work.repositories
        + work.heads
        + work.children
        + work.asked
        + work.mounts
        + 2 * work.manifests
        + moved.count,
        delay=work.repositories * both
        + (work.pages - work.repositories) * source.rtt
        + work.heads * both
        + work.manifests * (source.rtt + destination.rtt)
        + (work.children + work.asked + work.mounts) * destination.rtt
        + moved.small * (both + destination.rtt)
        + moved.large * both  # they are opened ahead
        + (moved.small_bytes / rate if rate else 0.0),
        at_source=(work.source_reads, moved.count),
        at_destination=(work.destination_reads, work.destination_writes - moved.large),
        nbytes=moved.small_bytes,
    )
    long = _Tasks(
        count=moved.large,
        delay=moved.large * destination.rtt + (moved.large_bytes / rate if rate else 0.0),
        at_source=(0, 0),
        at_destination=(0, moved.large),
        nbytes=moved.large_bytes,
    )
    lanes = []
    if short.count:
        # The first connections, and the last manifest.
        ramp = 2 * source.rtt + destination.rtt
        # Who has no blobs to move helps.
        workers = METADATA_WIDTH * world.proc + (0 if long.count else world.proc)
        lanes.append(_lane(world, share, "short requests", workers, ramp, short))
    if long.count:
        # Tags, a manifest and a blob, each over a connection that is made first; at last a manifest.
        ramp = 6 * source.rtt + destination.rtt
        lanes.append(_lane(world, share, "transfers", world.proc, ramp, long))
    return lanes


@dataclass(frozen=True, slots=True)
class _Tasks:
    """All of a lane: seconds of delay, requests that read and others at each side, bytes from one to the other."""

    count: float
    delay: float
    at_source: tuple[float, float]
    at_destination: tuple[float, float]
    nbytes: float


def _lane(world: World, share: int, name: str, workers: int, ramp: float, tasks: _Tasks) -> Lane:  # noqa: PLR0917
    reads = tasks.at_source[0] + tasks.at_destination[0]
    writes = tasks.at_source[1] + tasks.at_destination[1]
    on_machine = world.program.of(reads, writes, tasks.nbytes)
    demands = {f"thread {share}": on_machine}
    delay = tasks.delay
    for side, site, counts in (
        ("source", world.source, tasks.at_source),
        ("destination", world.destination, tasks.at_destination),
    ):
        served = site.registry.of(*counts, tasks.nbytes)
        if site.cores:
            # Several servers: one that is as fast as all, and the time that is longer with one of them.
            demands[side] = served / site.cores
            delay += served * (1 - 1 / site.cores)
        else:
            on_machine += served
        if site.line:
            demands[f"{side} line"] = tasks.nbytes / site.line
        if proxied := site.proxy.of(*counts, tasks.nbytes):
            demands[f"{side} proxy"] = proxied
            on_machine += proxied
    if world.cores:
        demands["cores"] = on_machine / world.cores
    each = {station: demand / tasks.count for station, demand in demands.items()}
    return Lane(name, tasks.count, workers, delay / tasks.count, each, ramp)


def _slower(one: float, other: float) -> float:
    """Of two rates, 0 being none."""
    return min(one, other) if one and other else one or other
