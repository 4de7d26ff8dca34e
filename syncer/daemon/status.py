"""The response of `GET /api/v1/status`, which the status page also shows."""

import sqlite3
import time
from collections import Counter
from collections.abc import Container
from typing import Any

import anyio.to_thread
import msgspec

from syncer import __version__
from syncer.daemon.service import Service
from syncer.rules.meeting import may_meet, outlines
from syncer.rules.rule import Rule
from syncer.rules.tag_filter import FilteredTags
from syncer.rules.tags import describe_selection
from syncer.state.history import RuleResult, utc

Document = dict[str, Any]


async def status_of(service: Service, *, post: str) -> Document:
    """Return the state of the daemon, as described in docs/api.md. `post` is `Guard.mode`."""
    results, last = await anyio.to_thread.run_sync(_from_history, service)
    files = service.files
    times = {text: when.timestamp() for text, when in service.timetable.next_times().items()}
    return {
        "version": __version__,
        "now": utc(time.time()),
        "started": utc(service.started_at),
        "ready": service.ready,
        "stopping": service.stopping,
        "post": post,
        "timezone": str(service.timetable.zone),
        "files": {
            "loaded": utc(files.loaded_at),
            "problems": list(files.problems),
            "warnings": [str(warning) for warning in files.config.warnings],
        },
        "schedules": _schedules(service, times),
        "rules": [_rule(rule, service, times, results.get(rule.name)) for rule in files.config.rules],
        "run": service.live.progress(),
        "queued": service.queued,
        "last_run": last,
    }


async def rules_of(service: Service, names: Container[str] | None = None) -> list[Document]:
    """Return the rules with these names, or all, as described in docs/api.md."""
    results, images = await anyio.to_thread.run_sync(_rules_from_history, service)
    times = {text: when.timestamp() for text, when in service.timetable.next_times().items()}
    behind = service.lag.by_repository()
    return [
        _rule(rule, service, times, results.get(rule.name))
        | {
            "name": rule.name,
            "source": rule.source_text,
            "selects": describe_selection(rule.selection),
            "platforms": str(rule.platforms) or None,
        }
        | _images(images.get(rule.name))
        | _behind(rule, behind)
        for rule in service.files.config.rules
        if names is None or rule.name in names
    ]


async def mirror_of(service: Service) -> Document:
    """Return how many images the rules have, how many of them are behind, and how many failed in their last run."""
    counts = await anyio.to_thread.run_sync(_rule_images, service)
    names = {rule.name for rule in service.files.config.rules}
    found = [each for name, each in counts.items() if name in names]
    outcomes = ("synced", "skipped", "failed")
    return {
        "images": sum(each[outcome] for each in found for outcome in outcomes),
        "behind": sum(number for number, _ in service.lag.by_repository().values()),
        "failing": sum(each["failed"] for each in found),
        "drift": sum(each.get("drifted", 0) for each in found),
    }


def _rule_images(service: Service) -> dict[str, dict[str, int]]:
    try:
        return service.history.rule_images()
    except sqlite3.Error:
        return {}


def _images(counts: dict[str, int] | None) -> Document:
    """Return the images of the last run by outcome, and how many of them another image was left for."""
    if counts is None:
        return {"images": None, "drift": None}
    return {
        "images": {name: number for name, number in counts.items() if name != "drifted"},
        "drift": counts.get("drifted", 0),
    }


def _behind(rule: Rule, behind: dict[str, tuple[int, float]]) -> Document:
    if rule.pattern is None:
        found = [behind.get(str(each.repository), (0, 0.0)) for each in rule.destinations]
    else:
        written = outlines(rule)
        found = [each for name, each in behind.items() if may_meet((name,), written)]
    return {
        "behind": sum(number for number, _ in found),
        "lag": round(max((seconds for _, seconds in found), default=0.0), 1),
    }


def _rules_from_history(service: Service) -> tuple[dict[str, RuleResult], dict[str, dict[str, int]]]:
    return service.history.rule_results(), service.history.rule_images()


def _from_history(service: Service) -> tuple[dict[str, RuleResult], Document | None]:
    try:
        results = service.history.rule_results()
        newest = service.history.summaries(2)
    except sqlite3.Error:
        return {}, None
    over = (run for text in newest if (run := msgspec.json.decode(text))["finished"])
    return results, next(over, None)


def _schedules(service: Service, times: dict[str, float]) -> list[Document]:
    count = Counter(text for rule in service.files.config.rules for text in service.schedules_of(rule))
    by_time = sorted(times.items(), key=lambda item: item[1])
    return [{"schedule": text, "next": utc(when), "rules": count[text]} for text, when in by_time]


def _rule(rule: Rule, service: Service, times: dict[str, float], result: RuleResult | None) -> Document:
    due = [times[text] for text in service.schedules_of(rule) if text in times]
    return {
        "source": rule.name,
        "destinations": [
            *(each.written or str(each.repository) for each in rule.destinations),
            *(template.written for template in rule.templates),
        ],
        "selection": service.live.selection(rule.name) if isinstance(rule.selection, FilteredTags) else None,
        "schedule": rule.schedule,
        "next": utc(min(due)) if due else None,
        "last": None
        if result is None
        else {
            "run": result.run,
            "finished": utc(result.finished),
            "outcome": result.outcome,
            "succeeded": None if result.succeeded is None else utc(result.succeeded),
        },
    }
