"""`ReadyQueues`: ready tasks by priority, lane and kind, and the tasks of throttled accounts."""

from collections import deque
from collections.abc import Callable, Iterable

from syncer.engine.task import KINDS, Kind, Lane, Priority, Task
from syncer.oci.reference import Repository


class ReadyQueues:
    """A first-in, first-out queue for each priority, lane and kind.

    `throttled(repository)` returns the name of the account that must wait, or None. Tasks of that account are held
    back until `resume` is called with the name. `counts` is the number of ready tasks by priority and lane, `totals` that
    of all priorities.
    """

    def __init__(self, throttled: Callable[[Repository], str | None]) -> None:
        self._throttled = throttled
        self._queues: dict[Priority, dict[Lane, dict[Kind, deque[Task]]]] = {
            priority: {lane: {kind: deque() for kind in KINDS} for lane in Lane} for priority in Priority
        }
        self.counts = {priority: [0] * len(Lane) for priority in Priority}
        self.totals = [0] * len(Lane)
        self._held: dict[str, deque[Task]] = {}

    def push(self, task: Task) -> None:
        self._queues[task.priority][task.lane][task.kind].append(task)
        self._count(task.priority, task.lane, 1)

    def take(self, lane: Lane, kinds: tuple[Kind, ...], priority: Priority) -> Task | None:
        """Return the next task of the first of `kinds` that has one. Tasks of throttled accounts are held back."""
        queues = self._queues[priority][lane]
        for kind in kinds:
            queue = queues[kind]
            while queue:
                self._count(priority, lane, -1)
                task = queue.popleft()
                # An open transfer continues: holding it back would occupy its connections.
                name = None if lane is Lane.TRANSFER else self.throttled_account(task.repositories)
                if name is None:
                    return task
                self._held.setdefault(name, deque()).append(task)
        return None

    def promote(self, task: Task) -> None:
        """Give a task that is ready, or held back, the priority `URGENT`."""
        queue = self._queues[task.priority][task.lane][task.kind]
        ready = task in queue
        if ready:
            queue.remove(task)
            self._count(task.priority, task.lane, -1)
        task.priority = Priority.URGENT
        if ready:
            self.push(task)

    def has(self, lane: Lane, kinds: tuple[Kind, ...]) -> bool:
        if not self.totals[lane]:
            return False
        return any(queues[lane][kind] for queues in self._queues.values() for kind in kinds)

    @property
    def empty(self) -> bool:
        """Return whether no task is ready or held back."""
        return not (self._held or any(self.totals))

    def _count(self, priority: Priority, lane: Lane, change: int) -> None:
        self.counts[priority][lane] += change
        self.totals[lane] += change

    def throttled_account(self, repositories: Iterable[Repository]) -> str | None:
        """Return the first account that must wait before requests to these repositories, if any."""
        for repository in repositories:
            if (name := self._throttled(repository)) is not None:
                return name
        return None

    def resume(self, name: str, limit: int) -> int:
        """Release up to `limit` tasks of an account, ahead of all others, and return their number."""
        held = self._held.get(name)
        if held is None:
            return 0
        released = min(limit, len(held))
        for _ in range(released):
            task = held.popleft()
            self._queues[task.priority][task.lane][task.kind].appendleft(task)
            self._count(task.priority, task.lane, 1)
        if not held:
            self._held.pop(name, None)
        return released

    def holds(self, name: str) -> bool:
        """Return whether tasks of an account are held back."""
        return name in self._held

    def resumable(self) -> list[str]:
        """Return the accounts whose first task is no longer throttled, or is throttled by another account."""
        return [
            name for name, held in self._held.items() if self.throttled_account(held[0].repositories) != name
        ]
