"""Server-sent events about the run in progress. The queue of each client is bounded, however slowly it reads."""

import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import anyio
import msgspec

from syncer.engine.graph import TaskGraph
from syncer.engine.task import KINDS
from syncer.events import ImageFailed, ImageSynced, RunFinished, RunStarted, TagsListed
from syncer.observe.progress.run_progress import RunProgress
from syncer.observe.report import BLOB_OUTCOMES
from syncer.observers import Observer
from syncer.oci.digest import Digest
from syncer.state.history import utc

TICK_SECONDS = 0.25
"""Seconds between two `progress` events."""
MAX_CLIENTS = 32
"""Maximum number of open streams."""
_MAX_WAITING = 256
"""Maximum number of queued events per client. The oldest ones are dropped."""
_MAX_TRANSFERS = 32

Document = dict[str, Any]


class TooManyClients(Exception):
    """`MAX_CLIENTS` streams are open, or the daemon is stopping."""


class Client:
    """The queue of events of one open stream."""

    def __init__(self) -> None:
        self._events: deque[bytes] = deque(maxlen=_MAX_WAITING)
        self._progress: bytes | None = None
        self._wake = anyio.Event()
        self.closed = False

    def put(self, event: bytes) -> None:
        self._events.append(event)
        self._wake.set()

    def put_progress(self, event: bytes) -> None:
        """Replace the queued `progress` event, if any."""
        self._progress = event
        self._wake.set()

    def close(self) -> None:
        self.closed = True
        self._wake.set()

    async def take(self, *, patience: float) -> bytes:
        """Return all queued events. Empty after `patience` seconds without events, and when the stream is closed."""
        with anyio.move_on_after(patience):
            await self._wake.wait()
        if not self.closed:
            self._wake = anyio.Event()
        text = b"".join(self._events) + (self._progress or b"")
        self._events.clear()
        self._progress = None
        return text


class Live(Observer):
    """Tracks the run in progress, and sends events about it to the open streams. `clock` returns seconds."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._progress_now = RunProgress(clock)
        self._graph: TaskGraph | None = None
        self._run: Document | None = None
        self._clients: set[Client] = set()
        self._closed = False
        self._selections: dict[str, str] = {}

    # --- observer -------------------------------------------------------------------------------------------------

    def attach_graph(self, graph: TaskGraph | None) -> None:
        """Set the graph of the run in progress, which counts its tasks."""
        self._graph = graph

    def notify(self, event: object) -> None:
        self._progress_now.notify(event)
        super().notify(event)

    def on_run_started(self, event: RunStarted) -> None:
        self._run = {"id": event.run_id, "trigger": event.trigger, "started": utc(time.time())}
        self._send("run", self._run | {"finished": None, "outcome": None})

    def on_run_finished(self, event: RunFinished) -> None:
        last = _event("progress", self.progress())
        for client in self._clients:
            # Clients get the last progress before the event that the run is finished.
            client.put(last)
        run, self._run = self._run or {}, None
        self._progress_now = RunProgress(self._clock)
        self._send("run", run | {"finished": utc(time.time()), "outcome": event.outcome})
        self._send_progress()

    def on_tags_listed(self, event: TagsListed) -> None:
        if event.steps:
            self._selections[event.rule.name] = event.steps_text

    def on_image_synced(self, event: ImageSynced) -> None:
        if self._clients:
            self._send("image", _image(event) | {"outcome": "synced", "bytes": event.nbytes})

    def on_image_failed(self, event: ImageFailed) -> None:
        if self._clients:
            error = msgspec.structs.asdict(event.failure)
            self._send("image", _image(event) | {"outcome": "failed", "error": error})

    # --- state ----------------------------------------------------------------------------------------------------

    def selection(self, rule: str) -> str | None:
        """Return what each step of `tags` left when this rule ran last; None if it has not run yet, or has no `tags`."""
        return self._selections.get(rule)

    def progress(self) -> Document | None:
        """Return the state of the run in progress, as described in docs/api.md, or None."""
        if self._run is None:
            return None
        progress_now = self._progress_now
        speed = progress_now.speed()
        left = progress_now.time_left(speed)
        counts = [self._graph.counts(kind) for kind in KINDS] if self._graph else []
        return {
            **self._run,
            "elapsed": round(progress_now.elapsed, 1),
            "round": progress_now.round,
            "images": {
                "total": max(progress_now.total, progress_now.done),
                "done": progress_now.done,
                "synced": progress_now.synced,
                "skipped": progress_now.skipped,
                "failed": progress_now.failed,
            },
            "blobs": {name: progress_now.blobs[name] for name in BLOB_OUTCOMES},
            "bytes": {
                "pulled": progress_now.nbytes["pulled"],
                "pushed": progress_now.nbytes["pushed"],
                "moved": progress_now.moved,
            },
            "rate": round(speed),
            "eta": None if left is None else round(left),
            "requests": progress_now.requests,
            "retries": progress_now.retries,
            "tasks": {
                state: sum(getattr(count, state) for count in counts)
                for state in ("waiting", "ready", "running")
            },
            "transfers": [
                {
                    "digest": str(transfer.digest),
                    "source": str(transfer.source),
                    "size": transfer.whole,
                    "moved": transfer.moved,
                    "rate": round(progress_now.speed_of(transfer)),
                }
                for transfer in progress_now.transfers[:_MAX_TRANSFERS]
            ],
            "failures": [
                {
                    "source": str(failed.source),
                    "destination": str(failed.destination),
                    "error": msgspec.structs.asdict(failed.failure),
                }
                for failed in list(progress_now.failures)
            ],
        }

    # --- streams --------------------------------------------------------------------------------------------------

    @contextmanager
    def client(self) -> Iterator[Client]:
        """Open a stream. Its first event is the current progress. Raises `TooManyClients`."""
        if self._closed or len(self._clients) >= MAX_CLIENTS:
            raise TooManyClients
        client = Client()
        client.put_progress(_event("progress", self.progress()))
        self._clients.add(client)
        try:
            yield client
        finally:
            self._clients.discard(client)

    async def tick(self) -> None:
        """Send `progress` events until cancelled."""
        while True:
            await anyio.sleep(TICK_SECONDS)
            if self._run is not None:
                self._send_progress()

    def close(self) -> None:
        """Close all streams and refuse new ones."""
        self._closed = True
        for client in self._clients:
            client.close()

    def _send_progress(self) -> None:
        if self._clients:
            event = _event("progress", self.progress())
            for client in self._clients:
                client.put_progress(event)

    def _send(self, name: str, data: Document) -> None:
        if self._clients:
            event = _event(name, data)
            for client in self._clients:
                client.put(event)


def _image(event: ImageSynced | ImageFailed) -> Document:
    digest: Digest | None = event.digest
    return {
        "source": str(event.source),
        "destination": str(event.destination),
        "digest": None if digest is None else str(digest),
        "seconds": round(event.seconds, 3),
    }


def _event(name: str, data: Document | None) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (name.encode(), msgspec.json.encode(data))
