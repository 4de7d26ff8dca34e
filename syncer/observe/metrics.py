"""Prometheus metrics of runs: counted here, written as text, to a file for node_exporter or to a Pushgateway.

Events are counted into plain dicts, since there is one for every request; prometheus_client sees them only when
somebody asks. What has no value yet is not exported at all.
"""

import math
import time
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Literal, Protocol

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
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

TaskKind = Literal["tags", "image", "blob", "manifest"]
_KINDS: tuple[TaskKind, ...] = ("tags", "image", "blob", "manifest")
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


class _Numbers:
    """Numbers of one metric, by label values."""

    def __init__(self, name: str, text: str, *labels: str) -> None:
        self.name = name
        self.text = text
        self.labels = labels
        self.values: dict[tuple[str, ...], float] = {}


class _Counter(_Numbers):
    def add(self, key: tuple[str, ...], amount: float = 1) -> None:
        self.values[key] = self.values.get(key, 0) + amount

    def family(self) -> Metric:
        family = CounterMetricFamily(self.name, self.text, labels=self.labels)
        for key, value in list(self.values.items()):
            family.add_metric(key, value)
        return family


class _Gauge(_Numbers):
    def set(self, value: float, *key: str) -> None:
        self.values[key] = value

    def family(self) -> Metric:
        family = GaugeMetricFamily(self.name, self.text, labels=self.labels)
        for key, value in list(self.values.items()):
            family.add_metric(key, value)
        return family


class _Histogram:
    """Counts by bucket, the last for what is above all bounds, and the sum."""

    def __init__(self, name: str, text: str, *labels: str, bounds: tuple[float, ...]) -> None:
        self.name = name
        self.text = text
        self.labels = labels
        self.bounds = bounds
        self.counts: dict[tuple[str, ...], list[int]] = {}
        self.sums: dict[tuple[str, ...], float] = {}

    def observe(self, value: float, key: tuple[str, ...]) -> None:
        counts = self.counts.get(key)
        if counts is None:
            counts = self.counts[key] = [0] * (len(self.bounds) + 1)
            self.sums[key] = 0.0
        counts[bisect_left(self.bounds, value)] += 1
        self.sums[key] += value

    def family(self) -> Metric:
        family = HistogramMetricFamily(self.name, self.text, labels=self.labels)
        for key, counts in list(self.counts.items()):
            buckets, below = [], 0
            for bound, count in zip((*self.bounds, math.inf), counts, strict=True):
                below += count
                buckets.append(("+Inf" if bound == math.inf else str(float(bound)), float(below)))
            family.add_metric(key, buckets, self.sums[key])
        return family


class MetricsObserver(Observer, Collector):
    """Counts what happens in one run, or in all runs of a daemon. `now` gives Unix time."""

    def __init__(self, *, now: Callable[[], float] = time.time) -> None:
        super().__init__()
        self._now = now
        self._tasks: Tasks | None = None
        self._dry_run = False
        self._build = _Gauge("syncer_build_info", "The version that runs, as a label.", "version")
        self._build.set(1, __version__)
        self._runs = _Counter("syncer_runs_total", "Runs that ended.", "trigger", "outcome")
        self._run_seconds = _Histogram(
            "syncer_run_duration_seconds", "How long runs took.", "outcome", bounds=_RUN_SECONDS
        )
        self._in_progress = _Gauge("syncer_run_in_progress", "Whether a run goes on now.")
        self._in_progress.set(0)
        self._last_success = _Gauge(
            "syncer_run_last_success_timestamp_seconds", "When the last run ended in which no image failed."
        )
        self._last_completion = _Gauge(
            "syncer_run_last_completion_timestamp_seconds",
            "When the last run ended that was not interrupted.",
        )
        self._next_run = _Gauge(
            "syncer_schedule_next_run_timestamp_seconds", "When a schedule is due next.", "schedule"
        )
        self._images = _Counter(
            "syncer_images_total", "Images by how they ended.", "outcome", "source", "destination"
        )
        self._task_states = _Gauge("syncer_tasks", "Tasks of the run in progress.", "kind", "state")
        self._tasks_ended = _Counter("syncer_tasks_total", "Tasks that ended.", "kind", "outcome")
        self._blobs = _Counter(
            "syncer_blobs_total", "Blobs by the way they got to their repository.", "outcome", "destination"
        )
        self._bytes = _Counter(
            "syncer_blob_bytes_total", "Bytes of blobs and manifests over the wire.", "direction", "registry"
        )
        self._requests = _Counter(
            "syncer_http_requests_total",
            "Requests to registries; status 0 is a request that broke off.",
            *("registry", "method", "endpoint", "status"),
        )
        self._request_seconds = _Histogram(
            "syncer_http_request_duration_seconds",
            "Time until a registry's answer began.",
            *("registry", "endpoint"),
            bounds=_REQUEST_SECONDS,
        )
        self._retries = _Counter(
            "syncer_http_retries_total", "Requests that were sent again.", "registry", "reason"
        )
        self._skipped_runs = _Counter(
            "syncer_runs_skipped_total", "Runs that were due, and not begun.", "reason"
        )
        self._remaining = _Gauge(
            "syncer_rate_limit_remaining", "Requests that a registry still allows.", "registry", "account"
        )
        self._limit = _Gauge("syncer_concurrency_limit", "Requests that may run at once.", "registry")
        self._reload_ok = _Gauge(
            "syncer_config_last_reload_successful", "Whether the files could be read the last time."
        )
        self._reloaded = _Gauge(
            "syncer_config_last_reload_timestamp_seconds", "When the files were read the last time."
        )
        self._all = [
            metric for metric in vars(self).values() if isinstance(metric, _Counter | _Gauge | _Histogram)
        ]
        self.registry = CollectorRegistry()
        self.registry.register(self)

    # --- taking events --------------------------------------------------------------------------------------------

    def on_run_started(self, event: RunStarted) -> None:
        self._dry_run = event.dry_run
        self._in_progress.set(1)
        for outcome in _RUN_OUTCOMES:
            # A counter that begins with its first event hides that event from `increase()`.
            self._runs.add((event.trigger, outcome), 0)

    def on_run_finished(self, event: RunFinished) -> None:
        self._in_progress.set(0)
        if self._dry_run:
            return  # nothing was brought anywhere: no alert may be silenced by it
        self._runs.add((event.trigger, event.outcome))
        self._run_seconds.observe(event.seconds, (event.outcome,))
        now = self._now()
        if event.outcome != "interrupted":
            self._last_completion.set(now)
        if event.outcome == "success":
            self._last_success.set(now)

    def on_image_synced(self, event: ImageSynced) -> None:
        self._count_image("synced", event)

    def on_image_skipped(self, event: ImageSkipped) -> None:
        self._count_image("skipped", event)

    def on_image_failed(self, event: ImageFailed) -> None:
        self._count_image("failed", event)

    def _count_image(self, outcome: str, event: ImageSynced | ImageSkipped | ImageFailed) -> None:
        if not self._dry_run:
            hosts = event.source.repository.host, event.destination.repository.host
            self._images.add((outcome, *hosts))

    def on_blob_completed(self, event: BlobCompleted) -> None:
        if not self._dry_run:
            self._blobs.add((event.outcome, event.destination.host))

    def on_bytes_moved(self, event: BytesMoved) -> None:
        if not self._dry_run:
            self._bytes.add((event.direction, event.registry), event.nbytes)

    def on_task_ended(self, event: TaskEnded) -> None:
        self._tasks_ended.add((event.kind, event.outcome))

    def on_request_sent(self, event: RequestSent) -> None:
        self._requests.add((event.registry, event.method, event.endpoint, str(event.status)))
        self._request_seconds.observe(event.seconds, (event.registry, event.endpoint))

    def on_request_retried(self, event: RequestRetried) -> None:
        self._retries.add((event.registry, event.reason))

    def on_rate_limit_seen(self, event: RateLimitSeen) -> None:
        self._remaining.set(event.remaining, event.registry, event.account)

    def on_concurrency_changed(self, event: ConcurrencyChanged) -> None:
        self._limit.set(event.limit, event.registry)

    # --- being told what is no event ------------------------------------------------------------------------------

    def attach_graph(self, graph: Tasks | None) -> None:
        """Read `syncer_tasks` from the graph of the run in progress; None between runs, when it is all zeros."""
        self._tasks = graph
        for kind in _KINDS:
            for state in ("waiting", "ready", "running"):
                self._task_states.set(0, kind, state)

    def set_reload(self, *, successful: bool) -> None:
        """The files were read just now; `successful` if they are in force."""
        self._reload_ok.set(successful)
        self._reloaded.set(self._now())

    def set_next_runs(self, due: Mapping[str, float]) -> None:
        """When each schedule is due next, in Unix time. Schedules that are not named are no more."""
        self._next_run.values = {(schedule,): when for schedule, when in due.items()}

    def count_skipped_run(self, reason: Literal["overlap", "locked"]) -> None:
        self._skipped_runs.add((reason,))

    # --- telling --------------------------------------------------------------------------------------------------

    def collect(self) -> Iterator[Metric]:
        """What there is now, for prometheus_client."""
        if self._tasks is not None:
            for kind in _KINDS:
                counts = self._tasks.counts(kind)
                self._task_states.set(counts.waiting, kind, "waiting")
                self._task_states.set(counts.ready, kind, "ready")
                self._task_states.set(counts.running, kind, "running")
        for metric in self._all:
            family = metric.family()
            if family.samples:
                yield family

    def render(self) -> bytes:
        """Everything in Prometheus' text format."""
        return generate_latest(self.registry)

    def write_textfile(self, path: Path) -> None:
        """Write a file for node_exporter's textfile collector. Raises `OSError`.

        When the last good run was stays known: this run says so itself, or what the old file says is carried over.
        """
        for moment in (self._last_success, self._last_completion):
            if not moment.values and (before := _value_in(path, moment.name)) is not None:
                moment.set(before)
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
