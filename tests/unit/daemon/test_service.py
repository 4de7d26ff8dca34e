"""The daemon's life: when runs begin, what is skipped, how it stops."""

import logging
from contextlib import contextmanager

import anyio
import pytest

from syncer.daemon.runs import RunInProgress
from syncer.daemon.service import Plan, Stopping
from syncer.state.lock import StateLocked
from tests.unit.daemon.conftest import until_told

HOURLY = Plan(("@hourly",))
OWN = {"source.example/own:1": {"to": "there.example/own", "schedule": "30 * * * *"}}


class TestSchedules:
    async def test_runs_begin_when_they_are_due(self, daemon):
        daemon.plan = HOURLY
        async with daemon.running():
            await daemon.advance(minutes=59)
            assert daemon.triggers == []
            await daemon.advance(minutes=2)
            assert daemon.triggers == ["schedule"]
            await daemon.advance(hours=2)
        assert daemon.triggers == ["schedule"] * 3
        assert [run["outcome"] for run in daemon.summaries()] == ["success"] * 3

    async def test_rule_with_schedule_ignores_global_schedule(self, daemon):
        daemon.plan = HOURLY
        daemon.images |= OWN
        async with daemon.running():
            await daemon.advance(minutes=35)
            assert daemon.sources() == ["source.example/own:1"]
            await daemon.advance(minutes=30)
            assert daemon.sources() == ["source.example/team/app:1.0"]

    async def test_schedules_due_together_share_one_run(self, daemon):
        daemon.plan = Plan(("@hourly", "0 13 * * *"))
        daemon.images |= {"source.example/own:1": {"to": "there.example/own", "schedule": "0 * * * *"}}
        async with daemon.running():
            await daemon.advance(minutes=61)
            assert len(daemon.runs) == 1
            assert len(daemon.sources()) == 2

    async def test_missed_runs_start_once(self, daemon):
        daemon.plan = HOURLY
        async with daemon.running():
            daemon.clock.now = daemon.clock.until = daemon.clock.now.replace(day=4)
            await daemon.advance(seconds=31)
            assert daemon.triggers == ["schedule"]

    async def test_the_next_times_are_a_metric(self, daemon):
        daemon.plan = HOURLY
        async with daemon.running():
            name = "syncer_schedule_next_run_timestamp_seconds"
            before = daemon.sample(name, schedule="@hourly")
            await daemon.advance(minutes=61)
            assert daemon.sample(name, schedule="@hourly") == before + 3600

    async def test_missing_schedule_is_logged(self, daemon, caplog):
        async with daemon.running():
            await daemon.advance(days=2)
        assert daemon.runs == []
        assert "no --schedule" in caplog.text


class TestStart:
    async def test_run_on_start_starts_a_run(self, daemon):
        daemon.plan = Plan(run_on_start=True)
        daemon.images |= OWN
        async with daemon.running():
            await daemon.until(lambda: bool(daemon.runs))
            assert daemon.triggers == ["start"]
            assert daemon.sources() == ["source.example/team/app:1.0"]

    async def test_requested_run_includes_all_rules(self, daemon):
        daemon.images |= OWN
        async with daemon.running() as service:
            run_id = await service.run_now()
            await daemon.settle()
        assert daemon.runs[0].run_id == run_id == daemon.summaries()[0]["id"]
        assert len(daemon.sources()) == 2
        assert daemon.triggers == ["api"]


class TestOverlap:
    async def test_overlapping_run_is_skipped(self, daemon, caplog):
        daemon.plan, daemon.script = HOURLY, until_told
        async with daemon.running() as service:
            await daemon.advance(hours=2, minutes=1)
            assert len(daemon.runs) == 1
            assert daemon.sample("syncer_runs_skipped_total", reason="overlap") == 1
            assert "run skipped: the previous run is still in progress" in caplog.text
            daemon.runs[0].go_on.set()
            await daemon.settle()
            assert not service.queued
            await daemon.advance(hours=1)
            assert len(daemon.runs) == 2

    async def test_queued_run_starts_once_after_current_run(self, daemon, caplog):
        caplog.set_level(logging.INFO)
        daemon.plan, daemon.script = Plan(("@hourly",), overlap="queue"), until_told
        daemon.images |= OWN
        async with daemon.running() as service:
            await daemon.advance(minutes=31)
            await daemon.advance(hours=3)
            assert len(daemon.runs) == 1
            assert service.queued
            assert caplog.text.count("run queued until the current run finishes") == 1
            daemon.runs[0].go_on.set()
            await daemon.until(lambda: len(daemon.runs) == 2)
            assert len(daemon.sources()) == 2
            assert not service.queued
            assert daemon.sample("syncer_runs_skipped_total", reason="overlap") == 0
            daemon.runs[1].go_on.set()

    async def test_requested_run_is_refused_while_run_is_in_progress(self, daemon):
        daemon.script = until_told
        async with daemon.running() as service:
            await service.run_now()
            with pytest.raises(RunInProgress):
                await service.run_now()

    async def test_two_concurrent_requests_start_one_run(self, daemon):
        daemon.script = until_told
        answers: list[object] = []

        async def ask(service):
            try:
                answers.append(await service.run_now())
            except RunInProgress as error:
                answers.append(error)

        async with daemon.running() as service:
            async with anyio.create_task_group() as group:
                group.start_soon(ask, service)
                group.start_soon(ask, service)
            assert len(daemon.runs) == 1
            assert sorted(isinstance(answer, str) for answer in answers) == [False, True]

    async def test_run_is_skipped_if_state_folder_is_locked(self, daemon, caplog):
        taken = True

        @contextmanager
        def lock():
            if taken:
                raise StateLocked("another run (process 7) works with the state folder")
            yield

        daemon.plan, daemon.lock = HOURLY, lock
        async with daemon.running() as service:
            await daemon.advance(minutes=61)
            assert daemon.runs == []
            assert daemon.sample("syncer_runs_skipped_total", reason="locked") == 1
            assert "process 7" in caplog.text
            with pytest.raises(StateLocked):
                await service.run_now()
            taken = False
            await daemon.advance(hours=1)
            assert len(daemon.runs) == 1


class TestStop:
    async def test_stop_interrupts_run_gracefully(self, daemon):
        daemon.plan, daemon.script = Plan(run_on_start=True), until_told
        async with daemon.running() as service:
            await daemon.until(lambda: daemon.blocked)
            assert service.ready
            service.stop()
            assert not service.ready
        assert daemon.runs[0].stopping
        assert daemon.summaries()[0]["outcome"] == "interrupted"

    async def test_run_that_ignores_stop_is_cancelled_after_deadline(self, daemon, monkeypatch):
        async def deaf(_run):
            await anyio.sleep_forever()

        monkeypatch.setattr("syncer.daemon.service.STOP_SECONDS", 0.2)
        daemon.plan, daemon.script = Plan(run_on_start=True), deaf
        async with daemon.running():
            await daemon.until(lambda: bool(daemon.summaries()))
        assert daemon.summaries()[0]["outcome"] == "interrupted"
        assert daemon.sample("syncer_run_in_progress") == 0

    async def test_stopping_daemon_starts_no_run(self, daemon):
        daemon.plan = HOURLY
        async with daemon.running() as service:
            service.stop()
            with pytest.raises(Stopping):
                await service.run_now()

    async def test_a_run_is_cancelled_by_its_id(self, daemon):
        daemon.script = until_told
        async with daemon.running() as service:
            run_id = await service.run_now()
            assert not await service.cancel("another")
            assert await service.cancel(run_id)
            await daemon.settle()
            assert daemon.summaries()[0]["outcome"] == "interrupted"
            assert not await service.cancel(run_id)
            assert await service.run_now() != run_id
