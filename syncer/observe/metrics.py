"""Prometheus metrics of runs: counted here, written as text, to a file for node_exporter or to a Pushgateway.

There is an event for every request: the children of a metric are looked up in a cache. Series begin with their first
value.
"""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from functools import cache, partial
from pathlib import Path
from typing import Literal, Protocol

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from syncer import __version__
from syncer.events import (
    BlobCompleted,
    BytesMoved,
    ConcurrencyChanged,
    ImageFailed,
    ImageSkipped,
    ImageSynced,
    Observer,
    RateLimitSeen,
    RequestRetried,
    RequestSent,
    RunFinished,
    RunStarted,
    TaskEnded,
)
from syncer.observe.files import write_beside
from syncer.observe.pushing import PushFailed, push_metrics

__all__ = ["CONTENT_TYPE", "MetricsObserver", "PushFailed"]

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
"""What `render` gives."""

disable_created_metrics()  # type: ignore[no-untyped-call]

TaskKind = Literal["tags", "image", "blob", "manifest"]
_KINDS: tuple[TaskKind, ...] = ("tags", "image", "blob", "manifest")
_LAST_SUCCESS = "syncer_run_last_success_timestamp_seconds"
_LAST_COMPLETION = "syncer_run_last_completion_timestamp_seconds"
_MOMENTS = {
    _LAST_SUCCESS: "When the last run ended in which no image failed.",
    _LAST_COMPLETION: "When the last run ended that was not interrupted.",
    "syncer_config_last_reload_successful": "Whether the files could be read the last time.",
    "syncer_config_last_reload_timestamp_seconds": "When the files were read the last time.",
}
_RUN_OUTCOMES = ("success", "partial", "failure", "interrupted")
_RUN_SECONDS = (1, 5, 15, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 14400, 28800)
_REQUEST_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class TaskCounts(Protocol):
    """Tasks of one kind that are in a graph now."""

    waiting: int
    ready: int
    running: int


class Tasks(Protocol):
    """The part of a task graph that metrics look at."""

    def counts(self, kind: TaskKind, /) -> TaskCounts: ...


class MetricsObserver(Observer, Collector):
    """Counts what happens in one run, or in all runs of a daemon. `now` gives Unix time."""

    def __init__(self, *, now: Callable[[], float] = time.time) -> None:
        super().__init__()
        self._now = now
        self._tasks: Tasks | None = None
        self._shows_tasks = False
        self._dry_run = False
        self._moments: dict[str, Gauge] = {}
        self.registry = CollectorRegistry()
        # `syncer_tasks` and `syncer_tasks_total` are both in use. prometheus_client takes them for one name, unless
        # a collector of our own gives the gauge.
        self.registry.register(self)
        counter = partial(Counter, registry=self.registry)
        gauge = partial(Gauge, registry=self.registry)
        histogram = partial(Histogram, registry=self.registry)
        build = gauge("syncer_build_info", "The version that runs, as a label.", ["version"])
        build.labels(__version__).set(1)
        self._runs = cache(counter("syncer_runs_total", "Runs that ended.", ["trigger", "outcome"]).labels)
        self._run_seconds = histogram(
            "syncer_run_duration_seconds", "How long runs took.", ["outcome"], buckets=_RUN_SECONDS
        )
        self._in_progress = gauge("syncer_run_in_progress", "Whether a run goes on now.")
        self._next_run = gauge(
            "syncer_schedule_next_run_timestamp_seconds", "When a schedule is due next.", ["schedule"]
        )
        self._images = cache(
            counter(
                "syncer_images_total", "Images by how they ended.", ["outcome", "source", "destination"]
            ).labels
        )
        self._tasks_ended = cache(
            counter("syncer_tasks_total", "Tasks that ended.", ["kind", "outcome"]).labels
        )
        self._blobs = cache(
            counter(
                "syncer_blobs_total",
                "Blobs by the way they got to their repository.",
                ["outcome", "destination"],
            ).labels
        )
        self._bytes = cache(
            counter(
                "syncer_blob_bytes_total",
                "Bytes of blobs over the wire.",
                ["direction", "registry"],
            ).labels
        )
        self._requests = cache(
            counter(
                "syncer_http_requests_total",
                "Requests to registries; status 0 is a request that broke off.",
                ["registry", "method", "endpoint", "status"],
            ).labels
        )
        self._request_seconds = cache(
            histogram(
                "syncer_http_request_duration_seconds",
                "Time until a registry's answer began.",
                ["registry", "endpoint"],
                buckets=_REQUEST_SECONDS,
            ).labels
        )
        self._retries = counter(
            "syncer_http_retries_total", "Requests that were sent again.", ["registry", "reason"]
        )
        self._skipped_runs = counter(
            "syncer_runs_skipped_total", "Runs that were due, and not begun.", ["reason"]
        )
        self._remaining = gauge(
            "syncer_rate_limit_remaining", "Requests that a registry still allows.", ["registry", "account"]
        )
        self._limit = gauge("syncer_concurrency_limit", "Requests that may run at once.", ["registry"])

    # --- taking events --------------------------------------------------------------------------------------------

    def on_run_started(self, event: RunStarted) -> None:
        self._dry_run = event.dry_run
        self._in_progress.set(1)
        for outcome in _RUN_OUTCOMES:
            # A counter that begins with its first event hides that event from `increase()`.
            self._runs(event.trigger, outcome)

    def on_run_finished(self, event: RunFinished) -> None:
        self._in_progress.set(0)
        if self._dry_run:
            return  # nothing was brought anywhere: no alert may be silenced by it
        self._runs(event.trigger, event.outcome).inc()
        self._run_seconds.labels(event.outcome).observe(event.seconds)
        now = self._now()
        if event.outcome != "interrupted":
            self._export(_LAST_COMPLETION, now)
        if event.outcome == "success":
            self._export(_LAST_SUCCESS, now)

    def on_image_synced(self, event: ImageSynced) -> None:
        self._count_image("synced", event)

    def on_image_skipped(self, event: ImageSkipped) -> None:
        self._count_image("skipped", event)

    def on_image_failed(self, event: ImageFailed) -> None:
        self._count_image("failed", event)

    def _count_image(self, outcome: str, event: ImageSynced | ImageSkipped | ImageFailed) -> None:
        if not self._dry_run:
            self._images(outcome, event.source.repository.host, event.destination.repository.host).inc()

    def on_blob_completed(self, event: BlobCompleted) -> None:
        if not self._dry_run:
            self._blobs(event.outcome, event.destination.host).inc()

    def on_bytes_moved(self, event: BytesMoved) -> None:
        if not self._dry_run and event.content == "blob":
            self._bytes(event.direction, event.registry).inc(event.nbytes)

    def on_task_ended(self, event: TaskEnded) -> None:
        self._tasks_ended(event.kind, event.outcome).inc()

    def on_request_sent(self, event: RequestSent) -> None:
        self._requests(event.registry, event.method, event.endpoint, event.status).inc()
        self._request_seconds(event.registry, event.endpoint).observe(event.seconds)

    def on_request_retried(self, event: RequestRetried) -> None:
        self._retries.labels(event.registry, event.reason).inc()

    def on_rate_limit_seen(self, event: RateLimitSeen) -> None:
        self._remaining.labels(event.registry, event.account).set(event.remaining)

    def on_concurrency_changed(self, event: ConcurrencyChanged) -> None:
        self._limit.labels(event.registry).set(event.limit)

    # --- being told what is no event ------------------------------------------------------------------------------

    def attach_graph(self, graph: Tasks | None) -> None:
        """Read `syncer_tasks` from the graph of the run in progress; None between runs, when it is all zeros."""
        self._tasks = graph
        self._shows_tasks = True

    def set_reload(self, *, successful: bool) -> None:
        """The files were read just now; `successful` if they are in force."""
        self._export("syncer_config_last_reload_successful", successful)
        self._export("syncer_config_last_reload_timestamp_seconds", self._now())

    def set_next_runs(self, due: Mapping[str, float]) -> None:
        """When each schedule is due next, in Unix time. Schedules that are not named are no more."""
        self._next_run.clear()
        for schedule, when in due.items():
            self._next_run.labels(schedule).set(when)

    def count_skipped_run(self, reason: Literal["overlap", "locked"]) -> None:
        self._skipped_runs.labels(reason).inc()

    def restore(self, *, succeeded: float | None, completed: float | None) -> None:
        """When the last run succeeded and when one ended, in Unix time, as known from before this process started.

        An alert must not be silenced by a restart. What this process knows itself stays.
        """
        for name, moment in ((_LAST_SUCCESS, succeeded), (_LAST_COMPLETION, completed)):
            if moment is not None and name not in self._moments:
                self._export(name, moment)

    def _export(self, name: str, value: float) -> None:
        """Set a gauge of `_MOMENTS`, which is exported from its first value on."""
        if name not in self._moments:
            self._moments[name] = Gauge(name, _MOMENTS[name], registry=self.registry)
        self._moments[name].set(value)

    # --- telling --------------------------------------------------------------------------------------------------

    def collect(self) -> Iterator[Metric]:
        """The tasks that are in the graph now, for prometheus_client."""
        if not self._shows_tasks:
            return
        family = GaugeMetricFamily("syncer_tasks", "Tasks of the run in progress.", labels=("kind", "state"))
        for kind in _KINDS:
            counts = self._tasks.counts(kind) if self._tasks else None
            for state in ("waiting", "ready", "running"):
                family.add_metric((kind, state), getattr(counts, state, 0))
        yield family

    def render(self) -> bytes:
        """Everything in Prometheus' text format."""
        return generate_latest(self.registry)

    def write_textfile(self, path: Path) -> None:
        """Write a file for node_exporter's textfile collector. Raises `OSError`.

        When the last good run was stays known: this run says so itself, or what the old file says is carried over.
        """
        self.restore(succeeded=_value_in(path, _LAST_SUCCESS), completed=_value_in(path, _LAST_COMPLETION))
        write_beside(path, self.render())

    def push(
        self, url: str, *, job: str = "image-syncer", shard: str | None = None, timeout: float = 10.0
    ) -> None:
        """Push everything to the Pushgateway at `url`, within `timeout` seconds. Raises `PushFailed`.

        It is added to what is there (POST), so that a failed run leaves the time of the last success alone.
        """
        grouping = {} if shard is None else {"shard": shard}
        push_metrics(url, self.registry, job=job, grouping=grouping, timeout=timeout)


def _value_in(path: Path, name: str) -> float | None:
    """The value of a metric without labels in an earlier file; None if there is none that makes sense."""
    with suppress(OSError, ValueError):
        if path.is_file():
            for line in path.read_text().splitlines():
                word, _, value = line.partition(" ")
                if word == name and math.isfinite(number := float(value)):
                    return number
    return None
