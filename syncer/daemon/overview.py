"""The content of the status page: health, failures with their causes, recent runs, rules."""

import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import anyio.to_thread
import msgspec

from syncer.daemon.chart import MAX_BARS
from syncer.daemon.guard import Guard
from syncer.daemon.rule_view import source_filter
from syncer.daemon.run_view import Reports, page_of, text_of
from syncer.daemon.runs import RUN_ABORTED
from syncer.daemon.service import Service
from syncer.daemon.status import mirror_of, rules_of, status_of
from syncer.observe.causes import Causes
from syncer.observe.words import count
from syncer.state.history import Document, utc

RULES_PER_PAGE = 50
RECENT_RUNS = 8
_MAX_REPORTS = 5
"""Maximum number of reports to read for the causes of failing rules."""

_MAX_FAILED = 1000
"""Maximum number of failed images for which the time of the first failure is looked up."""

Level = Literal["good", "note", "bad"]


@dataclass(frozen=True, slots=True)
class Statement:
    """A sentence about the state of the daemon. If `since` is set, the page appends that time to `text`.

    `key` and `values` are for translations; without a key, the text itself is translated.
    """

    level: Level
    text: str
    since: str | None = None
    key: str = ""
    values: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RulesView:
    """One page of the rules that contain `text`, failing rules first. `found` is the number of matching rules."""

    rules: Sequence[Document]
    text: str
    found: int
    page: int

    @property
    def pages(self) -> int:
        return max(1, -(-self.found // RULES_PER_PAGE))


@dataclass(frozen=True, slots=True)
class OverviewView:
    """The content of the status page. `unsettled` is true while a run starts or finishes."""

    status: Document
    mirror: Document
    statements: Sequence[Statement]
    rules: RulesView
    runs: Sequence[Document]
    causes: Causes
    succeeded: str | None
    unsettled: bool


@dataclass(frozen=True, slots=True)
class _Past:
    """Recent runs and the time of the last success, from the history."""

    runs: Sequence[Document] = ()
    succeeded: float | None = None
    readable: bool = True


@dataclass(slots=True)
class _Known:
    """Cached causes, and some destinations that failed. `key` names the runs and rules; reports of finished runs never change."""

    key: object = None
    causes: Causes = field(default_factory=Causes)
    failed: frozenset[str] = frozenset()


class Overview:
    """Builds the content of the status page."""

    def __init__(self, service: Service, guard: Guard, reports: Reports) -> None:
        self._service = service
        self._guard = guard
        self._reports = reports
        self._known = _Known()

    async def view(self, query: Mapping[str, str]) -> OverviewView:
        """Return the current state. `query` selects the rules to list: `q` is a text to find, `page` a page number from 1."""
        status = await status_of(self._service, post=self._guard.mode)
        past = await anyio.to_thread.run_sync(_past, self._service)
        failing = [rule for rule in status["rules"] if fails(rule)]
        known = await self._causes(failing) if failing else _Known()
        unfinished = [run for run in past.runs if not run["finished"]]
        return OverviewView(
            status=status,
            mirror=await mirror_of(self._service) | {"since": self._since(known.failed)},
            statements=statements_of(status, failing, readable=past.readable),
            rules=await self._rules(status["rules"], query),
            runs=past.runs,
            causes=known.causes,
            succeeded=None if past.succeeded is None else utc(past.succeeded),
            unsettled=status["run"] is None and bool(unfinished or self._service.runner.busy),
        )

    async def _causes(self, failing: Sequence[Document]) -> _Known:
        """Return why these rules fail, according to the reports of their last runs."""
        names = {rule["source"] for rule in failing}
        rules = [rule for rule in self._service.files.config.rules if rule.name in names]
        last = {rule["last"]["run"]: rule["last"]["finished"] for rule in failing}
        runs = sorted(last, key=lambda run: last[run], reverse=True)[:_MAX_REPORTS]
        key = (tuple(runs), frozenset(names))
        if self._known.key != key:
            wanted = source_filter(rules)
            causes, failed = Causes(wanted), set[str]()

            def see(image: Document) -> None:
                causes.see(image)
                if image["outcome"] == "failed" and len(failed) < _MAX_FAILED and wanted(image):
                    failed.add(image["destination"])

            for run in runs:
                try:
                    await self._reports.read(run, see)
                except (KeyError, sqlite3.Error):
                    continue  # The report was deleted. The page still lists its rules as failing.
            self._known = _Known(key, causes, frozenset(failed))
        return self._known

    def _since(self, failed: frozenset[str]) -> str | None:
        """Return since when the first of these destinations is behind; None if that is not known."""
        behind = self._service.lag.behind()
        times = [behind[name] for name in failed if name in behind]
        return utc(min(times)) if times else None

    async def _rules(self, rules: Sequence[Document], query: Mapping[str, str]) -> RulesView:
        view = _rules(rules, query)
        try:
            details = await rules_of(self._service, {rule["source"] for rule in view.rules})
        except sqlite3.Error:
            details = []
        by_name = {rule["name"]: rule for rule in details}
        unknown = {"images": None, "drift": None, "behind": 0, "lag": 0.0}
        return replace(
            view,
            rules=[
                unknown | rule | by_name.get(rule["source"], {}) | {"source": rule["source"]}
                for rule in view.rules
            ],
        )


def fails(rule: Document) -> bool:
    """Return whether an image of the rule failed in its last run."""
    return rule["last"] is not None and rule["last"]["outcome"] != "success"


def statements_of(status: Document, failing: Sequence[Document], *, readable: bool) -> list[Statement]:
    """Return statements about the state of the daemon. The first one summarizes the others."""
    found = [*_troubles(status, failing, readable=readable), *_notes(status)]
    worst: Level = "bad" if any(each.level == "bad" for each in found) else "note"
    if status["stopping"]:
        found.insert(0, Statement(worst, "Stopping. Running tasks may finish; no new run starts."))
    elif not status["ready"]:
        found.insert(0, Statement(worst, "Starting."))
    elif worst != "bad":
        found.insert(0, _no_trouble(status))
    return found


def _troubles(status: Document, failing: Sequence[Document], *, readable: bool) -> list[Statement]:
    found = []
    rules, last = status["rules"], status["last_run"]
    if failing:
        since = [rule["last"]["succeeded"] for rule in failing]
        whole = (
            f"{len(failing)} of {count(len(rules), 'rule')} {'is' if len(failing) == 1 else 'are'} failing"
        )
        values = {"failing": len(failing), "rules": len(rules), "never": since.count(None)}
        if never := since.count(None):
            one = "it" if len(since) == 1 else str(never)
            which = "none has" if 1 < len(since) == never else f"{one} {'has' if never == 1 else 'have'} not"
            text = f"{whole}; {which} succeeded yet."
            found.append(Statement("bad", text, key="failing, never", values=values))
        else:
            which = "last success" if len(since) == 1 else "oldest last success"
            found.append(Statement("bad", f"{whole}; {which} at", min(since), "failing", values))
    if problems := status["files"]["problems"]:
        text = f"Configuration reload failed ({count(len(problems), 'problem')}); still using the version loaded at"
        values = {"problems": len(problems)}
        found.append(Statement("bad", text, status["files"]["loaded"], "reload failed", values))
    if last and last.get("error"):
        reason = last["error"].removeprefix(RUN_ABORTED)
        if reason == last["error"]:
            found.append(
                Statement("bad", f"The last run: {reason}", key="run error", values={"reason": reason})
            )
        else:
            text = f"The last run was aborted: {reason}"
            found.append(Statement("bad", text, key="aborted", values={"reason": reason}))
    if not readable:
        found.append(Statement("bad", "Cannot read the history. See the log for details."))
    return found


def _notes(status: Document) -> list[Statement]:
    found = []
    last = status["last_run"]
    if last and last["outcome"] == "interrupted":
        found.append(Statement("note", "The last run was interrupted at", last["finished"]))
    if status["queued"]:
        found.append(Statement("note", "Another run is queued until the current run finishes."))
    idle = sum(rule["next"] is None for rule in status["rules"])
    if idle and not status["stopping"]:
        which = (
            "All rules run"
            if idle == len(status["rules"])
            else f"{idle} of {count(len(status['rules']), 'rule')} {'runs' if idle == 1 else 'run'}"
        )
        values = {"idle": idle, "rules": len(status["rules"])}
        text = f"{which} on request only: no schedule is set."
        found.append(Statement("note", text, key="idle", values=values))
    return found


def _no_trouble(status: Document) -> Statement:
    rules = status["rules"]
    new = sum(rule["last"] is None for rule in rules)
    if not rules:
        return Statement("note", "The configuration has no rules.")
    if new == len(rules):
        text = "The first run is in progress." if status["run"] else "No rule has run yet."
        return Statement("note", text)
    if new:
        text = f"{new} of {count(len(rules), 'rule')} {'has' if new == 1 else 'have'} not run yet; all others succeeded."
        return Statement("note", text, key="new", values={"new": new, "rules": len(rules)})
    what = "The rule succeeded in its" if len(rules) == 1 else f"All {len(rules)} rules succeeded in their"
    return Statement("good", f"{what} last run.", key="succeeded", values={"rules": len(rules)})


def _past(service: Service) -> _Past:
    try:
        runs = [msgspec.json.decode(text) for text in service.history.summaries(MAX_BARS)]
        return _Past(runs, service.history.last_times()[0])
    except sqlite3.Error:
        return _Past(readable=False)


def _rules(rules: Sequence[Document], query: Mapping[str, str]) -> RulesView:
    text = text_of(query)
    wanted = text.lower()
    found = [
        rule
        for rule in rules
        if not wanted or any(wanted in name.lower() for name in (rule["source"], *rule["destinations"]))
    ]
    found.sort(key=lambda rule: not fails(rule))
    page = page_of(query)
    first = (page - 1) * RULES_PER_PAGE
    return RulesView(found[first : first + RULES_PER_PAGE], text, len(found), page)
