"""What becomes of a run, whatever happens in it."""

import gc
import json
import sqlite3
import sys
from pathlib import Path

import jsonschema
import pytest

import syncer.observe
from syncer.demo import MemoryRegistry
from syncer.demo.images import make_image, make_layer
from syncer.events import Failure
from syncer.state.history import Bounds, unpacked
from tests.unit.daemon.conftest import auth_book, until_told

SCHEMA = json.loads((Path(syncer.observe.__file__).parent / "schemas" / "report.schema.json").read_text())
TWO = {"source.example/a:1": "there.example/a", "source.example/b:1": "there.example/b"}


async def test_crashed_run_fails_and_daemon_continues(daemon, caplog):
    async def crash(run):
        run.synced()
        raise ZeroDivisionError("a defect")

    daemon.script = crash
    async with daemon.running() as service:
        first = await service.run_now()
        await daemon.settle()
        daemon.script = until_told
        second = await service.run_now()
        daemon.runs[1].go_on.set()
        await daemon.settle()
    newest, oldest = daemon.summaries()
    assert (newest["id"], newest["outcome"]) == (second, "success")
    assert (oldest["id"], oldest["outcome"]) == (first, "failure")
    assert oldest["error"] == "the run was aborted: ZeroDivisionError: a defect"
    assert oldest["finished"] is not None
    report = json.loads(b"".join(unpacked(daemon.history.report(first))))
    assert report["run"]["error"] == oldest["error"]
    jsonschema.validate(report, SCHEMA)
    assert daemon.history.rule_results()["source.example/team/app:1.0"].outcome == "success"
    assert [len(ended.complete) for ended in daemon.ended] == [0, 1]
    assert daemon.sample("syncer_runs_total", trigger="api", outcome="failure") == 1
    assert daemon.sample("syncer_run_in_progress") == 0
    assert "was aborted" in caplog.text
    assert "ZeroDivisionError" in caplog.text


async def test_a_history_that_cannot_be_written_does_not_stop_runs(daemon, caplog):
    async with daemon.running() as service:

        def full(*_):
            raise sqlite3.OperationalError("database or disk is full")

        daemon.history.begin = daemon.history.finish = full
        await service.run_now()
        await daemon.settle()
        await service.run_now()
        await daemon.settle()
    assert [run.trigger for run in daemon.runs] == ["api", "api"]
    assert len(daemon.ended) == 2
    assert "disk is full" in caplog.text


async def test_failing_output_after_run_does_not_stop_daemon(daemon, caplog):
    def broken(_report):
        raise OSError("no space left")

    daemon.write_outcome = broken
    async with daemon.running() as service:
        await service.run_now()
        await daemon.settle()
        assert not daemon.runner.busy
    assert "no space left" in caplog.text


async def test_the_report_is_kept(daemon):
    async def work(run):
        run.synced()
        run.failed()
        return "partial"

    daemon.script = work
    async with daemon.running() as service:
        run_id = await service.run_now()
        await daemon.settle()
    report = json.loads(b"".join(unpacked(daemon.history.report(run_id))))
    assert report["run"]["outcome"] == "partial"
    assert [image["outcome"] for image in report["images"]] == ["synced", "failed"]
    assert report["totals"]["images"] == {"synced": 1, "skipped": 0, "failed": 1}
    assert daemon.summaries()[0] == report["run"] | {"totals": report["totals"]}


@pytest.mark.parametrize(
    ("tell", "outcomes"),
    [
        (lambda run: (run.synced(0), run.synced(1)), {"a": "success", "b": "success"}),
        (lambda run: (run.synced(0), run.failed(0)), {"a": "partial", "b": "success"}),
        (lambda run: run.failed(1), {"a": "success", "b": "failure"}),
        (lambda run: run.failed(1, Failure("interrupted", "stopped")), {"a": "success"}),
    ],
)
async def test_each_rule_has_its_own_outcome(daemon, tell, outcomes):
    async def work(run):
        tell(run)

    daemon.images, daemon.script = TWO, work
    async with daemon.running() as service:
        await service.run_now()
        await daemon.settle()
    found = {name[15:16]: result.outcome for name, result in daemon.history.rule_results().items()}
    assert found == outcomes


async def test_restarted_daemon_restores_last_success(daemon):
    with daemon.built():
        daemon.metrics.restore(succeeded=1000.0, completed=2000.0)
        assert daemon.sample("syncer_run_last_success_timestamp_seconds") == 1000
        assert daemon.sample("syncer_run_last_completion_timestamp_seconds") == 2000
        daemon.metrics.restore(succeeded=None, completed=None)
        assert daemon.sample("syncer_run_last_success_timestamp_seconds") == 1000


@pytest.fixture
async def app():
    """A registry in memory with one image."""
    async with MemoryRegistry(record=1) as registry:
        make_image(registry.store, "team/app", "v1", layers=[make_layer({"file": b"content"})])
        yield registry


async def test_memory_does_not_grow_over_100_runs(daemon, app):
    daemon.images = {
        f"{app.host}/team/app": f"{app.host}/copy/app",
        f"{app.host}/gone:1": f"{app.host}/gone:2",
    }
    daemon.auth = auth_book({app.host: {"plain_http": True}})
    daemon.bounds, daemon.patience = Bounds(runs=5), 120
    daemon.script = None
    blocks = []
    async with daemon.running() as service:
        for number in range(130):
            await service.run_now()
            await daemon.settle()
            daemon.ended.clear()
            if number in (29, 129):
                gc.collect()
                blocks.append(sys.getallocatedblocks())
    assert {run["outcome"] for run in daemon.summaries()} == {"partial"}
    # Python's own caches fill by a few a run. A run that is left behind has thousands.
    assert blocks[1] - blocks[0] < 10 * 100


async def test_overdue_run_is_stopped_and_logged(daemon, caplog):
    daemon.script = until_told
    async with daemon.running() as service:
        service.runner._max_seconds = 0.01
        await service.run_now()
        await daemon.until(lambda: not service.runner.busy)
    (summary,) = daemon.summaries()
    assert summary["outcome"] == "interrupted"
    assert summary["error"] == "the run exceeded --max-run-time (0.01s) and was stopped"
    assert "exceeded --max-run-time" in caplog.text


async def test_run_within_time_limit_is_not_stopped(daemon):
    async with daemon.running() as service:
        service.runner._max_seconds = 600.0
        await service.run_now()
        await daemon.settle()
    (summary,) = daemon.summaries()
    assert summary["outcome"] == "success"
    assert "error" not in summary
