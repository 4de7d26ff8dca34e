"""The task graph: dependencies between tasks, one task per key, and which task is ready next.

A task has a key for each thing that it produces. Other tasks wait for keys, not for tasks. A key is settled once,
with or without an error, and then forgotten: the ledger records results, the graph does not.
This module does no I/O and awaits nothing.
"""

import enum
import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

import msgspec

from syncer.engine.dispatch import Dispatcher
from syncer.engine.ready import ReadyQueues
from syncer.engine.task import KINDS, MAX_THROTTLED, Key, Kind, Lane, Priority, Reschedule, State, Task
from syncer.errors import MAX_HOLD, RegistryError
from syncer.errors import Kind as ErrorKind
from syncer.oci.reference import Repository


class _Edge(enum.IntEnum):
    NEEDS = 0  # released if the key is settled without an error, fails otherwise
    AFTER = 1  # released when the key is settled either way
    AFTER_ATTEMPT = 2  # as AFTER, and also when the key's task is deferred


_ALL_EDGES = frozenset(_Edge)
_AFTER_ATTEMPT_EDGE = frozenset({_Edge.AFTER_ATTEMPT})


class Counts(msgspec.Struct):
    """Tasks of one kind that are currently in the graph."""

    waiting: int = 0
    ready: int = 0
    running: int = 0


class TaskGraph:
    """Tasks and their dependencies.

    `transfers` is the number of workers of the transfer lane: it limits how far ahead new images are opened.
    `retries` is the number of retries of a failed task. `on_ready(lane)` is called whenever a worker of that lane
    has work. For `throttled` and `resume` see `ReadyQueues`: a throttled task occupies no worker.
    """

    def __init__(self, *, transfers: int, retries: int) -> None:
        self._retries = retries
        self.on_ready: Callable[[Lane], None] = lambda _lane: None
        self.throttled: Callable[[Repository], str | None] = lambda _repository: None
        self._ready = ReadyQueues(lambda repository: self.throttled(repository))  # noqa: PLW0108 - set later
        self._pending: dict[Key, Task] = {}
        self._waiters: dict[Key, list[tuple[Task, _Edge]]] = {}
        self._dispatcher = Dispatcher(
            self._ready, transfers=transfers, count_open=self._count_open, begin=self._take_keys
        )
        # Lazy tasks that were pulled while other tasks produced their keys. They wait for these keys.
        self._keyless: set[Task] = set()
        self._deferred: deque[Task] = deque()
        self._failed: deque[tuple[Task, RegistryError]] = deque()
        self._counts = {kind: [0] * len(State) for kind in KINDS}
        self._running = 0
        self._holders = 0
        # Keys that depend, directly or indirectly, on a deferred task: they do not count as open work.
        self._deferred_keys: set[Key] = set()

    # --- building -------------------------------------------------------------------------------------------------

    def producer(self, key: Key) -> Task | None:
        """Return the task that produces `key` and has not ended yet, if there is one."""
        return self._pending.get(key)

    def add(
        self,
        task: Task,
        *,
        needs: Iterable[Key] = (),
        after: Iterable[Key] = (),
        replaces: Task | None = None,
    ) -> None:
        """Add a task. It runs when every key of `needs` is settled without an error and every key of `after` is settled.

        Keys that no task produces count as settled. The task's own keys must not be pending, unless the task
        `replaces` produces them: the new task takes them over.
        """
        self._set_pending(task, replaces)
        self._enter(task, State.WAITING)
        self._wait(task, needs, _Edge.NEEDS)
        self._wait(task, after, _Edge.AFTER)
        if not task.unmet:
            self._make_ready(task)

    def add_lazy(self, tasks: Iterator[Task], *, repositories: Iterable[Repository] = ()) -> None:
        """Add tasks that are pulled from `tasks` only when there is room and no account of `repositories` is throttled."""
        self._dispatcher.add_lazy(tasks, repositories, Priority.NORMAL)
        self._tell_of_room()

    def add_ahead(self, tasks: Iterator[Task], *, repositories: Iterable[Repository] = ()) -> None:
        """Add lazy tasks that are pulled before all other work, also while the transfer queue is full."""
        self._dispatcher.add_lazy(tasks, repositories, Priority.URGENT)
        self._tell_of_room()

    def add_later(
        self, tasks: Iterator[Task], *, then: Task, repositories: Iterable[Repository] = ()
    ) -> None:
        """Add lazy tasks that are pulled after all other work, and after them `then`, whose keys are pending from now."""
        self._set_pending(then)
        self._enter(then, State.WAITING)
        self._dispatcher.add_lazy(itertools.chain(tasks, (then,)), repositories, Priority.LOW)
        self._tell_of_room()

    def promote(self, task: Task) -> None:
        """Run a task before others, because an urgent task needs what it produces."""
        if task.priority is not Priority.URGENT:
            self._ready.promote(task)

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Keep the graph open: while it is held, workers wait for further tasks even if nothing is left to do."""
        self._holders += 1
        try:
            yield
        finally:
            self._holders -= 1
            # Wake idle workers: the run may be over.
            self.on_ready(Lane.METADATA)

    def _wait(self, task: Task, keys: Iterable[Key], edge: _Edge) -> None:
        for key in keys:
            holder = self._pending.get(key)
            if holder is None or (edge is _Edge.AFTER_ATTEMPT and holder.state is State.DEFERRED):
                continue
            self._waiters.setdefault(key, []).append((task, edge))
            task.unmet += 1
            if key in self._deferred_keys and edge is not _Edge.AFTER_ATTEMPT:
                self._defer_waiting(task)

    # --- running --------------------------------------------------------------------------------------------------

    def take(self, lane: Lane) -> Task | None:
        """Return the next task for a worker of `lane`, and mark it as running.

        Deeper kinds come first: an image is finished before the next one is opened. If there is nothing to transfer,
        workers of the transfer lane open images too.
        """
        task = self._dispatcher.take(lane)
        if task is not None:
            self._enter(task, State.RUNNING)
            self._running += 1
            if lane is Lane.TRANSFER and self.has_work(Lane.METADATA):
                # The prepared transfer has begun: another one may be prepared.
                self.on_ready(Lane.METADATA)
            elif task.lane is Lane.OPENING:
                # One transfer less is queued: there may be room for another image.
                self._tell_of_room()
        return task

    def has_work(self, lane: Lane) -> bool:
        """Return whether `take` would return a task."""
        return self._dispatcher.has_work(lane)

    def resume(self, name: str, limit: int) -> None:
        """Release up to `limit` tasks of the account `name`, which `throttled` returned before."""
        for _ in range(self._ready.resume(name, limit)):
            self.on_ready(Lane.METADATA)
        if self._dispatcher.held_back and not self._ready.holds(name):
            self._dispatcher.held_back = False
            self._tell_of_room()

    def done(self, task: Task) -> None:
        """Record that `task` succeeded: settle its pending keys."""
        self._leave_running(task)
        self._enter(task, State.OVER)
        for key in task.keys:
            self.settle(task, key)
        self._tell_of_room()

    def reschedule(self, task: Task, reschedule: Reschedule) -> None:
        """Run `task` once more."""
        self._leave_running(task)
        self._enter(task, State.WAITING)
        task.lane = reschedule.lane
        self._wait(task, reschedule.after, _Edge.AFTER_ATTEMPT)
        if not task.unmet:
            self._make_ready(task)

    def task_failed(self, task: Task, error: RegistryError) -> bool:
        """Record that `task` failed. Return True if it will be retried, False if the failure is final."""
        says_when = error.kind is ErrorKind.THROTTLED and 0 < (error.retry_after or 0) <= MAX_HOLD
        if says_when and task.throttle_count < MAX_THROTTLED:
            # The registry set the time of the retry: the task waits with the other tasks of that host.
            task.throttle_count += 1
            self.reschedule(task, Reschedule(Lane.METADATA))
            return True
        self._leave_running(task)
        task.attempts += 1
        task.error = error
        deferred = not error.permanent and task.attempts <= self._retries
        if deferred:
            self._enter(task, State.DEFERRED)
            self._deferred.append(task)
            self._defer_waiting(task)
            for key in task.keys:
                self._release(key, _AFTER_ATTEMPT_EDGE)
        else:
            self._enter(task, State.OVER)
            self._fail(task, error)
        self._tell_of_room()
        return deferred

    def split_off(self, task: Task, part: Task, error: RegistryError) -> bool:
        """Record that only a part of the running `task` failed: `part` takes its keys over and fails in its place."""
        part.attempts, part.throttle_count = task.attempts, task.throttle_count
        self._set_pending(part, task)
        self._enter(part, State.RUNNING)
        self._running += 1
        return self.task_failed(part, error)

    def next_round(self) -> int:
        """Make all deferred tasks ready, and return their number. Call this only if nothing else is left."""
        count = len(self._deferred)
        self._deferred_keys.clear()
        while self._deferred:
            task = self._deferred.popleft()
            task.lane = Lane.METADATA
            self._make_ready(task)
        return count

    def settle(self, task: Task, key: Key, error: RegistryError | None = None) -> None:
        """Settle one key of a running task before the others, with an `error` if it will never be produced."""
        for blocked in self._complete_key(task, key, error):
            assert error is not None
            self._fail(blocked, error)

    def failures(self) -> Iterator[tuple[Task, RegistryError]]:
        """Yield the tasks that failed for good since the last call, each with its root cause."""
        while self._failed:
            yield self._failed.popleft()

    # --- looking --------------------------------------------------------------------------------------------------

    @property
    def running(self) -> int:
        return self._running

    @property
    def idle(self) -> bool:
        """Return whether nothing runs and nothing can run before the next retry round."""
        return not (self._running or self._dispatcher.has_lazy) and self._ready.empty

    @property
    def only_urgent(self) -> bool:
        """Return whether all that is left was added ahead of other work."""
        if self._dispatcher.has_normal_lazy:
            return False
        return all(
            task.priority is Priority.URGENT
            for tasks in (self._pending.values(), self._keyless)
            for task in tasks
        )

    @property
    def held(self) -> bool:
        return self._holders > 0

    @property
    def has_deferred(self) -> bool:
        """Return whether a task waits for the next retry round."""
        return bool(self._deferred)

    @property
    def transfers_may_help(self) -> bool:
        """Return whether the transfer lane may open images: it has no work, and no open image waits."""
        return self._dispatcher.transfers_may_help

    @property
    def transfers_wanted(self) -> int:
        """Return the number of tasks that are in the transfer lane or will enter it."""
        return self._dispatcher.transfers_wanted

    def counts(self, kind: Kind) -> Counts:
        counts = self._counts[kind]
        waiting = counts[State.WAITING] + counts[State.DEFERRED]
        return Counts(waiting, ready=counts[State.READY], running=counts[State.RUNNING])

    def abandon(self) -> Iterator[Task]:
        """Yield every task that still has pending keys, each once, and the tasks that were never pulled."""
        keyless = self._keyless
        for task in self._dispatcher.lazy_tasks():
            self._take_keys(task)
        yield from {id(task): task for task in (*self._pending.values(), *keyless)}.values()

    # --- inside ---------------------------------------------------------------------------------------------------

    def _set_pending(self, task: Task, replaces: Task | None = None) -> None:
        for key in task.keys:
            assert self._pending.get(key, replaces) in (replaces, task), f"{key} is pending twice"
            self._pending[key] = task

    def _count_open(self) -> int:
        without_images = len(self._deferred_keys) + self._counts["tags"][State.WAITING]
        return len(self._pending) + len(self._keyless) - without_images

    def _take_keys(self, task: Task) -> bool:
        """Make `task` the producer of its keys, and return True.

        If other tasks produce some of them, for the same image of the same run, `task` waits until they are settled.
        """
        taken = [key for key in task.keys if self._pending.get(key, task) is not task]
        if not taken:
            self._keyless.discard(task)
            self._set_pending(task)
            # Each worker wakes the next one: lazy tasks are work for all, but only one worker was told.
            self._tell_of_room()
            return True
        self._keyless.add(task)
        self._enter(task, State.WAITING)
        self._wait(task, taken, _Edge.AFTER)
        return False

    def _defer_waiting(self, task: Task) -> None:
        """Exclude the keys of `task`, and all that depend on them, from the open work until the next round."""
        row = [task]
        for parked in row:  # grows during the loop: recursion would exceed the stack
            for key in parked.keys:
                if self._pending.get(key) is parked and key not in self._deferred_keys:
                    self._deferred_keys.add(key)
                    waiters = self._waiters.get(key, ())
                    row += [task for task, edge in waiters if edge is not _Edge.AFTER_ATTEMPT]

    def _tell_of_room(self) -> None:
        if self._dispatcher.may_pull():
            self.on_ready(Lane.METADATA)

    def _enter(self, task: Task, state: State) -> None:
        counts = self._counts[task.kind]
        counts[task.state] -= 1
        task.state = state
        counts[state] += 1

    def _make_ready(self, task: Task) -> None:
        if task in self._keyless and not self._take_keys(task):
            return
        self._enter(task, State.READY)
        self._ready.push(task)
        self.on_ready(Lane.TRANSFER if task.lane is Lane.TRANSFER else Lane.METADATA)

    def _leave_running(self, task: Task) -> None:
        assert task.state is State.RUNNING
        self._running -= 1
        self._dispatcher.ended(task)
        # The resumed task may have sent no request, so no answer will report the free capacity.
        for name in self._ready.resumable():
            self.resume(name, 1)

    def _fail(self, task: Task, error: RegistryError) -> None:
        """Fail `task`, and every task that needs it, with the same root cause."""
        row = [(task, error)]
        for failed, cause in row:  # grows during the loop
            failed.error = explained = failed.explain(cause)
            self._failed.append((failed, explained))
            for key in failed.keys:
                row += [(blocked, explained) for blocked in self._complete_key(failed, key, explained)]

    def _complete_key(self, task: Task, key: Key, error: RegistryError | None) -> Sequence[Task]:
        """Settle a key of `task`, with or without an error. Return the tasks that can never run now."""
        if self._pending.get(key) is not task:
            return ()
        del self._pending[key]
        self._deferred_keys.discard(key)
        return self._release(key, _ALL_EDGES, error)

    def _release(
        self, key: Key, edges: frozenset[_Edge], error: RegistryError | None = None
    ) -> Sequence[Task]:
        waiters = self._waiters.pop(key, None)
        if not waiters:
            return ()
        kept = [waiter for waiter in waiters if waiter[1] not in edges]
        if kept:
            self._waiters[key] = kept
        blocked = []
        for task, edge in waiters:
            if edge not in edges:
                continue
            task.unmet -= 1
            if task.state is not State.WAITING:
                continue
            if error is not None and edge is _Edge.NEEDS:
                self._enter(task, State.OVER)
                blocked.append(task)
            elif not task.unmet:
                self._make_ready(task)
        return blocked
