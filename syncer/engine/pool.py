"""`WorkerPool`: runs ready tasks of the graph in two lanes, until no task is left or the pool is stopped."""

import asyncio
import logging
from collections import deque
from collections.abc import Collection, Coroutine
from functools import partial
from typing import Any, Literal

from syncer.engine.graph import TaskGraph
from syncer.engine.task import Job, Lane, Reschedule, Task
from syncer.errors import Kind, RegistryError
from syncer.events import RoundStarted, TaskEnded
from syncer.oci.reference import Repository

METADATA_WIDTH = 4
"""Workers of the metadata lane for each worker of the transfer lane."""
DRAIN_SECONDS = 20.0
"""Seconds that running tasks may continue after a stop."""
CANCEL_SECONDS = 10.0
"""Seconds that cancelled tasks may take to clean up, until they are cancelled again."""

_log = logging.getLogger(__name__)


class WorkerPool:
    """A bounded number of workers over a task graph. `transfers` is the number of concurrent blob transfers.

    `rival_hosts` are the registries that some rules use and others do not. If there are any, the metadata lane has
    twice as many workers, and each of these registries occupies at most half of them. A slow registry therefore does
    not delay the rules that do not use it.
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
        self._rivals = dict.fromkeys(rival_hosts, 0)  # number of tasks in the metadata lane, by registry
        width = 2 * self._share if self._rivals else self._share
        self._widths = {Lane.TRANSFER: transfers, Lane.METADATA: width}
        self._drain_seconds = drain_seconds
        self._idle: dict[Lane, deque[asyncio.Event]] = {lane: deque() for lane in Lane}
        self._stopping = False
        self._over = False
        self._round = 0
        self._group: asyncio.TaskGroup | None = None
        self._workers: set[asyncio.Task[None]] = set()
        self._pauses: set[asyncio.Task[None]] = set()
        self._timers: set[str] = set()
        self._recovering = False

    @property
    def stopping(self) -> bool:
        """Return whether `stop` was called before the run ended."""
        return self._stopping

    @property
    def over(self) -> bool:
        """Return whether the run has ended, so that no further task would run."""
        return self._over

    async def run(self, job: Job) -> None:
        """Run until no task is left and the graph is not held open. After `stop`, return early with unfinished tasks."""
        if self._stopping:
            return
        self._graph.on_ready = self._wake
        self._graph.throttled = partial(self._throttled, job)
        job.repositories.on_capacity(lambda name: self._graph.resume(name, 2))
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                for lane, width in self._widths.items():
                    for _ in range(width):
                        self._start(self._work(job, lane), self._workers)
        finally:
            self._group = None

    def _start(self, work: Coroutine[Any, Any, None], tasks: set[asyncio.Task[None]]) -> None:
        assert self._group is not None
        task = self._group.create_task(work)
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    def stop(self) -> None:
        """Start no further tasks. Cancel running tasks after `drain_seconds`."""
        if self._stopping or self._over:
            return
        self._stopping = True
        for pause in self._pauses:
            pause.cancel()
        if self._group is not None:
            self._group.create_task(self._drain())
            self._wake_all()

    async def _drain(self) -> None:
        """Wait until the workers have ended. Cancel them after a while, and again if they do not end."""
        seconds = self._drain_seconds
        while self._workers:
            await asyncio.wait(self._workers, timeout=seconds)
            for worker in self._workers:
                worker.cancel()
            seconds = CANCEL_SECONDS

    def _throttled(self, job: Job, repository: Repository) -> str | None:
        """Return the account that must wait before requests to this repository, if any, and schedule its resumption."""
        if self._rivals.get(repository.host, 0) >= self._share:
            # The graph checks again when a task of this host ends.
            return f"{repository.host}: its half of the lane"
        name, seconds = job.repositories.wait_for(repository)
        if seconds is None:
            return None
        if seconds > 0 and name not in self._timers and self._group is not None and not self._stopping:
            self._timers.add(name)
            self._start(self._resume_after(name, seconds), self._pauses)
        return name

    async def _resume_after(self, name: str, seconds: float) -> None:
        await asyncio.sleep(seconds)
        self._timers.discard(name)
        self._graph.resume(name, self._widths[Lane.METADATA])

    def _wake(self, lane: Lane) -> None:
        idle = self._idle[lane]
        if not idle and self._idle[Lane.TRANSFER] and self._graph.transfers_may_help:
            idle = self._idle[Lane.TRANSFER]
        if idle:
            idle.popleft().set()

    def _wake_all(self) -> None:
        for idle in self._idle.values():
            while idle:
                idle.popleft().set()

    async def _work(self, job: Job, lane: Lane) -> None:
        while not self._over and not self._stopping:
            task = self._graph.take(lane)
            if task is not None:
                await self._perform(job, task)
                self._settle_accounts(job)
            elif not self._recovering and self._graph.idle:
                if self._begin_round(job):
                    continue
                if self._graph.held:
                    await self._sleep(lane)
                else:
                    self._over = True
                    self._wake_all()
            elif not self._graph.has_work(lane):
                await self._sleep(lane)

    async def _sleep(self, lane: Lane) -> None:
        event = asyncio.Event()
        self._idle[lane].append(event)
        await event.wait()

    def _begin_round(self, job: Job) -> bool:
        """Start a retry round for the deferred tasks. Return False if there are none."""
        wait = job.repositories.recovery()
        if wait > 0 and self._graph.has_deferred and self._group is not None:
            # Nothing else is left to do, so wait until registries that are down may have recovered.
            self._recovering = True
            self._start(self._recover(wait), self._pauses)
            return True
        if count := self._graph.next_round():
            self._round += 1
            job.observer.notify(RoundStarted(self._round, count))
        return count > 0

    async def _recover(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
        self._recovering = False
        self._wake_all()

    async def _perform(self, job: Job, task: Task) -> None:
        error: RegistryError
        try:
            reschedule = await (self._run_counted(job, task) if self._rivals else task.run(job))
        except RegistryError as raised:
            error = raised
        except Exception as raised:  # noqa: BLE001
            # A bug in one task must not stop the others: report it as a failure of that image.
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

    async def _run_counted(self, job: Job, task: Task) -> Reschedule | None:
        """Run a task. Count it for each rival host that it uses, while it runs in the metadata lane."""
        if task.lane is Lane.TRANSFER:
            return await task.run(job)
        hosts = {repository.host for repository in task.repositories} & self._rivals.keys()
        for host in hosts:
            self._rivals[host] += 1
        try:
            return await task.run(job)
        finally:
            for host in hosts:
                self._rivals[host] -= 1

    def _settle_accounts(self, job: Job) -> None:
        for task, error in self._graph.failures():
            task.failed(job, error)
        if self._graph.idle:
            # Wake idle workers: the run is over, or a retry round begins.
            self._wake_all()
