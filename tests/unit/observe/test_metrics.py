"""Metrics of runs: events in, Prometheus text out."""

import math
import re
import time

import pytest
from msgspec.structs import replace
from prometheus_client.parser import text_string_to_metric_families

from syncer import __version__
from syncer.engine.graph import Counts
from syncer.events import (
    BlobCompleted,
    BytesMoved,
    ConcurrencyChanged,
    Failure,
    ImageFailed,
    ImageSkipped,
    ImageSynced,
    PruneFailed,
    RateLimitSeen,
    RequestRetried,
    RequestSent,
    RunFinished,
    RunStarted,
    SkipReason,
    TagPruned,
    TaskEnded,
)
from syncer.observe.metrics import MetricsObserver
from syncer.oci.digest import Digest
from syncer.oci.reference import Reference
from syncer.rules.prune import PruneRule
from tests.support.metrics import COMPLETION, CONTRACT, SUCCESS
from tests.support.rules import numbered

NOW = 1_800_000_000.5
DIGEST = Digest.of(b"one")
SOURCE, TO = Reference.parse("nginx:1"), Reference.parse("d.io:5000/a:1")


def observed(*events: object) -> MetricsObserver:
    observer = MetricsObserver(now=lambda: NOW)
    for event in events:
        observer.notify(event)
    return observer


def run(outcome="success", *, events=(), dry_run=False, seconds=42.0) -> tuple[object, ...]:
    return (
        RunStarted("1", "cli", 1, dry_run),
        *events,
        RunFinished("1", "cli", outcome, seconds),
    )


def samples(observer: MetricsObserver) -> dict[str, float]:
    """Each series as it is written, with its value."""
    lines = [line for line in observer.render().decode().splitlines() if not line.startswith("#")]
    return {series: float(value) for series, _, value in (line.rpartition(" ") for line in lines)}


IMAGES = (
    ImageSynced(numbered(0), SOURCE, TO, DIGEST, None, 1, 0.1),
    ImageSynced(numbered(0), SOURCE, TO, DIGEST, None, 1, 0.1),
    ImageSkipped(numbered(0), SOURCE, TO, DIGEST, SkipReason.UP_TO_DATE),
    ImageFailed(numbered(0), SOURCE, TO, Failure("timeout", "timed out")),
)
WORK = (
    *IMAGES,
    BlobCompleted("mounted", DIGEST, 5, TO.repository),
    BytesMoved("pulled", "docker.io", 100),
    BytesMoved("pulled", "docker.io", 11),
    BytesMoved("pulled", "docker.io", 7, "manifest"),
    TagPruned(numbered(0), TO, DIGEST, "no rule selects it"),
    PruneFailed(numbered(0), TO, DIGEST, Failure("forbidden", "denied")),
    TaskEnded("blob", "retried", "blob sha256:1 of nginx"),
    RequestSent("docker.io", "GET", "blob", "/v2/library/nginx/blobs/sha256:1", 200, 0.3),
    RequestSent("docker.io", "GET", "blob", "/v2/library/nginx/blobs/sha256:2", 0, 70.0),
    RequestRetried("docker.io", "throttled", 5.0),
    RateLimitSeen("docker.io", "anonymous", 76),
)


def everything() -> MetricsObserver:
    observer = observed(*run(events=WORK))
    observer.attach_graph(None)
    observer.set_next_runs({"@daily": NOW + 60})
    observer.count_skipped_run("overlap")
    observer.count_event("harbor", "taken")
    observer.set_incomplete({"d.io": 2})
    observer.attach_lag(lambda: {"d.io": 60.0})
    observer.notify(ConcurrencyChanged("docker.io", 16))
    observer.set_reload(successful=True)
    return observer


def test_names_types_and_labels_are_those_of_the_contract():
    found = {}
    for family in text_string_to_metric_families(everything().render().decode()):
        name = f"{family.name}_total" if family.type == "counter" else family.name
        labels = {label for sample in family.samples for label in sample.labels if label != "le"}
        found[name] = (family.type, labels)
        assert family.documentation
    assert found == CONTRACT


def test_no_label_names_a_repository_a_tag_or_a_digest():
    text = everything().render().decode()
    assert "library" not in text
    assert "sha256" not in text
    assert "_created" not in text


def test_a_new_process_exports_no_moment_that_has_not_come():
    assert samples(observed()) == {
        f'syncer_build_info{{version="{__version__}"}}': 1,
        "syncer_run_in_progress": 0,
    }


def test_counters_of_pruning_begin_at_zero_before_the_first_removal():
    pruning = replace(numbered(0), prune=PruneRule())
    image = ImageSkipped(pruning, SOURCE, TO, DIGEST, SkipReason.UP_TO_DATE)
    found = samples(observed(*run(events=[image])))
    assert found['syncer_tags_pruned_total{destination="d.io:5000"}'] == 0
    assert found['syncer_prune_failures_total{destination="d.io:5000"}'] == 0
    for others in (run(events=[image], dry_run=True), run(events=IMAGES)):
        assert not any("prune" in series for series in samples(observed(*others)))


@pytest.mark.parametrize(("trigger", "found"), [("schedule", {0.0}), ("cli", set())])
def test_skipped_runs_of_a_daemon_begin_at_zero(trigger, found):
    series = samples(observed(RunStarted("1", trigger, 1)))
    assert {value for name, value in series.items() if "runs_skipped" in name} == found


def test_events_are_counted():
    found = samples(observed(*run(events=WORK)))
    hosts = 'destination="d.io:5000"'
    for series, value in {
        f'syncer_images_total{{{hosts},outcome="synced",source="docker.io"}}': 2,
        f'syncer_images_total{{{hosts},outcome="skipped",source="docker.io"}}': 1,
        f'syncer_images_total{{{hosts},outcome="failed",source="docker.io"}}': 1,
        f'syncer_blobs_total{{{hosts},outcome="mounted"}}': 1,
        f"syncer_tags_pruned_total{{{hosts}}}": 1,
        f"syncer_prune_failures_total{{{hosts}}}": 1,
        'syncer_blob_bytes_total{direction="pulled",registry="docker.io"}': 111,
        'syncer_tasks_total{kind="blob",outcome="retried"}': 1,
        'syncer_http_requests_total{endpoint="blob",method="GET",registry="docker.io",status="200"}': 1,
        'syncer_http_requests_total{endpoint="blob",method="GET",registry="docker.io",status="0"}': 1,
        'syncer_http_request_duration_seconds_bucket{endpoint="blob",le="0.25",registry="docker.io"}': 0,
        'syncer_http_request_duration_seconds_bucket{endpoint="blob",le="0.5",registry="docker.io"}': 1,
        'syncer_http_request_duration_seconds_bucket{endpoint="blob",le="+Inf",registry="docker.io"}': 2,
        'syncer_http_request_duration_seconds_count{endpoint="blob",registry="docker.io"}': 2,
        'syncer_http_request_duration_seconds_sum{endpoint="blob",registry="docker.io"}': 70.3,
        'syncer_http_retries_total{reason="throttled",registry="docker.io"}': 1,
        'syncer_rate_limit_remaining{account="anonymous",registry="docker.io"}': 76,
        'syncer_runs_total{outcome="success",trigger="cli"}': 1,
        'syncer_runs_total{outcome="failure",trigger="cli"}': 0,
        'syncer_run_duration_seconds_bucket{le="30.0",outcome="success"}': 0,
        'syncer_run_duration_seconds_bucket{le="60.0",outcome="success"}': 1,
        'syncer_run_duration_seconds_sum{outcome="success"}': 42,
    }.items():
        assert found[series] == pytest.approx(value), series


@pytest.mark.parametrize(
    ("outcome", "moments"),
    [
        ("success", {SUCCESS, COMPLETION}),
        ("partial", {COMPLETION}),
        ("failure", {COMPLETION}),
        ("interrupted", set()),
    ],
)
def test_moments_are_set_by_the_outcomes_that_they_are_named_after(outcome, moments):
    found = samples(observed(*run(outcome)))
    assert {name for name in (SUCCESS, COMPLETION) if name in found} == moments
    assert all(found[name] == NOW for name in moments)


def test_a_failure_leaves_the_last_success_where_it_was():
    times = iter([1000.0, 2000.0])
    observer = MetricsObserver(now=lambda: next(times))
    for event in (*run("success"), *run("failure")):
        observer.notify(event)
    assert (samples(observer)[SUCCESS], samples(observer)[COMPLETION]) == (1000, 2000)


def test_a_run_in_progress_shows():
    observer = observed(RunStarted("1", "schedule", 3))
    assert samples(observer)["syncer_run_in_progress"] == 1
    observer.notify(RunFinished("1", "schedule", "failure", 1.0))
    assert samples(observer)["syncer_run_in_progress"] == 0


def test_a_dry_run_counts_requests_and_nothing_that_it_did_not_do():
    found = samples(observed(*run(events=WORK, dry_run=True)))
    assert 'syncer_http_retries_total{reason="throttled",registry="docker.io"}' in found
    done = re.compile(r"syncer_(images|blobs|blob_bytes|run_last|run_duration)")
    assert not [series for series in found if done.match(series)]
    assert not any(value for series, value in found.items() if series.startswith("syncer_runs_total"))


class Graph:
    """One tag list is ready, and one blob waits."""

    def counts(self, kind: str) -> Counts:
        return {"tags": Counts(ready=1), "blob": Counts(waiting=1)}.get(kind, Counts())


def test_drift_is_that_of_the_last_run_with_images_for_the_destination():
    kept = ImageSkipped(numbered(0), SOURCE, TO, DIGEST, SkipReason.KEPT, wanted=Digest.of(b"two"))
    series = f'syncer_images_drifted{{destination="{TO.repository.host}"}}'
    assert samples(observed(*run(events=[kept, kept])))[series] == 2
    assert samples(observed(*run(events=[kept, kept]), *run(events=[kept])))[series] == 1
    assert samples(observed(*run(events=[kept]), *run(events=IMAGES[:1])))[series] == 0
    assert samples(observed(*run(events=[kept]), *run()))[series] == 1
    assert samples(observed(*run(events=[kept]), *run("interrupted", events=IMAGES[:1])))[series] == 1
    assert series not in samples(observed(*run(events=[kept], dry_run=True)))


def test_tasks_are_read_from_the_graph_of_the_run_in_progress():
    observer = observed()
    observer.attach_graph(Graph())
    assert samples(observer)['syncer_tasks{kind="tags",state="ready"}'] == 1
    assert samples(observer)['syncer_tasks{kind="blob",state="waiting"}'] == 1
    assert samples(observer)['syncer_tasks{kind="blob",state="running"}'] == 0
    observer.attach_graph(None)
    tasks = {
        series: value for series, value in samples(observer).items() if series.startswith("syncer_tasks{")
    }
    assert len(tasks) == 12
    assert not any(tasks.values())


def test_schedules_that_are_no_more_are_not_exported():
    observer = observed()
    observer.set_next_runs({"@daily": 10.0, "0 */6 * * *": 20.0})
    observer.set_next_runs({"@daily": 30.0})
    found = {series: value for series, value in samples(observer).items() if "schedule" in series}
    assert found == {'syncer_schedule_next_run_timestamp_seconds{schedule="@daily"}': 30}


def test_a_failed_reload_shows_with_its_time():
    observer = observed()
    observer.set_reload(successful=False)
    assert samples(observer)["syncer_config_last_reload_successful"] == 0
    assert samples(observer)["syncer_config_last_reload_timestamp_seconds"] == NOW


def test_buckets_rise_to_the_count(tmp_path):
    requests = [RequestSent("d.io", "GET", "tags", "/", 200, seconds / 10) for seconds in range(800)]
    for family in text_string_to_metric_families(observed(*requests).render().decode()):
        buckets = [sample for sample in family.samples if sample.name.endswith("_bucket")]
        bounds = [float(sample.labels["le"]) for sample in buckets]
        values = [sample.value for sample in buckets]
        assert bounds == sorted(bounds)
        assert values == sorted(values)
        if buckets:
            assert bounds[-1] == math.inf
            assert values[-1] == 800


def test_counting_a_request_takes_microseconds():
    observer = observed()
    event = RequestSent("registry.example.com", "HEAD", "manifest", "/v2/a/manifests/1", 200, 0.02)
    times = []
    for _ in range(20):
        start = time.perf_counter()
        for _ in range(500):
            observer.notify(event)
        times.append((time.perf_counter() - start) / 500)
    assert min(times) < 10e-6  # about 1 µs: the rest is room for a busy machine


# --- node_exporter's textfile ------------------------------------------------------------------------------------


def test_a_textfile_holds_what_render_gives(tmp_path):
    observer = everything()
    observer.write_textfile(tmp_path / "syncer.prom")
    assert (tmp_path / "syncer.prom").read_bytes() == observer.render()
    assert [path.name for path in tmp_path.iterdir()] == ["syncer.prom"]


def test_a_failed_run_carries_the_last_success_over(tmp_path):
    path = tmp_path / "syncer.prom"
    observed(*run("success")).write_textfile(path)
    for outcome in ("failure", "interrupted"):
        later = MetricsObserver(now=lambda: NOW + 100)
        for event in run(outcome):
            later.notify(event)
        later.write_textfile(path)
    found = dict(line.rsplit(" ", 1) for line in path.read_text().splitlines() if line[0] != "#")
    assert float(found[SUCCESS]) == NOW
    assert float(found[COMPLETION]) == NOW + 100
    assert found['syncer_runs_total{outcome="interrupted",trigger="cli"}'] == "1.0"


@pytest.mark.parametrize("old", [b"", b"\xff\xfe", f"{SUCCESS} soon\n".encode(), f"{SUCCESS} NaN\n".encode()])
def test_an_old_file_that_makes_no_sense_is_replaced(tmp_path, old):
    path = tmp_path / "syncer.prom"
    path.write_bytes(old)
    observed(*run("failure")).write_textfile(path)
    assert SUCCESS not in path.read_text()
