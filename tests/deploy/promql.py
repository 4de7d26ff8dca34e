"""PromQL of the dashboard and the alerts, held against the metrics that the program exports."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from tests.support.metrics import CONTRACT

DEPLOY = Path(__file__).parents[2] / "deploy"
METRICS = {name: labels for name, (_, labels) in CONTRACT.items()}
OF_OTHERS = {"up", "push_time_seconds"}
"""Metrics of Prometheus and of the Pushgateway."""
OF_THE_TARGET = {"job", "instance", "shard"}

_METRIC = re.compile(r"\b(syncer_\w+|up|push_time_seconds)\b(?:\{([^}]*)\})?")
_GROUPING = re.compile(r"\b(?:by|on|without|ignoring)\s*\(([^)]*)\)")
_MATCHER = re.compile(r"(\w+)\s*(?:=~|!~|!=|=)")


def alerts() -> list[dict[str, Any]]:
    groups = yaml.safe_load((DEPLOY / "prometheus" / "alerts.yaml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def dashboard() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((DEPLOY / "grafana" / "image-syncer.json").read_text())
    return found


def panels() -> Iterator[tuple[str, str]]:
    """Title and expression of each query of the dashboard, with its variables as Grafana would fill them in."""
    for panel in dashboard()["panels"]:
        for target in panel.get("targets", []):
            text = target["expr"].replace("$__rate_interval", "1m")
            yield panel["title"], re.sub(r"\$(?:job|registry)\b", ".*", text)


def base_name(metric: str) -> str:
    """The metric that a series of a histogram belongs to."""
    short = re.sub(r"_(?:bucket|sum|count)$", "", metric)
    return short if short in METRICS else metric


def problems(expression: str) -> list[str]:
    """Names of metrics and labels that nobody exports."""
    found, known = [], set(OF_THE_TARGET)
    for name, matchers in _METRIC.findall(expression):
        base = base_name(name)
        if base not in METRICS and base not in OF_OTHERS:
            found.append(f"no metric {name}")
        labels = METRICS.get(base, set()) | ({"le"} if name.endswith("_bucket") else set())
        known |= labels
        used = set(_MATCHER.findall(re.sub(r'"[^"]*"', "", matchers)))
        found += [f"{name} has no label {label}" for label in sorted(used - labels - OF_THE_TARGET)]
    for names in _GROUPING.findall(expression):
        grouped = {name.strip() for name in names.split(",")}
        found += [f"nothing has a label {label}" for label in sorted(grouped - known)]
    return found
