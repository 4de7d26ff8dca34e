"""A mirror of a million tags, over 1 to 256 shares: what the model says of it."""

from dataclasses import dataclass

from benchmarks.cases import PROC
from benchmarks.scale.content import Assumed, Content
from benchmarks.scale.fit import START
from benchmarks.scale.model import Cost, Ended, Site, World, simulate
from benchmarks.scale.work import Kind, Work, split, work_of

ASSUMED = Assumed()
CHANGED = 0.02
"""Of the tags, in a day."""
SHARES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
PROCS = (6, 12, 24, 48)
GBIT = 1e9 / 8
_HOST = "registry.example"
_FULL = 0.8
"""A station that is busy for so much of the time is what holds the run back."""
_UNEVEN = 1.25
_STATIONS = {
    "source line": "line of the source",
    "destination line": "line of the destination",
    "source": "source registry",
    "destination": "destination registry",
}


def world(costs: dict[str, Cost], proc: int = PROC) -> World:
    """The long path of the benchmarks; both sites have 10 Gbit/s in all, and registries of 16 cores each. Each share
    has a machine of its own.
    """
    return World(
        source=Site(0.1, 0.1 * GBIT, costs["source"], 10 * GBIT, cores=16),
        destination=Site(0.02, 0.4 * GBIT, costs["destination"], 10 * GBIT, cores=16),
        program=costs["program"],
        start=START,
        proc=proc,
    )


@dataclass(frozen=True, slots=True)
class Outcome:
    """Of one run by so many shares."""

    works: tuple[Work, ...]
    ended: Ended

    @property
    def seconds(self) -> float:
        return self.ended.seconds

    @property
    def nbytes(self) -> float:
        return sum(work.moved.nbytes for work in self.works)

    @property
    def source_rate(self) -> float:
        """Requests a second, over the whole run."""
        return sum(work.source_requests for work in self.works) / self.seconds

    @property
    def destination_rate(self) -> float:
        return sum(work.destination_requests for work in self.works) / self.seconds

    @property
    def pulls(self) -> float:
        """Manifests that are fetched: what Docker Hub counts."""
        return sum(work.manifests for work in self.works)

    @property
    def held_by(self) -> str:
        """What would have to be better for the run to end earlier."""
        busy = {_STATIONS[name]: part for name, part in self.ended.busy.items() if name in _STATIONS}
        most = max(busy, key=lambda name: busy[name])
        if busy[most] >= _FULL:
            return most
        if self.ended.balance >= _UNEVEN:
            return "largest share"
        slowest = self.ended.shares.index(self.seconds)
        return "one core" if self.ended.busy[f"thread {slowest}"] >= _FULL else self.ended.last


def run(content: Content, kind: Kind, shares: int, given: World) -> Outcome:
    """One run of all shares at once."""
    works = tuple(work_of(part, content, kind, CHANGED) for part in split(content, _HOST, shares))
    return Outcome(works, simulate(given, works))
