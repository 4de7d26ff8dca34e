"""`ReadyQueues`: tasks that could run now, by lane and kind, and those that a throttled registry holds back."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator

import msgspec

from syncer.engine.task import KINDS, Kind, Lane, Task
from syncer.oci.reference import Repository


class LazyTasks(msgspec.Struct):
    """Tasks that are made only when there is room for them, and the repositories they will speak to."""

    tasks: Iterator[Task]
    repositories: tuple[Repository, ...]


class ReadyQueues:
    """First in, first out for each lane and kind.

    `throttled(repository)` names the registry's account that has to wait, or None; its tasks are held back until
    `resume` is called with that name.
    """

    def __init__(self, throttled: Callable[[Repository], str | None]) -> None:
        self._throttled = throttled
        self._queues: dict[Lane, dict[Kind, deque[Task]]] = {
            lane: {kind: deque() for kind in KINDS} for lane in Lane
        }
        self._counts = [0] * len(Lane)
        self._held: dict[str, deque[Task]] = {}

    def push(self, task: Task) -> None:
        self._queues[task.lane][task.kind].append(task)
        self._counts[task.lane] += 1

    def take(self, lane: Lane, kinds: tuple[Kind, ...]) -> Task | None:
        """The next task of a lane, the first of `kinds` that has one. Those of throttled accounts are held back."""
        for kind in kinds:
            queue = self._queues[lane][kind]
            while queue:
                self._counts[lane] -= 1
                task = queue.popleft()
                # What is open already goes on: holding it back would hold its connections.
                name = None if lane is Lane.TRANSFER else self.throttled_account(task.repositories)
                if name is None:
                    return task
                self._held.setdefault(name, deque()).append(task)
        return None

    def count(self, lane: Lane) -> int:
        return self._counts[lane]

    def has(self, lane: Lane, kinds: tuple[Kind, ...]) -> bool:
        return any(self._queues[lane][kind] for kind in kinds)

    @property
    def empty(self) -> bool:
        """Whether nothing is ready, and nothing held back."""
        return not (any(self._counts) or self._held)

    def throttled_account(self, repositories: Iterable[Repository]) -> str | None:
        """The first account that has to wait before these repositories are asked."""
        for repository in repositories:
            if (name := self._throttled(repository)) is not None:
                return name
        return None

    def resume(self, name: str, limit: int) -> int:
        """Let up to `limit` of an account's tasks go, before all others; how many that were."""
        held = self._held.get(name, deque())
        released = min(limit, len(held))
        for _ in range(released):
            task = held.popleft()
            self._queues[task.lane][task.kind].appendleft(task)
            self._counts[task.lane] += 1
        if not held:
            self._held.pop(name, None)
        return released

    def holds(self, name: str) -> bool:
        """Whether tasks of an account are held back."""
        return name in self._held

    def resumable(self) -> list[str]:
        """Accounts whose first task is not throttled any more, or by another account."""
        return [
            name for name, held in self._held.items() if self.throttled_account(held[0].repositories) != name
        ]
