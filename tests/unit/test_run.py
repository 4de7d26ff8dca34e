"""A run as its caller sees it: the first and the last event, and the outcome."""

from collections.abc import AsyncIterator

import pytest

from syncer.demo import MemoryRegistry
from syncer.demo.images import make_image, make_layer
from syncer.events import RunFinished, RunStarted
from syncer.rules.shard import Shard
from tests.support.wire import Net, refuse

LAYER = make_layer({"a": b"b"})


@pytest.fixture
async def net() -> AsyncIterator[Net]:
    async with MemoryRegistry() as source, MemoryRegistry() as destination:
        for tag in ("1", "2"):
            make_image(source.store, "app", tag, layers=[LAYER], annotations={"tag": tag})
        yield Net({"source": source, "destination": destination})


def bounds(outcome):
    return outcome.told.events[0], outcome.told.events[-1]


async def test_run_reports_its_start_and_end(net):
    outcome = await net.sync({"source/app": "destination/app"})
    first, last = bounds(outcome)
    assert first == RunStarted(outcome.result.run_id, "cli", 1)
    assert isinstance(last, RunFinished)
    assert (last.run_id, last.trigger, last.outcome) == (outcome.result.run_id, "cli", "success")
    assert last.seconds == outcome.result.seconds > 0


async def test_a_dry_run_says_that_it_is_one(net):
    first, _last = bounds(await net.sync({"source/app": "destination/app"}, dry_run=True))
    assert first.dry_run


async def test_a_share_says_which_it_is(net):
    first, _last = bounds(await net.sync({"source/app": "destination/app"}, shard=Shard(0, 2)))
    assert first.shard == "0/2"


async def test_two_runs_have_two_names(net):
    runs = [net.run({"source/app": "destination/app"})[0] for _ in range(2)]
    assert runs[0].run_id != runs[1].run_id


async def test_no_rules_are_a_success(net):
    outcome = await net.sync({})
    assert outcome.result.outcome == "success"
    assert outcome.counts == (0, 0, 0)
    assert len(outcome.told.events) == 2


@pytest.mark.parametrize(("where", "expected"), [("/nowhere", "success"), ("/1", "partial"), ("", "failure")])
async def test_the_outcome_is_what_came_of_the_images(net, where, expected):
    refuse(net.registries["destination"], "PUT manifest", 403, where=where)
    outcome = await net.sync({"source/app": "destination/app"})
    assert outcome.result.outcome == expected
    assert bounds(outcome)[1].outcome == expected


async def test_images_that_are_there_make_a_failure_partial(net):
    await net.sync({"source/app:1": "destination/app"})
    outcome = await net.sync({"source/app:1": "destination/app", "source/app:gone": "destination/gone"})
    assert outcome.result.outcome == "partial"
    assert outcome.counts == (0, 1, 1)


async def test_a_stop_after_the_end_changes_nothing(net):
    run, recorder = net.run({"source/app": "destination/app"})
    outcome = await net.finish(run, recorder)
    run.stop()
    assert outcome.result.outcome == "success"
    assert not run.stopping


async def test_every_image_is_reported_once(net):
    refuse(net.registries["destination"], "PUT manifest", 403, where="/1")
    rules = {
        "source/app": "destination/app",
        "source/gone": "destination/gone",
        "source/app:1,gone": "destination/other",
    }
    outcome = await net.sync(rules)
    told = [*outcome.synced, *outcome.skipped, *outcome.failed]
    assert len({(event.rule.number, event.destination) for event in told}) == len(told) == 5
