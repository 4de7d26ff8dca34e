"""The dashboard's and the alerts' expressions, put to a Prometheus that has scraped a daemon at work."""

import json

from tests.deploy.promql import alerts, panels
from tests.integration.daemon.conftest import wait_until

ONLY_WHERE_IT_HAPPENS = {
    "Runs that were skipped",
    "Retries",
    "Throttled",
    "Pulls left",
    "Events of registries",
    "Incomplete images",
    "Pruned tags",
}


def test_every_panel_shows_something_and_every_alert_can_be_evaluated(copying, prometheus):
    copying.start("--schedule", "0 0 1 1 *", "--retries", "0")
    scraper = prometheus(**{"image-syncer": copying.url.removeprefix("http://")})
    copying.run()
    wait_until(lambda: scraper.value('syncer_runs_total{outcome="success"}') == 1)
    # What fails is counted from here on: a rate needs two values.
    copying.images.write_text(json.dumps(copying.missing))
    wait_until(lambda: len(copying.get("/api/v1/status")["rules"]) == 2)
    copying.run()
    wait_until(lambda: scraper.value('syncer_runs_total{outcome="partial"}') == 1)
    copying.run()
    wait_until(lambda: scraper.value('syncer_runs_total{outcome="partial"}') == 2)
    for title, expression in panels():
        answer = scraper.ask(expression)
        assert answer.status_code == 200, f"{title}: {answer.text}"
        found = answer.json()["data"]["result"]
        assert found or title in ONLY_WHERE_IT_HAPPENS, title
    for alert in alerts():
        answer = scraper.ask(alert["expr"])
        assert answer.status_code == 200, f"{alert['alert']}: {answer.text}"
        expected = {"ImageSyncerRunsFailing"}
        assert bool(answer.json()["data"]["result"]) == (alert["alert"] in expected), alert["alert"]
    copying.terminate()
