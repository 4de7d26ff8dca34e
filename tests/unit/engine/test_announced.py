"""Tags that a registry announces: they go ahead of waiting work, and cost little if nothing has changed."""

import pytest

from syncer.demo.images import make_image, make_layer
from syncer.engine.task import Lane, Priority
from syncer.events import ImageStarted, ImageSynced
from syncer.oci.descriptor import Descriptor
from syncer.run import Announced
from tests.support.wire import kinds
from tests.unit.engine.fake_task import FakeTask, graph_of, keys, take_all


def image(registry, repository, tag, text=None):
    layer = make_layer({tag: (text or f"{repository}:{tag}").encode()})
    return make_image(registry.store, repository, tag, layers=[layer])


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


class TestAnnouncedTags:
    async def test_announced_tag_is_copied_without_a_listing(self, net, source, destination):
        image(source, "app", "1")
        new = image(source, "app", "2")
        outcome = await net.sync({"source/app": "destination/app"}, announced={"2": new.digest})
        assert [str(each.source.tag) for each in outcome.synced] == ["2"]
        assert "GET tags" not in {**kinds(source), **kinds(destination)}

    async def test_repeated_event_costs_one_head(self, net, source, destination):
        found = image(source, "app", "1")
        rules = {"source/app": "destination/app"}
        await net.sync(rules)
        net.forget()
        outcome = await net.sync(rules, announced={"1": found.digest})
        assert outcome.counts == (0, 1, 0)
        assert kinds(destination) == {"HEAD manifest": 1}
        assert kinds(source) == {}

    async def test_late_event_does_not_bring_an_old_image_back(self, net, source, destination):
        rules = {"source/app": "destination/app"}
        old = image(source, "app", "1", "old")
        new = image(source, "app", "1", "new")
        await net.sync(rules)
        outcome = await net.sync(rules, announced={"1": old.digest})
        assert outcome.counts == (0, 1, 0)
        assert destination.store.digest("app", "1") == new.digest

    async def test_renamed_tag_keeps_its_place(self, net, source, destination):
        for tag in ("1", "2"):
            image(source, "app", tag)
        outcome = await net.sync({"source/app:1,2": "destination/app:one,two"}, announced={"2": None})
        assert [str(each.destination.tag) for each in outcome.synced] == ["two"]
        outcome = await net.sync({"source/app:/^[12]$/": "destination/other:one,two"}, announced={"2": None})
        assert [str(each.destination.tag) for each in outcome.synced] == ["two"]

    async def test_vanished_tag_fails_alone(self, net, source):
        image(source, "app", "1")
        outcome = await net.sync({"source/app": "destination/app"}, announced={"1": None, "2": None})
        assert outcome.counts == (1, 0, 1)
        assert outcome.failed[0].failure.kind == "not_found"

    async def test_earlier_rule_wins_a_shared_tag(self, net, source):
        for repository in ("a", "b"):
            image(source, repository, "1")
        outcome = await net.sync(
            {"source/a": "destination/x", "source/b": "destination/x"}, announced={"1": None}
        )
        assert [each.source.repository.path for each in outcome.synced] == ["a"]
        assert [each.failure.kind for each in outcome.failed] == ["conflict"]

    async def test_announced_image_overtakes_waiting_images(self, net, source, destination):
        """Counted by images, not by time: at most those overtake it that were open when the event came."""
        for number in range(400):
            image(source, "many", str(number))
        pushed = image(source, "app", "1")
        rules = {"source/many": "destination/many", "source/app:1": "destination/app"}
        order = []

        def heard(event):
            if isinstance(event, ImageSynced):
                order.append(event.source.repository.path)
                if len(order) == 20:
                    run.announce([Announced(app, {"1": pushed.digest})])

        run, recorder = net.run({"source/many": "destination/many"}, heard=heard)
        (app,) = [rule for rule in net.run(rules)[0]._rules if rule.source.path == "app"]
        outcome = await net.finish(run, recorder)
        assert outcome.counts == (401, 0, 0)
        assert order.index("app") < 60

    async def test_tag_that_the_run_copies_already_is_looked_at_again(self, net, source, destination):
        """The tag moves after its image was fetched: the event must not be lost."""
        image(source, "app", "1", "old")
        announced: list[Descriptor] = []

        def heard(event):
            if isinstance(event, ImageStarted) and not announced:
                announced.append(image(source, "app", "1", "new"))
                run.announce([Announced(event.rule, {"1": announced[0].digest})])

        run, recorder = net.run({"source/app": "destination/app"}, heard=heard)
        outcome = await net.finish(run, recorder)
        assert outcome.counts == (2, 0, 0)
        assert destination.store.digest("app", "1") == announced[0].digest

    async def test_rule_that_joins_a_run_is_copied_by_it(self, net, source):
        image(source, "app", "1")
        image(source, "other", "1")
        (other,) = net.run({"source/other": "destination/other"})[0]._rules

        def heard(event):
            if isinstance(event, ImageSynced) and event.source.repository.path == "app":
                run.add_rules([other])

        run, recorder = net.run({"source/app": "destination/app"}, heard=heard)
        outcome = await net.finish(run, recorder)
        assert [each.source.repository.path for each in outcome.synced] == ["app", "other"]

    async def test_narrowed_run_copies_the_matching_tags_of_each_rule(self, net, source):
        for tag in ("1.0", "1.1", "2.0"):
            image(source, "app", tag)
        rules = {"source/app": "destination/app", "source/app:2.0": "destination/two"}
        outcome = await net.sync(rules, tags=["1.*"])
        assert sorted(str(each.destination.tag) for each in outcome.synced) == ["1.0", "1.1"]
