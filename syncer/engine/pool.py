"""`WorkerPool`: takes what is ready from the graph and runs it, in two lanes, until nothing is left or it is told to stop."""

import logging
from collections import deque
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Literal

import anyio
from anyio.abc import TaskGroup

from syncer.engine.graph import TaskGraph
from syncer.engine.task import Job, Lane, Task
from syncer.errors import Kind, RegistryError
from syncer.events import RoundStarted, TaskEnded
from syncer.oci.reference import Repository

METADATA_WIDTH = 4
"""Workers for short requests, for each worker that transfers."""
DRAIN_SECONDS = 20.0
"""How long running tasks may go on after a stop."""

_log = logging.getLogger(__name__)


class WorkerPool:
    """Bounded workers over a task graph. `transfers` is how many blobs move at once.

    `rival_hosts` are those that some rules speak to and others do not. The metadata lane is as wide again where there
    are any, and each of them gets half of it at most: one that answers slowly, or not at all, must not keep the rules
    that have nothing to do with it.
    """

    def __init__(
        self,
        graph: TaskGraph,
        *,
        transfers: int,
        drain_seconds: float = DRAIN_SECONDS,
        rival_hosts: Collection[str] = (),
    ) -> None:
        self._graph = graph
        self._share = METADATA_WIDTH * transfers
        self._rivals = dict.fromkeys(rival_hosts, 0)  # to how many tasks in the metadata lane speak to them
        width = 2 * self._share if self._rivals else self._share
        self._widths = {Lane.TRANSFER: transfers, Lane.METADATA: width}
        self._drain_seconds = drain_seconds
        self._idle: dict[Lane, deque[anyio.Event]] = {lane: deque() for lane in Lane}
        self._stopping = False
        self._over = False
        self._round = 0
        self._group: TaskGroup | None = None
        self._rested = anyio.Event()
        self._timers: set[str] = set()
        self._recovering = False

    @property
    def stopping(self) -> bool:
        """Whether `stop` was called before it was over."""
        return self._stopping

    async def run(self, job: Job) -> None:
        """Run until nothing is left and nobody holds the graph open. Returns early, with tasks unfinished, after `stop`."""
        if self._stopping:
            return
        self._graph.on_ready = self._wake
        self._graph.throttled = lambda repository: self._throttled(job, repository)
        job.repositories.on_capacity(lambda name: self._graph.resume(name, 2))
        try:
            async with anyio.create_task_group() as group:
                self._group = group
                for lane, width in self._widths.items():
                    for _ in range(width):
                        group.start_soon(self._work, job, lane)
        finally:
            self._group = None

    def stop(self) -> None:
        """Start no further task; give running ones `drain_seconds`, then cancel them."""
        if self._stopping or self._over:
            return
        self._stopping = True
        if self._group is not None:
            self._group.start_soon(self._drain)
            self._wake_all()

    async def _drain(self) -> None:
        assert self._group is not None
        with anyio.move_on_after(self._drain_seconds):
            while self._graph.running:
                self._rested = anyio.Event()
                await self._rested.wait()
        self._group.cancel_scope.cancel()

    def _throttled(self, job: Job, repository: Repository) -> str | None:
        """The account that has to wait before this repository is asked, if any; and see that the wait ends."""
        if self._rivals.get(repository.host, 0) >= self._share:
            # A task that ends makes room, and the graph looks again then.
            return f"{repository.host}: its half of the lane"
        name, seconds = job.repositories.wait_for(repository)
        if seconds is None:
            return None
        if seconds > 0 and name not in self._timers and self._group is not None:
            self._timers.add(name)
            self._group.start_soon(self._resume_after, name, seconds)
        return name

    async def _resume_after(self, name: str, seconds: float) -> None:
        await anyio.sleep(seconds)
        self._timers.discard(name)
        self._graph.resume(name, self._widths[Lane.METADATA])

    def _wake(self, lane: Lane) -> None:
        idle = self._idle[lane]
        if not idle and self._graph.transfers_may_help:
            idle = self._idle[Lane.TRANSFER]
        if idle:
            idle.popleft().set()

    def _wake_all(self) -> None:
        for idle in self._idle.values():
            while idle:
                idle.popleft().set()

    async def _work(self, job: Job, lane: Lane) -> None:
        while not self._over:
            task = None if self._stopping else self._graph.take(lane)
            if task is not None:
                await self._perform(job, task)
                self._settle_accounts(job)
            elif not self._stopping and not self._recovering and self._graph.idle:
                if self._begin_round(job):
                    continue
                if self._graph.held:
                    await self._sleep(lane)
                else:
                    self._over = True
                    self._wake_all()
            elif not self._graph.has_work(lane) or self._stopping:
                await self._sleep(lane)

    async def _sleep(self, lane: Lane) -> None:
        event = anyio.Event()
        self._idle[lane].append(event)
        await event.wait()

    def _begin_round(self, job: Job) -> bool:
        """Try again what was deferred, now that everything else has run. False if there is nothing."""
        wait = job.repositories.recovery()
        if wait > 0 and self._graph.has_deferred and self._group is not None:
            # Nothing else is left to do: registries that are down get the time to come back.
            self._recovering = True
            self._group.start_soon(self._recover, wait)
            return True
        if count := self._graph.next_round():
            self._round += 1
            job.observer.notify(RoundStarted(self._round, count))
        return count > 0

    async def _recover(self, seconds: float) -> None:
        await anyio.sleep(seconds)
        self._recovering = False
        self._wake_all()

    async def _perform(self, job: Job, task: Task) -> None:
        error: RegistryError
        try:
            with self._in_lane(task):
                reschedule = await task.run(job)
        except RegistryError as raised:
            error = raised
        except Exception as raised:  # noqa: BLE001
            # A defect in one task must not take the others with it: it becomes that image's failure.
            _log.debug("%s failed unexpectedly", task, exc_info=raised)
            error = RegistryError(Kind.INTERNAL, f"unexpected {type(raised).__name__}: {raised}")
        else:
            if reschedule is None:
                self._graph.done(task)
                job.observer.notify(TaskEnded(task.kind, "done", str(task)))
            else:
                self._graph.reschedule(task, reschedule)
            return
        outcome: Literal["retried", "failed"] = (
            "retried" if self._graph.task_failed(task, error) else "failed"
        )
        job.observer.notify(TaskEnded(task.kind, outcome, str(task), error.as_failure()))

    @contextmanager
    def _in_lane(self, task: Task) -> Iterator[None]:
        """Count a task for the hosts that it speaks to while it runs in the metadata lane."""
        if not self._rivals or task.lane is Lane.TRANSFER:
            yield
            return
        hosts = {repository.host for repository in task.repositories} & self._rivals.keys()
        for host in hosts:
            self._rivals[host] += 1
        try:
            yield
        finally:
            for host in hosts:
                self._rivals[host] -= 1

    def _settle_accounts(self, job: Job) -> None:
        self._rested.set()
        for task, error in self._graph.failures():
            task.failed(job, error)
        if self._graph.idle:
            # Whoever sleeps must see that it is over, or that another round begins.
            self._wake_all()
