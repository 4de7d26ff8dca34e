"""What is deferred and tried again, and images that are opened only when there is room."""

from collections.abc import Iterator

import pytest

from syncer.engine.task import Lane, Reschedule
from tests.unit.engine.fake_task import FakeTask, ended, graph_of, keys, lasting, passing, take_all


def images(count: int, drawn: list[str] | None = None) -> Iterator[FakeTask]:
    for number in range(count):
        if drawn is not None:
            drawn.append(str(number))
        yield FakeTask(f"image {number}", kind="image")


def test_a_failed_task_waits_for_the_next_round():
    graph = graph_of()
    graph.add(task := FakeTask("a"))
    take_all(graph)
    assert graph.task_failed(task, passing())
    assert graph.idle
    assert take_all(graph) == []
    assert graph.next_round() == 1
    assert take_all(graph) == [task]


def test_dependents_of_a_deferred_task_wait_for_the_next_round():
    graph = graph_of()
    graph.add(task := FakeTask("a"))
    graph.add(dependent := FakeTask("b"), needs=keys("a"))
    take_all(graph)
    graph.task_failed(task, passing())
    assert ended(graph) == {}
    graph.next_round()
    take_all(graph)
    graph.done(task)
    assert take_all(graph) == [dependent]


@pytest.mark.parametrize("retries", [0, 1, 3])
def test_task_is_retried_up_to_the_limit(retries):
    graph = graph_of(retries=retries)
    graph.add(task := FakeTask("a"))
    tries = 0
    while graph.next_round() or not graph.idle:
        for taken in take_all(graph):
            graph.task_failed(taken, passing(f"try {tries}"))
            tries += 1
    assert tries == retries + 1
    assert ended(graph) == {"a": f"try {retries}"}
    assert task.attempts == retries + 1


def test_permanent_failure_is_not_retried():
    graph = graph_of(retries=5)
    graph.add(task := FakeTask("a"))
    take_all(graph)
    assert not graph.task_failed(task, lasting())
    assert graph.next_round() == 0


def test_another_round_begins_with_the_short_requests():
    graph = graph_of()
    graph.add(task := FakeTask("a"))
    take_all(graph)
    graph.reschedule(task, Reschedule(Lane.TRANSFER))
    take_all(graph)
    graph.task_failed(task, passing())
    graph.next_round()
    assert graph.take(Lane.METADATA) is task


def test_an_image_is_finished_before_the_next_is_opened():
    graph = graph_of()
    graph.add_lazy(images(2))
    graph.add(blob := FakeTask("blob"))
    graph.add(manifest := FakeTask("manifest", kind="manifest"))
    assert [graph.take(Lane.METADATA), graph.take(Lane.METADATA)] == [manifest, blob]
    assert str(graph.take(Lane.METADATA)) == "image 0"


def test_lazy_tasks_are_pulled_one_by_one():
    graph = graph_of()
    drawn: list[str] = []
    graph.add_lazy(images(100_000, drawn))
    graph.take(Lane.METADATA)
    assert drawn == ["0"]


def test_rules_are_opened_one_after_the_other():
    graph = graph_of()
    graph.add_lazy(iter([FakeTask("a", kind="image"), FakeTask("b", kind="image")]))
    graph.add_lazy(iter(()))
    graph.add_lazy(iter([FakeTask("c", kind="image")]))
    assert [str(task) for task in take_all(graph)] == ["a", "b", "c"]


def test_no_image_is_opened_while_transfers_queue_up():
    graph = graph_of(transfers=1)
    graph.add_lazy(images(10))
    for number in range(2):
        graph.add(FakeTask(f"large {number}", lane=Lane.TRANSFER))
    assert not graph.has_work(Lane.METADATA)
    assert graph.take(Lane.METADATA) is None
    graph.take(Lane.TRANSFER)
    assert str(graph.take(Lane.METADATA)) == "image 0"


def test_number_of_open_images_is_bounded():
    graph = graph_of(transfers=1)
    graph.add_lazy(images(10_000))
    taken = take_all(graph)
    assert len(taken) == 256
    graph.done(taken[0])
    assert len(take_all(graph)) == 1


def test_free_capacity_wakes_a_worker():
    graph = graph_of(transfers=1)
    on_ready: list[Lane] = []
    graph.add_lazy(images(10_000))
    taken = take_all(graph)
    graph.on_ready = on_ready.append
    graph.done(taken[0])
    assert on_ready == [Lane.METADATA]


@pytest.mark.parametrize("error", [passing(), lasting()], ids=["passing", "lasting"])
def test_capacity_freed_by_a_failure_wakes_a_worker(error):
    graph = graph_of(transfers=1)
    graph.add_lazy(images(10))
    graph.add(large := FakeTask("large", lane=Lane.TRANSFER))
    graph.add(FakeTask("another", lane=Lane.TRANSFER))
    assert graph.take(Lane.METADATA) is None
    on_ready: list[Lane] = []
    graph.on_ready = on_ready.append
    assert graph.take(Lane.TRANSFER) is large
    graph.take(Lane.TRANSFER)
    on_ready.clear()
    graph.task_failed(large, error)
    assert on_ready == [Lane.METADATA]


def open_images(graph, needs: str) -> None:
    """Take each image that there is room for, and let it wait for the key `needs`."""
    while task := graph.take(Lane.METADATA):
        graph.add(
            FakeTask(*[str(key[0]) for key in task.keys], kind="manifest"), needs=keys(needs), replaces=task
        )
        graph.done(task)


@pytest.mark.parametrize("aside_first", [True, False])
def test_dependents_of_a_deferred_task_occupy_no_capacity(aside_first):
    graph = graph_of(transfers=1)
    graph.add(base := FakeTask("base", lane=Lane.TRANSFER))
    graph.add_lazy(images(1000))
    assert graph.take(Lane.TRANSFER) is base
    if aside_first:
        graph.task_failed(base, passing())
        open_images(graph, "base")
    else:
        open_images(graph, "base")
        graph.task_failed(base, passing())
        open_images(graph, "base")
    assert graph.idle
    assert graph.next_round() == 1
    graph.done(*take_all(graph))
    assert len(take_all(graph)) == 1000


def test_settled_keys_of_a_deferred_task_free_no_capacity():
    graph = graph_of(transfers=1)
    graph.add_lazy(iter(FakeTask(f"done {number}", f"down {number}", kind="image") for number in range(100)))
    for task in take_all(graph):
        graph.settle(task, task.keys[0])
        graph.task_failed(task, passing())
    graph.add_lazy(images(10_000))
    assert len(take_all(graph)) == 256
