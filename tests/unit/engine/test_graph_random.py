"""Random graphs: whatever fails and whoever waits, every task ends once and nothing is lost."""

from collections import Counter
from typing import Any

import anyio
from hypothesis import given, settings
from hypothesis import strategies as st

from syncer.engine.graph import Counts, TaskGraph
from syncer.engine.pool import WorkerPool
from syncer.engine.task import KINDS, Lane, Reschedule
from tests.support.wire import Recorder
from tests.unit.engine.fake_task import FakeTask, job_for, keys, lasting, passing

SIZE = 12
NAMES = st.sets(st.integers(0, SIZE - 1), max_size=3)


@st.composite
def shapes(draw):
    """For each task: what it needs and follows (only earlier ones), its keys, its failures, its lane, its turn."""
    return [
        {
            "needs": draw(NAMES),
            "after": draw(NAMES),
            "second_key": draw(st.booleans()),
            "errors": draw(st.lists(st.sampled_from(["passing", "lasting"]), max_size=3)),
            "transfer": draw(st.booleans()),
            "turn": draw(NAMES),
            "settles": draw(st.sampled_from(["nothing", "well", "badly"])),
            "replacement": draw(st.booleans()),
            "drawn": draw(st.booleans()),
        }
        for _ in range(draw(st.integers(1, SIZE)))
    ]


class Scripted(FakeTask):
    """Does what its shape says, each thing once."""

    def __init__(self, number: int, shape: dict[str, Any], graph: TaskGraph) -> None:
        names = [str(number), *([f"{number}b"] if shape["second_key"] else [])]
        super().__init__(*names, kind="image" if shape["drawn"] else "blob")
        self.number, self.shape, self.graph = number, shape, graph
        self.errors = list(shape["errors"])
        self.settled = shape["settles"]
        self.moved = self.waited = False
        self.completed = 0

    async def run(self, job) -> Reschedule | None:
        assert self.completed == 0, "it runs after its end"
        await anyio.lowlevel.checkpoint()
        if self.shape["transfer"] and not self.shape["drawn"] and not self.moved:
            self.moved = True
            return Reschedule(Lane.TRANSFER)
        if self.shape["turn"] and not self.waited:
            self.waited = True
            return Reschedule(Lane.METADATA, after=tuple(keys(*earlier(self.number, self.shape["turn"]))))
        if self.shape["second_key"] and self.settled != "nothing":
            error = lasting() if self.settled == "badly" else None
            self.settled = "nothing"
            self.graph.settle(self, self.keys[1], error)
        if self.errors:
            raise passing() if self.errors.pop(0) == "passing" else lasting()
        if self.shape["replacement"]:
            self.graph.add(FakeTask(str(self.number), kind="manifest"), replaces=self)
        self.completed += 1
        return None


def earlier(number: int, wanted: set[int]) -> list[str]:
    return [str(other) for other in wanted if other < number]


@settings(max_examples=100, deadline=None)
@given(shapes(), st.integers(0, 2), st.integers(1, 2))
def test_every_task_ends_exactly_once(shapes, retries, transfers):
    graph = TaskGraph(transfers=transfers, retries=retries)
    tasks = [Scripted(number, shape, graph) for number, shape in enumerate(shapes)]
    for task in tasks:
        if not task.shape["drawn"]:
            needs, after = (
                earlier(task.number, task.shape["needs"]),
                earlier(task.number, task.shape["after"]),
            )
            graph.add(task, needs=keys(*needs), after=keys(*after))
    graph.add_lazy(task for task in tasks if task.shape["drawn"])
    recorder = Recorder(heard=lambda _event: check_counts(graph))

    async def run() -> None:
        with anyio.fail_after(5):
            await WorkerPool(graph, transfers=transfers).run(job_for(graph, recorder))

    anyio.run(run)
    assert [task.completed + len(task.ends) for task in tasks] == [1] * len(tasks)
    assert list(graph.abandon()) == []
    assert graph.idle
    assert all(graph.counts(kind) == Counts() for kind in KINDS)


def check_counts(graph: TaskGraph) -> None:
    running = Counter({kind: graph.counts(kind).running for kind in KINDS})
    assert running.total() == graph.running
    for kind in KINDS:
        counts = graph.counts(kind)
        assert min(counts.waiting, counts.ready, counts.running) >= 0
