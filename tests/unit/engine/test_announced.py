"""Tags that a registry announces: they go ahead of waiting work, and cost little if nothing has changed."""

import pytest

from syncer.demo.images import make_image, make_layer
from syncer.engine.task import Lane, Priority
from syncer.events import ImageFailed, ImageSynced
from syncer.oci.digest import Digest
from syncer.run import Announced
from tests.unit.engine.fake_task import FakeTask, graph_of, keys, take_all


def image(registry, repository, tag, text=None):
    layer = make_layer({tag: (text or f"{repository}:{tag}").encode()})
    return make_image(registry.store, repository, tag, layers=[layer])


def digest_of(found):
    return Digest.parse(str(getattr(found, "digest", found)))


class Task(FakeTask):
    def __init__(self, *names, priority=Priority.NORMAL):
        super().__init__(*names)
        self.priority = priority


def urgent(*names):
    return Task(*names, priority=Priority.URGENT)


class TestGraph:
    def test_urgent_task_is_taken_first(self):
        graph = graph_of()
        graph.add(Task("a"))
        graph.add(first := urgent("b"))
        assert graph.take(Lane.METADATA) is first

    def test_tasks_added_ahead_are_pulled_first(self):
        graph = graph_of()
        graph.add_lazy(iter([Task("a"), Task("b")]))
        graph.add_ahead(iter([first := urgent("c")]))
        assert graph.take(Lane.METADATA) is first

    def test_tasks_added_ahead_are_pulled_although_no_room_is_left(self):
        graph = graph_of(transfers=1)
        for number in range(256):
            graph.add(Task(str(number)))
        taken = take_all(graph)
        graph.add_lazy(iter([Task("lazy")]))
        assert not graph.has_work(Lane.METADATA)
        graph.add_ahead(iter([first := urgent("first")]))
        assert graph.has_work(Lane.METADATA)
        assert graph.take(Lane.METADATA) is first
        assert len(taken) == 256

    def test_lazy_task_waits_for_the_task_that_has_its_key(self):
        graph = graph_of()
        graph.add(first := Task("a"))
        take_all(graph)
        graph.add_ahead(iter([second := urgent("a"), third := urgent("a")]))
        assert take_all(graph) == []
        graph.done(first)
        assert take_all(graph) == [second]
        graph.done(second)
        assert take_all(graph) == [third]
        graph.done(third)
        assert graph.idle

    def test_lazy_task_with_taken_key_is_abandoned_too(self):
        graph = graph_of()
        graph.add(first := Task("a"))
        take_all(graph)
        graph.add_ahead(iter([second := urgent("a"), third := urgent("b")]))
        assert set(graph.abandon()) == {first, second, third}

    def test_promoted_task_overtakes_the_others(self):
        graph = graph_of()
        tasks = [Task(name) for name in "abc"]
        for task in tasks:
            graph.add(task)
        graph.add(urgent("d"), needs=keys("c"))
        graph.promote(tasks[2])
        assert graph.take(Lane.METADATA) is tasks[2]

    @pytest.mark.parametrize("normal", [True, False])
    def test_only_urgent_work_is_recognised(self, normal):
        graph = graph_of()
        graph.add(urgent("a"))
        if normal:
            graph.add_lazy(iter([Task("b")]))
        assert graph.only_urgent is not normal


async def announce(net, rules, tags, **options):
    """Run only what was announced for the first rule."""
    run, told = net.run(rules, **options)
    rule = run._rules[0]  # noqa: SLF001 - the test's own run
    run._rules = ()  # noqa: SLF001
    run._announced = [Announced(rule, tags)]  # noqa: SLF001
    await run.execute()
    return told
