"""The run in progress, as it is told to whoever watches: bounded for each client, however slow it reads."""

import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import anyio
import msgspec

from syncer.engine.graph import TaskGraph
from syncer.engine.task import KINDS
from syncer.events import ImageFailed, ImageSynced, Observer, RunFinished, RunStarted
from syncer.observe.progress.run_progress import RunProgress
from syncer.observe.report import BLOB_OUTCOMES
from syncer.oci.digest import Digest
from syncer.state.history import utc

TICK_SECONDS = 0.25
"""How often progress is told at most."""
MAX_CLIENTS = 32
_MAX_WAITING = 256
"""Events that wait for one client. The oldest are dropped."""
_MAX_TRANSFERS = 32

Document = dict[str, Any]


class TooManyClients(Exception):
    """No further stream is opened."""


class Client:
    """What one open stream has not been sent yet."""

    def __init__(self) -> None:
        self._events: deque[bytes] = deque(maxlen=_MAX_WAITING)
        self._progress: bytes | None = None
        self._wake = anyio.Event()
        self.closed = False

    def put(self, event: bytes) -> None:
        self._events.append(event)
        self._wake.set()

    def put_progress(self, event: bytes) -> None:
        """Only the latest is of interest."""
        self._progress = event
        self._wake.set()

    def close(self) -> None:
        self.closed = True
        self._wake.set()

    async def take(self, *, patience: float) -> bytes:
        """All that waits; empty after `patience` seconds of silence, and at the end."""
        with anyio.move_on_after(patience):
            await self._wake.wait()
        if not self.closed:
            self._wake = anyio.Event()
        text = b"".join(self._events) + (self._progress or b"")
        self._events.clear()
        self._progress = None
        return text


class Live(Observer):
    """The run in progress: a picture of it, and the streams that show it."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._progress_now = RunProgress(clock)
        self._graph: TaskGraph | None = None
        self._run: Document | None = None
        self._clients: set[Client] = set()
        self._closed = False

    # --- taking events --------------------------------------------------------------------------------------------

    def attach_graph(self, graph: TaskGraph | None) -> None:
        """Read the counts of tasks from there."""
        self._graph = graph

    def notify(self, event: object) -> None:
        self._progress_now.notify(event)
        super().notify(event)

    def on_run_started(self, event: RunStarted) -> None:
        self._run = {"id": event.run_id, "trigger": event.trigger, "started": utc(time.time())}
        self._tell("run", self._run | {"finished": None, "outcome": None})

    def on_run_finished(self, event: RunFinished) -> None:
        last = _event("progress", self.progress())
        for client in self._clients:
            # Before the news that it is over, not after it.
            client.put(last)
        run, self._run = self._run or {}, None
        self._progress_now = RunProgress(self._clock)
        self._tell("run", run | {"finished": utc(time.time()), "outcome": event.outcome})
        self._tell_progress()

    def on_image_synced(self, event: ImageSynced) -> None:
        if self._clients:
            self._tell("image", _image(event) | {"outcome": "synced", "bytes": event.nbytes})

    def on_image_failed(self, event: ImageFailed) -> None:
        if self._clients:
            error = msgspec.structs.asdict(event.failure)
            self._tell("image", _image(event) | {"outcome": "failed", "error": error})

    # --- looking --------------------------------------------------------------------------------------------------

    def progress(self) -> Document | None:
        """The run as it stands, in the form of docs/api.md; None where there is none."""
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

    # --- telling --------------------------------------------------------------------------------------------------

    @contextmanager
    def client(self) -> Iterator[Client]:
        """One more stream. It begins with how things stand. Raises `TooManyClients`."""
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
        """Tell progress for as long as the daemon runs."""
        while True:
            await anyio.sleep(TICK_SECONDS)
            if self._run is not None:
                self._tell_progress()

    def close(self) -> None:
        """End all streams, and take no more."""
        self._closed = True
        for client in self._clients:
            client.close()

    def _tell_progress(self) -> None:
        if self._clients:
            event = _event("progress", self.progress())
            for client in self._clients:
                client.put_progress(event)

    def _tell(self, name: str, data: Document) -> None:
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
