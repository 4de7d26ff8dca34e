"""The worker pool: how many run at once, what a failure does, how it stops."""

import asyncio
from collections.abc import Callable, Iterable, Iterator
from typing import Any, cast

import anyio
import pytest

from syncer.engine.graph import TaskGraph
from syncer.engine.pool import METADATA_WIDTH, WorkerPool
from syncer.engine.ranges import IdleSlots
from syncer.engine.task import Job, Lane, Reschedule
from syncer.events import RoundStarted, TaskEnded
from syncer.oci.reference import Repository
from tests.support.wire import Recorder
from tests.unit.engine.fake_task import FakeTask, Open, Script, graph_of, job_for, keys, lasting, passing


async def finish(
    graph: TaskGraph, *, transfers: int = 1, drain_seconds: float = 5.0, stop: Iterable[FakeTask] = ()
) -> Recorder:
    """Run a pool over a graph to its end. Each task of `stop` stops it when it runs. Nothing may be left running."""
    before = asyncio.all_tasks()
    recorder = Recorder()
    pool = WorkerPool(graph, transfers=transfers, drain_seconds=drain_seconds)
    for task in stop:
        task.script = stopping(pool, task.script)
    with anyio.fail_after(10):
        await pool.run(job_for(graph, recorder))
    assert asyncio.all_tasks() == before
    return recorder


async def until(reached: Callable[[], bool]) -> None:
    while not reached():
        await anyio.lowlevel.checkpoint()


def stopping(pool: WorkerPool, script: Script | None) -> Script:
    async def run(task: FakeTask) -> Reschedule | None:
        pool.stop()
        return await script(task) if script else None

    return run


def failing(*errors: Exception) -> Script:
    """Fails in these ways, one after the other, and then goes well."""
    left = list(errors)

    async def run(_task: FakeTask) -> None:
        if left:
            raise left.pop(0)

    return run


async def yielding(_task: FakeTask) -> None:
    for _ in range(3):
        await anyio.lowlevel.checkpoint()


async def in_transfer_lane(task: FakeTask) -> Reschedule | None:
    return Reschedule(Lane.TRANSFER) if task.runs == 1 else None


def test_metadata_lane_has_four_workers_for_each_transfer():
    assert METADATA_WIDTH == 4


@pytest.mark.parametrize("transfers", [1, 3])
async def test_a_lane_is_never_wider_than_it_was_asked_to_be(transfers):
    graph, running, limit = graph_of(transfers=transfers), dict.fromkeys(Lane, 0), dict.fromkeys(Lane, 0)

    async def busy(task: FakeTask) -> None:
        running[task.lane] += 1
        limit[task.lane] = max(limit[task.lane], running[task.lane])
        await yielding(task)
        running[task.lane] -= 1

    for number in range(50):
        graph.add(FakeTask(f"short {number}", script=busy))
        graph.add(FakeTask(f"long {number}", lane=Lane.TRANSFER, script=busy))
    await finish(graph, transfers=transfers)
    assert limit[Lane.METADATA] == 4 * transfers
    assert limit[Lane.TRANSFER] == transfers


async def test_failed_task_does_not_stop_the_others():
    graph = graph_of(retries=0)
    tasks = [
        FakeTask(str(number), script=failing(lasting()) if number == 5 else yielding) for number in range(10)
    ]
    for task in tasks:
        graph.add(task)
    await finish(graph)
    assert [task.ends != [] for task in tasks] == [number == 5 for number in range(10)]
    assert all(task.runs == 1 for task in tasks)


async def test_dependents_of_a_failed_task_fail_with_the_root_cause():
    graph = graph_of(retries=0)
    graph.add(FakeTask("a", script=failing(lasting("the cause"))))
    graph.add(middle := FakeTask("b"), needs=keys("a"))
    graph.add(end := FakeTask("c"), needs=keys("b"))
    await finish(graph)
    assert [error.message for error in middle.ends + end.ends] == ["the cause", "the cause"]
    assert middle.runs == end.runs == 0


async def test_failed_task_is_retried_after_all_others():
    graph, order = graph_of(retries=2), []
    graph.add(bad := FakeTask("bad", script=failing(passing(), passing())))
    for number in range(20):
        graph.add(FakeTask(str(number), script=yielding))
    told = await finish(graph)
    order = [event.label for event in told.of(TaskEnded)]
    assert order.count("bad") == 3
    assert order[-2:] == ["bad", "bad"]
    assert told.of(RoundStarted) == [RoundStarted(1, 1), RoundStarted(2, 1)]
    assert bad.ends == []


async def test_permanently_failing_task_runs_once():
    graph = graph_of(retries=5)
    graph.add(task := FakeTask("a", script=failing(lasting())))
    told = await finish(graph)
    assert task.runs == 1
    assert told.of(RoundStarted) == []


async def test_unexpected_exception_fails_only_its_task():
    graph = graph_of(retries=0)
    graph.add(task := FakeTask("a", script=failing(ZeroDivisionError("a defect"))))
    graph.add(other := FakeTask("b", script=yielding))
    told = await finish(graph)
    assert [(error.kind, error.message) for error in task.ends] == [
        ("internal", "unexpected ZeroDivisionError: a defect")
    ]
    assert other.runs == 1
    assert {event.outcome for event in told.of(TaskEnded)} == {"failed", "done"}


async def test_a_task_may_run_in_one_lane_and_then_in_the_other():
    graph = graph_of()
    graph.add(task := FakeTask("a", script=in_transfer_lane))
    told = await finish(graph)
    assert task.runs == 2
    assert len(told.of(TaskEnded)) == 1


async def test_an_empty_graph_ends_at_once():
    assert (await finish(graph_of())).events == []


@pytest.mark.parametrize("error", [passing(), lasting()], ids=["passing", "lasting"])
async def test_a_run_ends_when_every_transfer_fails(error):
    graph = graph_of(retries=1)
    blobs: list[FakeTask] = []

    async def move(task: FakeTask) -> Reschedule | None:
        if task.lane is Lane.METADATA:
            return Reschedule(Lane.TRANSFER)
        raise error

    async def open_image(image: FakeTask) -> None:
        graph.add(blob := FakeTask(f"blob of {image}", script=move))
        blobs.append(blob)

    def images() -> Iterator[FakeTask]:
        return (FakeTask(str(number), kind="image", script=open_image) for number in range(30))

    graph.add_lazy(images())
    await finish(graph)
    assert len(blobs) == 30
    assert all(blob.ends for blob in blobs)


async def test_no_task_starts_after_a_stop():
    graph = graph_of(transfers=1)
    graph.add(first := FakeTask("first", script=yielding))
    later = [FakeTask(str(number)) for number in range(10)]
    for task in later:
        graph.add(task)
    graph.add_lazy(iter([image := FakeTask("image", kind="image")]))
    await finish(graph, stop=[first])
    assert first.runs == 1
    assert sum(task.runs for task in later) < METADATA_WIDTH
    assert image.runs == 0


async def test_running_tasks_may_finish_after_a_stop():
    graph, finished = graph_of(), []

    async def slow(task: FakeTask) -> None:
        await anyio.sleep(0.05)
        finished.append(task)

    graph.add(task := FakeTask("a", script=slow))
    graph.add(dependent := FakeTask("b"), needs=keys("a"))
    await finish(graph, stop=[task])
    assert finished == [task]
    assert dependent.runs == 0


async def test_task_that_exceeds_the_drain_time_is_cancelled():
    graph, cancelled = graph_of(), []

    async def endless(task: FakeTask) -> None:
        try:
            await anyio.sleep_forever()
        except asyncio.CancelledError:
            cancelled.append(task)
            raise

    graph.add(task := FakeTask("a", script=endless))
    await finish(graph, stop=[task], drain_seconds=0.01)
    assert cancelled == [task]
    assert list(graph.abandon()) == [task]


async def test_deferred_tasks_are_not_retried_after_a_stop():
    graph = graph_of(retries=5)
    graph.add(bad := FakeTask("bad", script=failing(passing())))
    graph.add(last := FakeTask("last"), after=keys("nobody"))
    told = await finish(graph, stop=[bad, last])
    assert told.of(RoundStarted) == []
    assert bad.runs == 1


async def test_pool_stopped_before_run_starts_no_task():
    graph = graph_of()
    graph.add(task := FakeTask("a"))
    pool = WorkerPool(graph, transfers=1)
    pool.stop()
    with anyio.fail_after(5):
        await pool.run(job_for(graph))
    assert task.runs == 0
    assert pool.stopping


async def test_a_graph_that_is_held_open_takes_more_when_nothing_is_left():
    graph = graph_of()
    early, late = FakeTask("early"), FakeTask("late")
    graph.add(early)
    pool = WorkerPool(graph, transfers=1)
    async with anyio.create_task_group() as group:
        with graph.hold():
            group.start_soon(pool.run, job_for(graph))
            await until(lambda: early.runs == 1 and graph.idle)
            graph.add(late)
            await until(lambda: late.runs == 1)
    assert graph.idle


async def test_a_graph_that_is_held_open_takes_lazy_tasks_when_nothing_is_left():
    graph = graph_of()
    late = [FakeTask(str(number), kind="image") for number in range(3)]
    pool = WorkerPool(graph, transfers=1)
    async with anyio.create_task_group() as group:
        with graph.hold():
            group.start_soon(pool.run, job_for(graph))
            await anyio.wait_all_tasks_blocked()
            graph.add_lazy(iter(late))
            await until(lambda: all(task.runs == 1 for task in late))


async def test_failed_task_is_retried_while_the_graph_is_held_open():
    graph = graph_of(retries=1)

    async def fail_once(task):
        if task.runs == 1:
            raise passing()

    task = FakeTask("a", script=fail_once)
    graph.add(task)
    heard = Recorder()
    async with anyio.create_task_group() as group:
        with graph.hold():
            group.start_soon(WorkerPool(graph, transfers=1).run, job_for(graph, heard))
            await until(lambda: task.runs == 2 and graph.idle)
            await anyio.wait_all_tasks_blocked()
    assert [event.number for event in heard.of(RoundStarted)] == [1]


async def test_a_run_ends_when_the_last_holder_lets_go():
    graph = graph_of()
    ended = anyio.Event()

    async def run():
        await WorkerPool(graph, transfers=1).run(job_for(graph))
        ended.set()

    async with anyio.create_task_group() as group:
        with graph.hold():
            with graph.hold():
                group.start_soon(run)
                await anyio.wait_all_tasks_blocked()
            await anyio.wait_all_tasks_blocked()
            assert not ended.is_set()
        await ended.wait()


async def test_pause_that_begins_after_a_stop_does_not_delay_the_end():
    graph, pauses = graph_of(), [0.0]
    busy, other = Repository("a.test", "busy"), Repository("b.test", "other")

    class Throttled(Open):
        def wait_for(self, name: Repository) -> tuple[str, float | None]:
            return name.host, None if name == other else pauses[-1]

    stopped = asyncio.Event()

    async def throttle(_task: FakeTask) -> None:
        await stopped.wait()
        pauses.append(600.0)

    late = FakeTask("late", kind="image", repositories=[busy])
    graph.add(late)
    graph.add(FakeTask("last", script=throttle, repositories=[other]))
    pool = WorkerPool(graph, transfers=1)
    job = Job(graph, cast("Any", Throttled()), Recorder(), IdleSlots())
    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        group.create_task(pool.run(job))
        await anyio.wait_all_tasks_blocked()
        pool.stop()
        stopped.set()
    assert pauses == [0.0, 600.0]
    assert late.runs == 0


async def test_a_stop_ends_a_run_that_is_held_open():
    graph = graph_of()
    pool = WorkerPool(graph, transfers=1)
    async with anyio.create_task_group() as group:
        with graph.hold():
            group.start_soon(pool.run, job_for(graph))
            await anyio.wait_all_tasks_blocked()
            pool.stop()
