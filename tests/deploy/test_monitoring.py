"""The alerts and the dashboard: they name only what is exported, fire when they should, and are explained."""

import re
import subprocess

import pytest

from tests.deploy.promql import DEPLOY, METRICS, alerts, base_name, dashboard, panels, problems

ALERTS = DEPLOY / "prometheus" / "alerts.yaml"
TESTS = DEPLOY / "prometheus" / "alerts.test.yaml"


def promtool(*arguments):
    return subprocess.run(
        ["promtool", *arguments], capture_output=True, text=True, timeout=60, check=False, cwd=ALERTS.parent
    )


@pytest.mark.parametrize(
    ("expression", "found"),
    [
        ('sum by (outcome) (syncer_runs_total{outcome="success", job=~"x"})', []),
        ("sum by (le) (syncer_run_duration_seconds_bucket)", []),
        ("syncer_run_total", ["no metric syncer_run_total"]),
        ('syncer_tasks{registry="x"}', ["syncer_tasks has no label registry"]),
        ("sum by (tag) (syncer_tasks)", ["nothing has a label tag"]),
        ("sum by (le) (syncer_tasks)", ["nothing has a label le"]),
    ],
)
def test_the_check_of_names_finds_wrong_ones(expression, found):
    assert problems(expression) == found


def test_prometheus_takes_the_configuration_with_the_alerts():
    done = promtool("check", "config", "prometheus.yml")
    assert (done.returncode, done.stderr) == (0, "")
    assert f"{len(alerts())} rules found" in done.stdout


def test_alerts_fire_when_they_should_and_not_else():
    done = promtool("test", "rules", TESTS.name)
    assert done.returncode == 0, done.stdout + done.stderr
    text = TESTS.read_text()
    for alert in alerts():
        assert f'alertname="{alert["alert"]}"' in text, "no test sees it fire"


def test_alerts_name_only_what_is_exported():
    for alert in alerts():
        assert problems(alert["expr"]) == [], alert["alert"]
        assert alert["labels"]["severity"] in ("info", "warning", "critical")


def test_alerts_say_what_to_do_and_where_to_read_on():
    text = (DEPLOY.parent / "docs" / "operations.md").read_text()
    headings = {
        re.sub(r"[^\w-]", "", line.lower().replace(" ", "-"))
        for line in re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    }
    for alert in alerts():
        notes = alert["annotations"]
        assert set(notes) == {"summary", "description", "runbook"}
        page, _, anchor = notes["runbook"].partition("#")
        assert page == "docs/operations.md"
        assert anchor == alert["alert"].lower()
        assert anchor in headings, alert["alert"]


def test_the_dashboard_names_only_what_is_exported():
    for title, expression in panels():
        assert problems(expression) == [], title
    for variable in dashboard()["templating"]["list"]:
        assert variable["type"] == "datasource" or problems(variable["definition"]) == []


def test_the_dashboard_shows_every_metric():
    shown = {base_name(name) for _, text in panels() for name in re.findall(r"syncer_\w+", text)}
    assert shown == set(METRICS) - {"syncer_config_last_reload_timestamp_seconds"}


def test_panels_have_a_place_of_their_own_and_the_chosen_data_source():
    whole = dashboard()
    taken: set[tuple[int, int]] = set()
    assert len({panel["id"] for panel in whole["panels"]}) == len(whole["panels"])
    for panel in whole["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert place["x"] + place["w"] <= 24
        assert not cells & taken, panel["title"]
        taken |= cells
        if panel["type"] != "row":
            sources = [panel["datasource"], *(target["datasource"] for target in panel["targets"])]
            assert all(source == {"type": "prometheus", "uid": "${datasource}"} for source in sources)
