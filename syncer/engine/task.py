"""`Task`: one piece of work in the graph, the keys it promises, and the lane it runs in."""

import enum
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, ClassVar, Literal

import msgspec

from syncer.errors import RegistryError
from syncer.oci.reference import Repository

if TYPE_CHECKING:
    from syncer.engine.job import Job

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
    """What a task's run returns to be run once more: in `lane`, when each key of `after` is settled or put aside."""

    lane: Lane
    after: tuple[Key, ...] = ()


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
    async def run(self, job: "Job") -> Reschedule | None:
        """Do it. May add tasks and settle some of its keys; raises `RegistryError`."""

    async def close(self) -> None:  # noqa: B027 - most hold nothing open
        """Let go of what is held between two runs: there will be no further one."""

    def failed(self, job: "Job", error: RegistryError) -> None:  # noqa: B027 - most have nobody to tell
        """It will never be done: `error` is the root cause. Called once."""


class SourcedTask(Task):
    """A task that fetches by digest from `source`; images from elsewhere that want the same know other places."""

    __slots__ = ("other_sources", "source")

    def __init__(self, keys: Sequence[Key], source: Repository) -> None:
        super().__init__(keys)
        self.source = source
        self.other_sources: list[Repository] = []

    def offer(self, source: Repository) -> None:
        """Here it may be had too."""
        if source != self.source and source not in self.other_sources:
            self.other_sources.append(source)

    def fail_over(self, error: RegistryError) -> bool:
        """The source failed: turn to another one, if it is for good and one is known."""
        if not (error.permanent and self.other_sources):
            return False
        self.source = self.other_sources.pop(0)
        return True
