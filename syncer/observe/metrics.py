"""Prometheus metrics of runs: for a scrape, a file for node_exporter, or a Pushgateway.

There is an event for every request, so the children of a metric are cached. A series exists from its first value on.
"""

import math
import time
from collections import Counter as Counts
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
    PruneFailed,
    RateLimitSeen,
    RequestRetried,
    RequestSent,
    RunFinished,
    RunStarted,
    TagPruned,
    TaskEnded,
)
from syncer.observe.files import write_beside
from syncer.observe.pushing import PushFailed, push_metrics
from syncer.observers import Observer

__all__ = ["CONTENT_TYPE", "MetricsObserver", "PushFailed"]

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
"""The media type of what `render` returns."""

disable_created_metrics()  # type: ignore[no-untyped-call]

TaskKind = Literal["tags", "image", "blob", "manifest"]
_KINDS: tuple[TaskKind, ...] = ("tags", "image", "blob", "manifest")
_LAST_SUCCESS = "syncer_run_last_success_timestamp_seconds"
_LAST_COMPLETION = "syncer_run_last_completion_timestamp_seconds"
_MOMENTS = {
    _LAST_SUCCESS: "Time when the last run without failed images ended.",
    _LAST_COMPLETION: "Time when the last run that was not interrupted ended.",
    "syncer_config_last_reload_successful": "Whether the last configuration reload succeeded.",
    "syncer_config_last_reload_timestamp_seconds": "Time of the last configuration reload.",
}
_RUN_OUTCOMES = ("success", "partial", "failure", "interrupted")
_RUN_SECONDS = (1, 5, 15, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 14400, 28800)
_REQUEST_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class TaskCounts(Protocol):
    """Tasks of one kind that are currently in a graph."""

    waiting: int
    ready: int
    running: int


class Tasks(Protocol):
    """The part of a task graph that metrics use."""

    def counts(self, kind: TaskKind, /) -> TaskCounts: ...


class MetricsObserver(Observer, Collector):
    """Counts the events of one run, or of all runs of a daemon. `now` returns Unix time in seconds."""

    def __init__(self, *, now: Callable[[], float] = time.time) -> None:
        super().__init__()
        self._now = now
        self._tasks: Tasks | None = None
        self._shows_tasks = False
        self._lag: Callable[[], Mapping[str, float]] | None = None
        self._dry_run = False
        self._moments: dict[str, Gauge] = {}
        self.registry = CollectorRegistry()
        # prometheus_client treats `syncer_tasks` and `syncer_tasks_total` as the same name, so a custom collector
        # exports the gauge.
        self.registry.register(self)
        counter = partial(Counter, registry=self.registry)
        gauge = partial(Gauge, registry=self.registry)
        histogram = partial(Histogram, registry=self.registry)
        build = gauge("syncer_build_info", "Version of image-syncer, as a label.", ["version"])
        build.labels(__version__).set(1)
        self._runs = cache(
            counter("syncer_runs_total", "Number of finished runs.", ["trigger", "outcome"]).labels
        )
        self._run_seconds = histogram(
            "syncer_run_duration_seconds", "Duration of runs.", ["outcome"], buckets=_RUN_SECONDS
        )
        self._in_progress = gauge("syncer_run_in_progress", "Whether a run is in progress.")
        self._next_run = gauge(
            "syncer_schedule_next_run_timestamp_seconds", "Time when a schedule is due next.", ["schedule"]
        )
        self._images = cache(
            counter(
                "syncer_images_total",
                "Number of processed images, by outcome.",
                ["outcome", "source", "destination"],
            ).labels
        )
        self._tasks_ended = cache(
            counter("syncer_tasks_total", "Number of finished tasks.", ["kind", "outcome"]).labels
        )
        self._blobs = cache(
            counter(
                "syncer_blobs_total",
                "Number of blobs, by how they got to their repository.",
                ["outcome", "destination"],
            ).labels
        )
        self._bytes = cache(
            counter(
                "syncer_blob_bytes_total",
                "Bytes of blobs transferred.",
                ["direction", "registry"],
            ).labels
        )
        self._requests = cache(
            counter(
                "syncer_http_requests_total",
                "Number of requests to registries. Status 0 means no response.",
                ["registry", "method", "endpoint", "status"],
            ).labels
        )
        self._request_seconds = cache(
            histogram(
                "syncer_http_request_duration_seconds",
                "Time until a registry's response begins.",
                ["registry", "endpoint"],
                buckets=_REQUEST_SECONDS,
            ).labels
        )
        self._retries = counter(
            "syncer_http_retries_total", "Number of retried requests.", ["registry", "reason"]
        )
        self._skipped_runs = counter(
            "syncer_runs_skipped_total", "Number of runs that were due but not started.", ["reason"]
        )
        self._hook_events = counter(
            "syncer_events_total", "Number of events that registries sent.", ["kind", "outcome"]
        )
        self._remaining = gauge(
            "syncer_rate_limit_remaining",
            "Number of requests that a registry still allows.",
            ["registry", "account"],
        )
        self._limit = gauge("syncer_concurrency_limit", "Limit of concurrent requests.", ["registry"])
        self._drifted = gauge(
            "syncer_images_drifted",
            "Number of images in the last run that differ from their source and are not overwritten.",
            ["destination"],
        )
        self._drift_counts: Counts[str] = Counts()
        self._pruned = cache(
            counter("syncer_tags_pruned_total", "Number of removed tags.", ["destination"]).labels
        )
        self._prune_failures = cache(
            counter(
                "syncer_prune_failures_total", "Number of tags that could not be removed.", ["destination"]
            ).labels
        )

    # --- taking events --------------------------------------------------------------------------------------------

    def on_run_started(self, event: RunStarted) -> None:
        self._dry_run = event.dry_run
        self._drift_counts.clear()
        self._in_progress.set(1)
        # Start the counters at 0: `increase()` ignores the first value of a series.
        for outcome in _RUN_OUTCOMES:
            self._runs(event.trigger, outcome)
        if event.trigger != "cli":
            for reason in ("overlap", "locked"):
                self._skipped_runs.labels(reason)

    def on_run_finished(self, event: RunFinished) -> None:
        self._in_progress.set(0)
        if self._dry_run:
            return  # a dry run copies nothing, so it must not silence an alert
        self._runs(event.trigger, event.outcome).inc()
        self._run_seconds.labels(event.outcome).observe(event.seconds)
        now = self._now()
        if event.outcome != "interrupted":
            self._export(_LAST_COMPLETION, now)
            for destination, count in self._drift_counts.items():
                self._drifted.labels(destination).set(count)
        if event.outcome == "success":
            self._export(_LAST_SUCCESS, now)

    def on_tag_pruned(self, event: TagPruned) -> None:
        if not self._dry_run:
            self._pruned(event.destination.repository.host).inc()

    def on_prune_failed(self, event: PruneFailed) -> None:
        self._prune_failures(event.destination.repository.host).inc()

    def on_image_synced(self, event: ImageSynced) -> None:
        self._count_image("synced", event)
        self._drift_counts[event.destination.repository.host] += 0

    def on_image_skipped(self, event: ImageSkipped) -> None:
        self._count_image("skipped", event)
        self._drift_counts[event.destination.repository.host] += event.drift

    def on_image_failed(self, event: ImageFailed) -> None:
        self._count_image("failed", event)

    def _count_image(self, outcome: str, event: ImageSynced | ImageSkipped | ImageFailed) -> None:
        if self._dry_run:
            return
        host = event.destination.repository.host
        self._images(outcome, event.source.repository.host, host).inc()
        if event.rule.prune is not None:
            # Start the counters at 0 before the first removal: `increase()` ignores the first value of a series.
            self._pruned(host)
            self._prune_failures(host)

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

    # --- values that have no event --------------------------------------------------------------------------------

    def attach_graph(self, graph: Tasks | None) -> None:
        """Set the graph from which `syncer_tasks` is read. None is for the time between runs: all values are 0."""
        self._tasks = graph
        self._shows_tasks = True

    def set_reload(self, *, successful: bool) -> None:
        """Record a configuration reload at the current time, and whether it succeeded."""
        self._export("syncer_config_last_reload_successful", successful)
        self._export("syncer_config_last_reload_timestamp_seconds", self._now())

    def set_next_runs(self, due: Mapping[str, float]) -> None:
        """Set when each schedule is due next, in Unix time. Other schedules are removed."""
        self._next_run.clear()
        for schedule, when in due.items():
            self._next_run.labels(schedule).set(when)

    def set_incomplete(self, images: Mapping[str, int]) -> None:
        """Set how many images an audit found to be incomplete, by destination registry. Call it once."""
        gauge = Gauge(
            "syncer_images_incomplete",
            "Number of images that the audit found to be incomplete.",
            ["destination"],
            registry=self.registry,
        )
        for destination, count in images.items():
            gauge.labels(destination).set(count)

    def count_skipped_run(self, reason: Literal["overlap", "locked"]) -> None:
        self._skipped_runs.labels(reason).inc()

    def count_event(self, kind: str, outcome: Literal["taken", "ignored", "refused"]) -> None:
        self._hook_events.labels(kind, outcome).inc()

    def restore(self, *, succeeded: float | None, completed: float | None) -> None:
        """Set when a run last succeeded and last ended before this process started, in Unix time.

        This keeps alerts working across restarts. Values of this process are not overwritten.
        """
        for name, moment in ((_LAST_SUCCESS, succeeded), (_LAST_COMPLETION, completed)):
            if moment is not None and name not in self._moments:
                self._export(name, moment)

    def _export(self, name: str, value: float) -> None:
        """Set a gauge of `_MOMENTS`. It is exported from its first value on."""
        if name not in self._moments:
            self._moments[name] = Gauge(name, _MOMENTS[name], registry=self.registry)
        self._moments[name].set(value)

    # --- telling --------------------------------------------------------------------------------------------------

    def attach_lag(self, lag: Callable[[], Mapping[str, float]]) -> None:
        """Set the function that returns the longest lag in seconds of each destination registry."""
        self._lag = lag

    def collect(self) -> Iterator[Metric]:
        """Yield the gauges of the tasks in the graph and of the lag, for prometheus_client."""
        if self._lag is not None:
            behind = GaugeMetricFamily(
                "syncer_mirror_lag_seconds",
                "Longest time that a selected image has been known at its source without being complete at its destination.",
                labels=("destination",),
            )
            for destination, seconds in self._lag().items():
                behind.add_metric((destination,), seconds)
            yield behind
        if not self._shows_tasks:
            return
        family = GaugeMetricFamily("syncer_tasks", "Tasks of the run in progress.", labels=("kind", "state"))
        for kind in _KINDS:
            counts = self._tasks.counts(kind) if self._tasks else None
            for state in ("waiting", "ready", "running"):
                family.add_metric((kind, state), getattr(counts, state, 0))
        yield family

    def render(self) -> bytes:
        """Return all metrics in the Prometheus text format."""
        return generate_latest(self.registry)

    def write_textfile(self, path: Path) -> None:
        """Write a file for node_exporter's textfile collector. Raises `OSError`.

        If this run did not succeed, the time of the last success is carried over from the existing file.
        """
        self.restore(succeeded=_value_in(path, _LAST_SUCCESS), completed=_value_in(path, _LAST_COMPLETION))
        write_beside(path, self.render())

    def push(
        self, url: str, *, job: str = "image-syncer", shard: str | None = None, timeout: float = 10.0
    ) -> None:
        """Push all metrics to the Pushgateway at `url`, within `timeout` seconds. Raises `PushFailed`.

        Metrics are pushed with POST, so that a failed run does not remove the time of the last success.
        """
        grouping = {} if shard is None else {"shard": shard}
        push_metrics(url, self.registry, job=job, grouping=grouping, timeout=timeout)


def _value_in(path: Path, name: str) -> float | None:
    """Return the value of a metric without labels in a file, or None if there is no valid value."""
    with suppress(OSError, ValueError):
        if path.is_file():
            for line in path.read_text().splitlines():
                word, _, value = line.partition(" ")
                if word == name and math.isfinite(number := float(value)):
                    return number
    return None
