"""`Dispatcher`: which task a worker gets next, and when another image may be opened."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator

import msgspec

from syncer.engine.ready import ReadyQueues
from syncer.engine.task import Lane, Priority, Task
from syncer.oci.reference import Repository

_PRIORITIES = tuple(Priority)
MAX_OPEN_RULES = 16
"""Rules, for each worker of the transfer lane, whose images may wait when a further rule is begun."""


class LazyTasks(msgspec.Struct):
    """Tasks that are created only when there is room for them, and the repositories that they use."""

    tasks: Iterator[Task]
    repositories: tuple[Repository, ...]


class Dispatcher:
    """Chooses tasks: urgent ones first, then deeper kinds, so that an image is finished before the next one is opened.

    `transfers` is the number of workers of the transfer lane. `count_open()` returns the number of keys that are open,
    `begin(task)` returns whether a lazy task may run now.
    """

    def __init__(
        self,
        ready: ReadyQueues,
        *,
        transfers: int,
        count_open: Callable[[], int],
        begin: Callable[[Task], bool],
    ) -> None:
        self._ready = ready
        self._transfers = transfers
        self._most_open = 256 * transfers
        self._count_open = count_open
        self._begin = begin
        self._lazy: dict[Priority, deque[LazyTasks]] = {priority: deque() for priority in Priority}
        self._opening = 0
        self._transferring = 0
        self.held_back = False
        """Whether lazy tasks were not pulled because an account must wait."""

    # --- lazy tasks -----------------------------------------------------------------------------------------------

    def add_lazy(self, tasks: Iterator[Task], repositories: Iterable[Repository], priority: Priority) -> None:
        self._lazy[priority].append(LazyTasks(tasks, tuple(repositories)))

    def lazy_tasks(self) -> Iterator[Task]:
        """Yield every task that was not pulled yet."""
        for lazy in self._lazy.values():
            for each in lazy:
                yield from each.tasks

    @property
    def has_lazy(self) -> bool:
        return any(self._lazy.values())

    @property
    def has_normal_lazy(self) -> bool:
        return bool(self._lazy[Priority.NORMAL] or self._lazy[Priority.LOW])

    def may_pull(self) -> bool:
        """Return whether there is room for a lazy task, whatever its accounts."""
        return any(self._has_room(priority) for priority, lazy in self._lazy.items() if lazy)

    # --- dispatch -------------------------------------------------------------------------------------------------

    def take(self, lane: Lane) -> Task | None:
        """Return the next task for a worker of `lane`. See `TaskGraph.take`."""
        for priority in _PRIORITIES:
            task = self._next(lane, priority)
            if task is not None:
                self._opening += task.lane is Lane.OPENING
                self._transferring += task.lane is Lane.TRANSFER
                return task
        return None

    def ended(self, task: Task) -> None:
        """Record that a worker is done with `task`, which is still in its lane."""
        self._opening -= task.lane is Lane.OPENING
        self._transferring -= task.lane is Lane.TRANSFER

    def has_work(self, lane: Lane) -> bool:
        """Return whether `take` would return a task."""
        ready = self._ready
        if ready.totals[lane]:
            return True
        if lane is Lane.TRANSFER:
            if not self.transfers_may_help:
                return False
            if ready.totals[Lane.METADATA]:
                return True
        elif (ready.totals[Lane.OPENING] and self._may_open_ahead(Priority.NORMAL)) or (
            ready.counts[Priority.URGENT][Lane.OPENING] and self._may_open_ahead(Priority.URGENT)
        ):
            return True
        return any(
            self._has_room(priority)
            and any(ready.throttled_account(each.repositories) is None for each in lazy)
            for priority, lazy in self._lazy.items()
        )

    @property
    def transfers_may_help(self) -> bool:
        """Return whether the transfer lane may open images: it has no work, and no open image waits."""
        return not (self.transfers_wanted or self._ready.has(Lane.METADATA, ("manifest", "blob")))

    @property
    def transfers_wanted(self) -> int:
        """Return the number of tasks that are in the transfer lane or will enter it."""
        return self._transferring + self._opening + self._queued_transfers

    @property
    def _queued_transfers(self) -> int:
        return self._ready.totals[Lane.TRANSFER] + self._ready.totals[Lane.OPENING]

    def _next(self, lane: Lane, priority: Priority) -> Task | None:
        ready, task = self._ready, None
        counts = ready.counts[priority]
        if lane is Lane.METADATA and counts[Lane.OPENING] and self._may_open_ahead(priority):
            task = ready.take(Lane.OPENING, ("blob",), priority)
        if task is None and counts[lane]:
            task = ready.take(lane, ("manifest", "blob"), priority)
        if task is None and (lane is Lane.METADATA or self.transfers_may_help):
            if counts[Lane.METADATA]:
                task = ready.take(Lane.METADATA, ("image",), priority)
            task = task or self._pull(priority)
            if task is None and counts[Lane.METADATA]:
                task = ready.take(Lane.METADATA, ("tags",), priority)
        return task

    def _pull(self, priority: Priority) -> Task | None:
        if not self._lazy[priority] or not self._has_room(priority):
            return None
        for lazy in list(self._lazy[priority]):
            if self._ready.throttled_account(lazy.repositories) is not None:
                self.held_back = True
                continue
            while self._has_room(priority):
                task = next(lazy.tasks, None)
                if task is None:
                    self._lazy[priority].remove(lazy)
                    break
                if self._begin(task):
                    return task
        return None

    def _has_room(self, priority: Priority) -> bool:
        """Return whether another image may be opened: the transfer queue is short and few images are open.

        An urgent image does not wait for the transfer queue. A further rule waits until few rules have images left.
        """
        if priority is Priority.URGENT:
            return self._count_open() < 2 * self._most_open
        if priority is Priority.LOW and len(self._lazy[Priority.NORMAL]) >= MAX_OPEN_RULES * self._transfers:
            return False
        return self._queued_transfers < 2 * self._transfers and self._count_open() < self._most_open

    def _may_open_ahead(self, priority: Priority) -> bool:
        """Return whether another transfer may be prepared. The waiting transfers of others do not delay an urgent one."""
        if priority is Priority.URGENT:
            return self._ready.counts[Priority.URGENT][Lane.TRANSFER] + self._opening < 2 * self._transfers
        return self._ready.totals[Lane.TRANSFER] + self._opening < self._transfers
