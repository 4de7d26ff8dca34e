"""`Task`: one unit of work, with the keys it produces and its lane. `Job`: the objects that all tasks of a run share."""

import enum
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from typing import TYPE_CHECKING, ClassVar, Literal, Protocol

import msgspec

from syncer.engine.ages import ImageTimes
from syncer.engine.ledger import BlobLedger
from syncer.engine.ranges import IdleSlots
from syncer.engine.referrer_list import ReferrerLists
from syncer.engine.selections import Selections
from syncer.engine.written import WrittenTags
from syncer.errors import Kind as ErrorKind
from syncer.errors import RegistryError
from syncer.observers import Observer
from syncer.oci.digest import Digest
from syncer.oci.reference import Reference, Repository
from syncer.places.content import Destination, ListsRepositories, Source
from syncer.rules.referrers import VerificationKey

if TYPE_CHECKING:
    from syncer.oci.signature_layers import SignatureLayer

Key = tuple[object, ...]
Kind = Literal["tags", "image", "blob", "manifest"]
MAX_THROTTLED = 20
"""Number of times that a task waits for a registry's Retry-After before that counts as a failure."""
KINDS: tuple[Kind, ...] = ("tags", "image", "blob", "manifest")


class Lane(enum.IntEnum):
    """The lane in which a task runs: `TRANSFER` for blobs, `METADATA` for short requests.

    `OPENING` is part of the metadata lane. It opens the next transfers, so that their round trips are complete when a
    worker of the transfer lane becomes free. At most as many transfers are opened ahead as that lane has workers.
    """

    METADATA = 0
    TRANSFER = 1
    OPENING = 2


class Priority(enum.IntEnum):
    """The order of tasks that are ready. `URGENT` tasks bring images that a registry has announced.

    `LOW` tasks find out about further rules. They wait until few images of earlier rules are left.
    """

    URGENT = 0
    NORMAL = 1
    LOW = 2


class State(enum.IntEnum):
    NEW = 0
    WAITING = 1
    READY = 2
    RUNNING = 3
    DEFERRED = 4
    OVER = 5


class Reschedule(msgspec.Struct, frozen=True):
    """The result of a task that must run again: in `lane`, once each key of `after` is settled or deferred."""

    lane: Lane
    after: tuple[Key, ...] = ()


class Repositories(Protocol):
    """Opens repositories by name. The same name returns the same object for as long as it is in use."""

    def source(self, name: Repository) -> Source: ...

    def destination(self, name: Repository) -> Destination: ...

    def wait_for(self, name: Repository) -> tuple[str, float | None]:
        """Return the account that a repository uses, and the seconds that it must wait before new work.

        None means no wait. 0 means until a response frees capacity, which `on_capacity` reports.
        """
        ...

    def recovery(self) -> float:
        """Return the seconds until every registry that is down may be tried again."""
        ...

    def listing(self, prefix: Repository) -> ListsRepositories:
        """Return what lists the repositories of a place. `prefix` is a repository's first components, or has no path."""
        ...

    def on_capacity(self, on_retry: Callable[[str], None]) -> None:
        """Call `on_retry` with an account's name whenever it may have capacity for new work."""
        ...


class Graph(Protocol):
    """The methods of `syncer.engine.graph.TaskGraph` that a running task may call."""

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

    def add_ahead(self, tasks: "Iterator[Task]", *, repositories: Iterable[Repository] = ()) -> None: ...

    def add_later(
        self, tasks: "Iterator[Task]", *, then: "Task", repositories: Iterable[Repository] = ()
    ) -> None: ...

    def promote(self, task: "Task") -> None: ...

    def settle(self, task: "Task", key: Key) -> None: ...

    def split_off(self, task: "Task", part: "Task", error: RegistryError) -> bool: ...


ImageOpener = Callable[..., Iterator["Task"]]
"""Yields the tasks for an image, given its rule, its source and an `ImageCopy` for each destination."""


class Verifier(Protocol):
    """Checks signatures with some public keys."""

    def accepts(self, layer: "SignatureLayer", content: bytes, image: Digest) -> bool:
        """Return whether the content of a layer proves that one of the keys has signed the image."""
        ...


def _trust_nothing(_keys: tuple[VerificationKey, ...]) -> Verifier:
    raise RegistryError(ErrorKind.UNTRUSTED, "signatures cannot be checked here")


class LargeImages:
    """A queue of images that would exhaust the memory if they were copied concurrently."""

    def __init__(self) -> None:
        self._last: Key | None = None

    def join(self, key: Key) -> Key | None:
        """Add `key` to the queue. Return the key just ahead of it, or None if it is the first."""
        ahead, self._last = self._last, key
        return ahead


class Job(msgspec.Struct, frozen=True):
    """The objects and options that all tasks of a run share.

    If `force` is set, every destination is checked and nothing recorded is trusted. If `trust_sources` is set, a blob
    may be mounted from any repository, without proof that the image's own source has it. `shared_destinations` are
    the destinations that several rules write to: only for these does the run record which source wrote which tag. A
    `dry_run` transfers no blobs, and its repositories write nothing. If `open_image` is set, it yields the tasks for an
    image, instead of one that copies it. `verifier_for` returns what checks
    signatures with some keys. `selections` records what rules select, and `written` which tags were written.
    """

    graph: Graph
    repositories: Repositories
    observer: Observer
    idle_slots: IdleSlots = msgspec.field(default_factory=IdleSlots)
    ledger: BlobLedger = msgspec.field(default_factory=BlobLedger)
    force: bool = False
    trust_sources: bool = False
    dry_run: bool = False
    shared_destinations: AbstractSet[Repository] = frozenset()
    open_image: "ImageOpener | None" = None
    image_times: ImageTimes = msgspec.field(default_factory=ImageTimes)
    verifier_for: Callable[[tuple[VerificationKey, ...]], Verifier] = _trust_nothing
    referrers: ReferrerLists = msgspec.field(default_factory=ReferrerLists)
    large_images: LargeImages = msgspec.field(default_factory=LargeImages)
    selections: Selections = msgspec.field(default_factory=Selections)
    written: WrittenTags = msgspec.field(default_factory=WrittenTags)
    _claims: dict[Reference, tuple[int, Reference]] = msgspec.field(default_factory=dict)

    def claim(self, destination: Reference, source: Reference, rule: int) -> Reference | None:
        """Reserve a destination for a source of the rule with this number.

        Return None if it was free, or reserved for the same source by the same rule: the rule may be added to a run
        again. Otherwise return the source that has it.
        """
        if destination.repository not in self.shared_destinations:
            return None
        holder = self._claims.setdefault(destination, (rule, source))
        return None if holder == (rule, source) else holder[1]


class Task(ABC):
    """One unit of work. Subclasses set `kind` and implement `run`."""

    kind: ClassVar[Kind]

    __slots__ = ("attempts", "error", "keys", "lane", "priority", "state", "throttle_count", "unmet")

    def __init__(self, keys: Sequence[Key], *, priority: Priority = Priority.NORMAL) -> None:
        self.keys = tuple(keys)
        self.priority = priority
        self.lane = Lane.METADATA
        self.state = State.NEW
        self.unmet = 0
        self.attempts = 0
        self.throttle_count = 0
        self.error: RegistryError | None = None

    @property
    def repositories(self) -> Iterable[Repository]:
        """Return the repositories that the task uses. It does not start while one of their accounts must wait."""
        return ()

    @abstractmethod
    async def run(self, job: Job) -> Reschedule | None:
        """Do the work. May add tasks and settle some of the keys. Raises `RegistryError`."""

    async def close(self) -> None:  # noqa: B027 - most hold nothing open
        """Release resources that are held between two calls of `run`: there will be no further call."""

    def explain(self, error: RegistryError) -> RegistryError:
        """Return the error to report for this task, and for the tasks that need it, if it or one that it needs failed."""
        return error

    def failed(self, job: Job, error: RegistryError) -> None:  # noqa: B027 - most have nobody to tell
        """Handle a failure that is final. `error` is the root cause. Called once."""
