"""`Task`: one piece of work, the keys it produces, the lane it runs in; `Job`: what the tasks of one run share."""

import enum
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import ClassVar, Literal, Protocol

import msgspec

from syncer.engine.ledger import BlobLedger
from syncer.engine.ranges import IdleSlots
from syncer.errors import RegistryError
from syncer.events import Observer
from syncer.oci.reference import Reference, Repository
from syncer.places.content import Destination, Source

Key = tuple[object, ...]
Kind = Literal["tags", "image", "blob", "manifest"]
MAX_THROTTLED = 20
"""How often a task is sent back by a registry that says when to come again, before that counts as a failure."""
KINDS: tuple[Kind, ...] = ("tags", "image", "blob", "manifest")


class Lane(enum.IntEnum):
    """Where a task runs: `TRANSFER` moves blobs, `METADATA` has the short requests.

    `OPENING` is a part of the metadata lane: it opens the transfers that come next, so that their round trips are
    over when a place in the transfer lane is free. No more of them are open ahead than that lane is wide.
    """

    METADATA = 0
    TRANSFER = 1
    OPENING = 2


class State(enum.IntEnum):
    NEW = 0
    WAITING = 1
    READY = 2
    RUNNING = 3
    DEFERRED = 4
    OVER = 5


class Reschedule(msgspec.Struct, frozen=True):
    """What a task's run returns to be run once more: in `lane`, when each key of `after` is settled or deferred."""

    lane: Lane
    after: tuple[Key, ...] = ()


class Repositories(Protocol):
    """Opens repositories by name; asking twice gives the same one."""

    def source(self, name: Repository) -> Source: ...

    def destination(self, name: Repository) -> Destination: ...

    def wait_for(self, name: Repository) -> tuple[str, float | None]:
        """The account that speaks for a repository, and how many seconds it has to wait before new work.

        None for not at all; 0 until an answer makes room, which `on_capacity` hears of.
        """
        ...

    def recovery(self) -> float:
        """Seconds until every registry that is down may be tried again."""
        ...

    def on_capacity(self, on_retry: Callable[[str], None]) -> None:
        """Call `on_retry` with an account's name whenever there may be room for new work again."""
        ...


class Graph(Protocol):
    """What a running task may ask of the graph that it is in: see `syncer.engine.graph.TaskGraph`."""

    def producer(self, key: Key) -> "Task | None": ...

    def add(
        self,
        task: "Task",
        *,
        needs: Iterable[Key] = (),
        after: Iterable[Key] = (),
        replaces: "Task | None" = None,
    ) -> None: ...

    def add_lazy(self, tasks: "Iterator[Task]", *, repositories: Iterable[Repository] = ()) -> None: ...

    def settle(self, task: "Task", key: Key) -> None: ...

    def split_off(self, task: "Task", part: "Task", error: RegistryError) -> bool: ...


class LargeImages:
    """A queue of images that would fill the memory if they were copied at once."""

    def __init__(self) -> None:
        self._last: Key | None = None

    def join(self, key: Key) -> Key | None:
        """Line up; the key of whoever is just ahead, None for the first of all."""
        ahead, self._last = self._last, key
        return ahead


class Job(msgspec.Struct, frozen=True):
    """The graph to add to, the ledger to ask, the repositories to reach, the observer to tell, transfers to borrow.

    `force` means that nothing at a destination is trusted unseen; `trust_sources` that a blob is mounted from wherever it
    is, though the image's own source may not have it. `shared_destinations` are the destinations that several
    rules write to: only there has it to be remembered who wrote which tag. In a `dry_run` no blob is moved; the
    repositories see to it that nothing is written.
    """

    graph: Graph
    repositories: Repositories
    observer: Observer
    idle_slots: IdleSlots = msgspec.field(default_factory=IdleSlots)
    ledger: BlobLedger = msgspec.field(default_factory=BlobLedger)
    force: bool = False
    trust_sources: bool = False
    dry_run: bool = False
    shared_destinations: frozenset[Repository] = frozenset()
    large_images: LargeImages = msgspec.field(default_factory=LargeImages)
    _claims: dict[Reference, Reference] = msgspec.field(default_factory=dict)

    def claim(self, destination: Reference, source: Reference) -> Reference | None:
        """Take a destination for a source. None when it was free, else the source that has it."""
        if destination.repository not in self.shared_destinations:
            return None
        holder = self._claims.setdefault(destination, source)
        return None if holder is source else holder


class Task(ABC):
    """One piece of work. Subclasses say what `kind` it is and do it in `run`."""

    kind: ClassVar[Kind]

    __slots__ = ("attempts", "error", "keys", "lane", "state", "throttle_count", "unmet")

    def __init__(self, keys: Sequence[Key]) -> None:
        self.keys = tuple(keys)
        self.lane = Lane.METADATA
        self.state = State.NEW
        self.unmet = 0
        self.attempts = 0
        self.throttle_count = 0
        self.error: RegistryError | None = None

    @property
    def repositories(self) -> Iterable[Repository]:
        """The repositories that it will speak to: it is not begun while one of their registries has to wait."""
        return ()

    @abstractmethod
    async def run(self, job: Job) -> Reschedule | None:
        """Do it. May add tasks and settle some of its keys; raises `RegistryError`."""

    async def close(self) -> None:  # noqa: B027 - most hold nothing open
        """Let go of what is held between two runs: there will be no further one."""

    def failed(self, job: Job, error: RegistryError) -> None:  # noqa: B027 - most have nobody to tell
        """It will never be done: `error` is the root cause. Called once."""
