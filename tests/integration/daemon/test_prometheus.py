"""The metrics, read by Debian's prometheus and pushed to its Pushgateway."""

import json
import re
import subprocess
import time

import httpx

from tests.integration.daemon.conftest import wait_until
from tests.support.metrics import CONTRACT
from tests.support.plain_http import NO_AUTHORITIES

NAMES = {name: labels for name, (_, labels) in CONTRACT.items()}
ALWAYS = set(NAMES) - {
    # Only where it happens.
    "syncer_events_total",
    "syncer_images_incomplete",
    "syncer_tags_pruned_total",
    "syncer_prune_failures_total",
    "syncer_http_retries_total",
    "syncer_runs_skipped_total",
    "syncer_rate_limit_remaining",
    "syncer_concurrency_limit",
}
OWN_LABELS = {"__name__", "instance", "job", "le", "exported_job", "exported_instance"}


def test_prometheus_scrapes_what_the_contract_names(copying, prometheus):
    copying.start("--schedule", "0 0 1 1 *", "--retries", "0")
    host = copying.url.removeprefix("http://")
    copying.run()
    exposed = httpx.get(f"{copying.url}/metrics", trust_env=False, verify=NO_AUTHORITIES).text
    linted = subprocess.run(
        ["promtool", "check", "metrics"], input=exposed, capture_output=True, text=True, check=False
    )
    assert (linted.returncode, linted.stdout, linted.stderr) == (0, "", "")
    # The library declares a metric with labels before it has a sample.
    declared = {
        name
        for name in re.findall(r"^# TYPE (\S+)", exposed, re.MULTILINE)
        if re.search(rf"^{name}(_bucket|_sum|_count)?[{{ ]", exposed, re.MULTILINE)
    }
    assert ALWAYS <= declared <= set(NAMES)
    assert "_created" not in exposed

    scraper = prometheus(syncer=host)
    wait_until(lambda: scraper.value('syncer_runs_total{trigger="api",outcome="success"}') == 1)
    for name in declared:
        found = scraper.query(f'{{__name__=~"{name}(_bucket|_sum|_count)?"}}')
        assert found, name
        assert set().union(*(each["metric"] for each in found)) - OWN_LABELS == NAMES[name]
    assert scraper.value("syncer_run_in_progress") == 0
    assert scraper.value("time() - syncer_run_last_success_timestamp_seconds") < 120
    assert scraper.value("syncer_schedule_next_run_timestamp_seconds - time()") > 0
    assert scraper.value("sum(syncer_images_total)") == copying.runs[0]["totals"]["images"]["synced"]
    assert (
        scraper.value("histogram_quantile(0.9, sum by (le) (syncer_http_request_duration_seconds_bucket))")
        > 0
    )
    pushed = scraper.value('sum(syncer_blob_bytes_total{direction="pushed"})')
    # The report counts manifests too.
    assert 0 < pushed < copying.runs[0]["totals"]["bytes"]["pushed"]

    copying.images.write_text(json.dumps(copying.missing))
    wait_until(lambda: len(copying.get("/api/v1/status")["rules"]) == 2)
    copying.run()
    wait_until(lambda: scraper.value('syncer_runs_total{trigger="api",outcome="partial"}') == 1)
    assert scraper.value('increase(syncer_runs_total{outcome="partial"}[1m])') > 0
    copying.terminate()


def test_last_success_metric_survives_restart(copying):
    copying.start("--state-dir", "state", "--retries", "0")
    copying.run()
    copying.terminate()
    copying.start("--state-dir", "state")
    exposed = httpx.get(f"{copying.url}/metrics", trust_env=False, verify=NO_AUTHORITIES).text
    found = re.search(r"^syncer_run_last_success_timestamp_seconds (\S+)$", exposed, re.MULTILINE)
    assert found
    assert 0 < time.time() - float(found[1]) < 120
    copying.terminate()


def test_a_pushgateway_keeps_the_last_success_over_a_failed_run(copying, gateway, prometheus):
    scraper = prometheus(gateway=gateway)
    copying.start("--metrics-push", f"http://{gateway}", "--retries", "0")
    copying.run()
    success = 'syncer_run_last_success_timestamp_seconds{job="image-syncer"}'
    before = wait_until(lambda: scraper.value(success))
    copying.terminate()

    copying.images.write_text(json.dumps({"127.0.0.1:1/missing:1": "127.0.0.1:1/copy"}))
    copying.start("--metrics-push", f"http://{gateway}", "--retries", "0")
    copying.run()
    failed = 'syncer_runs_total{outcome="failure",trigger="api"}'
    wait_until(lambda: scraper.value(failed) == 1)
    assert scraper.value(success) == before
    copying.terminate()


def test_a_one_shot_pushes_the_same(copying, gateway, run_syncer):
    done = run_syncer("sync", *copying.arguments(), "--metrics-push", f"http://{gateway}")
    assert done.returncode == 0, done.stderr
    found = httpx.get(f"http://{gateway}/metrics", trust_env=False, verify=NO_AUTHORITIES).text
    assert 'syncer_runs_total{instance="",job="image-syncer",outcome="success",trigger="cli"} 1' in found


def test_each_share_has_its_own_pushgateway_group(copying, gateway, run_syncer):
    for shard in ("0/2", "1/2"):
        pushed = ("--metrics-push", f"http://{gateway}", "--shard", shard)
        assert run_syncer("sync", *copying.arguments(), *pushed).returncode == 0
    found = httpx.get(f"http://{gateway}/metrics", trust_env=False, verify=NO_AUTHORITIES).text
    counted = (
        r'syncer_runs_total\{instance="",job="image-syncer",outcome="success",shard="(\d)",trigger="cli"\} 1'
    )
    groups = re.findall(counted, found)
    assert groups == ["0", "1"]
