"""Server-sent events: what a stream tells, and that no client can hold anything up."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest

from syncer.daemon.live import MAX_CLIENTS, Client, Live, TooManyClients
from syncer.daemon.web import application
from syncer.events import RunFinished, RunStarted
from tests.unit.daemon.conftest import until_told

PATH = "/api/v1/events"


class Stream:
    """A client of the application, without a server in between."""

    def __init__(self, app) -> None:
        self.app = app
        self.status = 0
        self.headers: dict[str, str] = {}
        self.text = b""
        self.over = False
        self.gone = anyio.Event()
        self.takes = anyio.Event()
        self.takes.set()

    async def run(self) -> None:
        scope = {"type": "http", "method": "GET", "path": PATH, "query_string": b""}
        scope["headers"] = [(b"host", b"127.0.0.1:8080")]
        await self.app(scope, self._receive, self._send)
        self.over = True

    async def _receive(self):
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.headers = {name.decode(): value.decode() for name, value in message["headers"]}
        else:
            await self.takes.wait()
            self.text += message["body"]

    @property
    def events(self) -> list[tuple[str, Any]]:
        found = []
        for block in self.text.decode().split("\n\n"):
            fields = dict(
                line.split(": ", 1)
                for line in block.splitlines()
                if line.partition(": ")[0] in ("event", "data")
            )
            if "event" in fields:
                found.append((fields["event"], json.loads(fields["data"])))
        return found

    def names(self) -> list[str]:
        return [name for name, _ in self.events]


@asynccontextmanager
async def streaming(daemon, count=1) -> AsyncIterator[list[Stream]]:
    app = application(daemon.service, daemon.guard)
    streams = [Stream(app) for _ in range(count)]
    async with anyio.create_task_group() as group:
        for stream in streams:
            group.start_soon(stream.run)
        await daemon.until(lambda: all(stream.events or stream.status == 503 for stream in streams))
        yield streams
        for stream in streams:
            stream.gone.set()


async def test_stream_sends_events_from_start_to_end_of_run(daemon):
    async def work(run):
        run.synced()
        await until_told(run)
        run.failed()
        return "partial"

    daemon.script = work
    async with daemon.running() as service, streaming(daemon) as (stream,):
        assert stream.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert stream.headers["cache-control"] == "no-store"
        assert stream.events == [("progress", None)]
        run_id = await service.run_now()
        await daemon.until(lambda: stream.names().count("progress") > 1)
        daemon.runs[0].go_on.set()
        await daemon.until(lambda: stream.names()[-1:] == ["progress"] and stream.events[-1][1] is None)
    told = [event for event in stream.events if event[0] != "progress"]
    assert [(name, data.get("id"), data.get("outcome")) for name, data in told] == [
        ("run", run_id, None),
        ("image", None, "synced"),
        ("image", None, "failed"),
        ("run", run_id, "partial"),
    ]
    assert told[2][1]["error"]["kind"] == "not_found"
    last = [data for name, data in stream.events if name == "progress" and data][-1]
    assert last["images"] == {"total": 2, "done": 2, "synced": 1, "skipped": 0, "failed": 1}


async def test_progress_is_sent_at_most_four_times_a_second(daemon):
    async def busy(run):
        for _ in range(1000):
            run.synced()
            await anyio.sleep(0.0005)

    daemon.script = busy
    async with daemon.running() as service, streaming(daemon) as (stream,):
        begun = anyio.current_time()
        await service.run_now()
        await daemon.settle()
        seconds = anyio.current_time() - begun
    assert 2 <= stream.names().count("progress") <= 4 * seconds + 4


async def test_streams_end_when_daemon_stops(daemon):
    async with daemon.running(), streaming(daemon, 3) as streams:
        daemon.live.close()
        await daemon.until(lambda: all(stream.over for stream in streams))
        async with streaming(daemon) as (late,):
            assert late.status == 503


async def test_number_of_streams_is_bounded(daemon):
    async with daemon.running(), streaming(daemon, MAX_CLIENTS) as streams:
        async with streaming(daemon) as (further,):
            assert further.status == 503
            assert b"too many" in further.text
        streams[0].gone.set()
        await daemon.until(lambda: streams[0].over)
        async with streaming(daemon) as (further,):
            assert further.status == 200


async def test_client_that_reads_nothing_is_disconnected(daemon, monkeypatch):
    monkeypatch.setattr("syncer.daemon.web._STUCK_SECONDS", 0.05)
    async with daemon.running() as service, streaming(daemon) as (stuck,):
        stuck.takes = anyio.Event()
        await service.run_now()
        await daemon.settle()
        await daemon.until(lambda: stuck.over)
        assert daemon.summaries()[0]["outcome"] == "success"


async def test_event_queue_of_client_is_bounded():
    live = Live()
    with live.client() as client:
        live.notify(RunStarted("r", "api", 1))
        for number in range(10_000):
            client.put(b"%d\n" % number)
            live._send_progress()
        taken = await client.take(patience=1)
    assert taken.count(b"\n") < 1000
    assert b"\n9999\n" in taken
    assert taken.count(b"event: progress") == 1


async def test_idle_stream_sends_comments(daemon, monkeypatch):
    monkeypatch.setattr("syncer.daemon.web._ALIVE_SECONDS", 0.01)
    async with daemon.running(), streaming(daemon) as (stream,):
        await daemon.until(lambda: stream.text.count(b": still here\n\n") > 2)


async def test_a_head_request_gets_no_stream(daemon):
    async with daemon.running(), daemon.client() as client:
        answer = await client.head(PATH)
    assert answer.headers["content-type"].startswith("text/event-stream")


async def test_late_client_gets_no_earlier_events():
    live = Live()
    live.notify(RunStarted("r", "api", 1))
    with live.client() as client:
        assert b'"id":"r"' in await client.take(patience=1)
        live.notify(RunFinished("r", "api", "success", 1.0))
        assert (await client.take(patience=1)).startswith(b"event: progress")
    assert isinstance(client, Client)


def test_stream_is_refused_after_close():
    live = Live()
    live.close()
    with pytest.raises(TooManyClients), live.client():
        pass
