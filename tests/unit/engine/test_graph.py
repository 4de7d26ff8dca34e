"""The task graph: who waits for whom, and what becomes of those who wait."""

import pytest

from syncer.engine.task import KINDS, Lane, Reschedule
from syncer.oci.reference import Repository
from tests.unit.engine.fake_task import FakeTask, ended, graph_of, keys, lasting, passing, take_all


def test_a_task_without_needs_is_ready_at_once():
    graph = graph_of()
    graph.add(task := FakeTask("a"))
    assert graph.take(Lane.METADATA) is task
    assert graph.take(Lane.METADATA) is None


def test_a_key_is_pending_until_it_is_settled():
    graph = graph_of()
    graph.add(task := FakeTask("a"))
    take_all(graph)
    assert graph.producer(("a",))
    graph.done(task)
    assert not graph.producer(("a",))


def test_a_key_has_one_task():
    graph = graph_of()
    graph.add(FakeTask("a"))
    with pytest.raises(AssertionError, match="pending twice"):
        graph.add(FakeTask("b", "a"))


def test_a_task_waits_for_all_that_it_needs():
    graph = graph_of()
    needs = [FakeTask("a"), FakeTask("b")]
    for task in needs:
        graph.add(task)
    graph.add(last := FakeTask("c"), needs=keys("a", "b"))
    assert take_all(graph) == needs
    graph.done(needs[0])
    assert take_all(graph) == []
    graph.done(needs[1])
    assert take_all(graph) == [last]


def test_key_without_producer_counts_as_settled():
    graph = graph_of()
    graph.add(task := FakeTask("a"), needs=keys("nobody"), after=keys("no one"))
    assert take_all(graph) == [task]


def test_duplicate_need_counts_once():
    graph = graph_of()
    graph.add(first := FakeTask("a"))
    graph.add(second := FakeTask("b"), needs=keys("a", "a"))
    take_all(graph)
    graph.done(first)
    assert take_all(graph) == [second]


@pytest.mark.parametrize("depth", [1, 5, 3000])
def test_the_root_cause_reaches_whatever_depends_on_it(depth):
    graph = graph_of(transfers=100)
    graph.add(root := FakeTask("0"))
    for number in range(1, depth + 1):
        graph.add(FakeTask(str(number)), needs=keys(str(number - 1)))
    take_all(graph)
    graph.task_failed(root, lasting("the root"))
    assert ended(graph) == {str(number): "the root" for number in range(depth + 1)}
    assert graph.idle


@pytest.mark.parametrize("error", [passing(), lasting()], ids=["passing", "lasting"])
def test_long_chain_of_after_edges_survives_a_failure(error):
    graph = graph_of(transfers=100)
    graph.add(first := FakeTask("0"))
    for number in range(1, 3000):
        graph.add(FakeTask(str(number)), after=keys(str(number - 1)))
    take_all(graph)
    graph.task_failed(first, error)
    ran = 0
    while graph.next_round() or not graph.idle:
        for task in take_all(graph):
            graph.done(task)
            ran += 1
    assert ran == 3000 - error.permanent


def test_after_edge_is_released_when_the_task_fails():
    graph = graph_of()
    graph.add(first := FakeTask("a"))
    graph.add(second := FakeTask("b"), after=keys("a"))
    take_all(graph)
    graph.task_failed(first, lasting())
    assert ended(graph) == {"a": "gone"}
    assert take_all(graph) == [second]


def test_each_of_several_keys_may_be_settled_on_its_own():
    graph = graph_of()
    graph.add(both := FakeTask("a", "b"))
    graph.add(for_a := FakeTask("x"), needs=keys("a"))
    graph.add(for_b := FakeTask("y"), needs=keys("b"))
    take_all(graph)
    graph.settle(both, ("a",))
    assert take_all(graph) == [for_a]
    graph.done(both)
    assert take_all(graph) == [for_b]


def test_each_of_several_keys_may_fail_on_its_own():
    graph = graph_of()
    graph.add(both := FakeTask("a", "b"))
    graph.add(FakeTask("x"), needs=keys("a"))
    graph.add(for_b := FakeTask("y"), needs=keys("b"))
    take_all(graph)
    graph.settle(both, ("a",), lasting("half"))
    graph.done(both)
    assert ended(graph) == {"x": "half"}
    assert take_all(graph) == [for_b]


def test_a_replacement_takes_the_keys_over():
    graph = graph_of()
    graph.add(parent := FakeTask("a"))
    graph.add(waiting := FakeTask("x"), needs=keys("a"))
    take_all(graph)
    graph.add(replacement := FakeTask("a"), replaces=parent)
    graph.done(parent)
    assert graph.producer(("a",))
    assert take_all(graph) == [replacement]
    graph.done(replacement)
    assert take_all(graph) == [waiting]


def test_a_failing_parent_leaves_its_replacement_alone():
    graph = graph_of()
    graph.add(parent := FakeTask("a", "b"))
    take_all(graph)
    graph.add(replacement := FakeTask("a"), replaces=parent)
    graph.task_failed(parent, lasting("b only"))
    assert ended(graph) == {"a": "b only"}  # the parent, named by its first key
    assert graph.producer(("a",))
    assert take_all(graph) == [replacement]


def test_a_task_may_run_again_in_another_lane():
    graph = graph_of()
    graph.add(task := FakeTask("a"))
    take_all(graph)
    graph.reschedule(task, Reschedule(Lane.TRANSFER))
    assert graph.take(Lane.METADATA) is None
    assert graph.take(Lane.TRANSFER) is task


def test_a_task_may_run_again_after_another():
    graph = graph_of()
    graph.add(uploader := FakeTask("a"))
    graph.add(waiter := FakeTask("b"))
    take_all(graph)
    graph.reschedule(waiter, Reschedule(Lane.METADATA, after=(("a",),)))
    assert take_all(graph) == []
    graph.done(uploader)
    assert take_all(graph) == [waiter]


def test_after_attempt_is_released_when_the_other_is_deferred():
    graph = graph_of()
    graph.add(uploader := FakeTask("a"))
    graph.add(waiter := FakeTask("b"))
    graph.add(FakeTask("c"), needs=keys("a"))
    take_all(graph)
    graph.reschedule(waiter, Reschedule(Lane.METADATA, after=(("a",),)))
    assert graph.task_failed(uploader, passing())
    assert take_all(graph) == [waiter]


def test_after_attempt_is_released_at_once_if_the_other_is_already_deferred():
    graph = graph_of()
    graph.add(uploader := FakeTask("a"))
    graph.add(waiter := FakeTask("b"))
    take_all(graph)
    graph.task_failed(uploader, passing())
    graph.reschedule(waiter, Reschedule(Lane.METADATA, after=(("a",),)))
    assert take_all(graph) == [waiter]


def test_the_counts_tell_where_tasks_are():
    graph = graph_of()
    graph.add(first := FakeTask("a"))
    graph.add(FakeTask("b"), needs=keys("a"))
    graph.add(FakeTask("c"))
    graph.take(Lane.METADATA)
    counts = graph.counts("blob")
    assert (counts.waiting, counts.ready, counts.running) == (1, 1, 1)
    graph.task_failed(first, passing())
    assert graph.counts("blob").waiting == 2
    assert graph.running == 0


def test_counts_return_to_zero():
    graph = graph_of()
    for kind in KINDS:
        graph.add(FakeTask(kind, kind=kind))
    for task in take_all(graph):
        graph.done(task)
    assert all(graph.counts(kind) == type(graph.counts(kind))() for kind in KINDS)
    assert graph.idle


def test_abandon_yields_every_unfinished_task():
    graph = graph_of()
    graph.add(FakeTask("a", "b"))
    graph.add(FakeTask("c"), needs=keys("a"))
    graph.add_lazy(iter([FakeTask("d", kind="image")]))
    assert [str(task) for task in graph.abandon()] == ["a", "c", "d"]


def test_held_back_tasks_resume_without_a_further_capacity_event():
    graph, place, shut = graph_of(), Repository("registry.example", "app"), True
    graph.throttled = lambda _place: "an account" if shut else None
    for number in range(10):
        graph.add(FakeTask(str(number), repositories=[place]))
    assert take_all(graph) == []
    shut = False
    graph.resume("an account", 2)
    done = 0
    while taken := take_all(graph):
        for task in taken:
            graph.done(task)
            done += 1
    assert done == 10


def test_transfer_lane_opens_images_only_if_it_has_no_other_work():
    graph = graph_of()
    graph.add_lazy(iter([FakeTask(str(number), kind="image") for number in range(3)]))
    graph.add(first := FakeTask("first"))
    assert not graph.has_work(Lane.TRANSFER)
    assert graph.take(Lane.TRANSFER) is None
    assert graph.take(Lane.METADATA) is first
    assert graph.has_work(Lane.TRANSFER)
    assert str(graph.take(Lane.TRANSFER)) == "0"
    graph.reschedule(first, Reschedule(Lane.TRANSFER))
    assert graph.take(Lane.TRANSFER) is first
    assert graph.take(Lane.TRANSFER) is None
    graph.done(first)
    assert str(graph.take(Lane.TRANSFER)) == "1"
