"""`Job`: what the tasks of one run share."""

from collections.abc import Callable
from typing import Literal, Protocol

import msgspec

from syncer.engine.graph import TaskGraph
from syncer.engine.ledger import BlobLedger
from syncer.engine.ranges import IdleSlots
from syncer.engine.task import Task
from syncer.errors import RegistryError
from syncer.events import Observer, TaskEnded
from syncer.oci.reference import Reference, Repository
from syncer.places.content import Destination, Source


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

    def on_capacity(self, told: Callable[[str], None]) -> None:
        """Call `told` with an account's name whenever there may be room for new work again."""
        ...


class Job(msgspec.Struct, frozen=True):
    """The graph to add to, the ledger to ask, the repositories to reach, the observer to tell, transfers to borrow.

    `force` means that nothing at a destination is trusted unseen. `shared_destinations` are the destinations that several
    rules write to: only there has it to be remembered who wrote which tag. In a `dry_run` no blob is moved; the
    repositories see to it that nothing is written.
    """

    graph: TaskGraph
    repositories: Repositories
    observer: Observer
    idle_slots: IdleSlots = msgspec.field(default_factory=IdleSlots)
    ledger: BlobLedger = msgspec.field(default_factory=BlobLedger)
    force: bool = False
    dry_run: bool = False
    shared_destinations: frozenset[Repository] = frozenset()
    _claims: dict[Reference, Reference] = msgspec.field(default_factory=dict)

    def split_off(self, task: Task, part: Task, error: RegistryError) -> None:
        """One destination of the running `task` failed: `part` stands for it from now on, and the others go ahead."""
        outcome: Literal["retried", "failed"] = (
            "retried" if self.graph.split_off(task, part, error) else "failed"
        )
        self.observer.notify(TaskEnded(part.kind, outcome, str(part), error.as_failure()))

    def claim(self, destination: Reference, source: Reference) -> Reference | None:
        """Take a destination for a source. None when it was free, else the source that has it."""
        if destination.repository not in self.shared_destinations:
            return None
        holder = self._claims.setdefault(destination, source)
        return None if holder is source else holder
