"""What the front page shows: is all well, what fails and why, what was and what comes."""

import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import anyio.to_thread
import msgspec

from syncer.daemon.causes import Causes, parts_of
from syncer.daemon.chart import MAX_BARS
from syncer.daemon.guard import Guard
from syncer.daemon.run_view import Reports, page_of, text_of
from syncer.daemon.service import Service
from syncer.daemon.status import status_of
from syncer.observe.words import count
from syncer.state.history import Document, utc

RULES_PER_PAGE = 50
RECENT_RUNS = 8
_MAX_REPORTS = 5
"""Reports that are read for the causes of failing rules."""

Level = Literal["good", "note", "bad"]


@dataclass(frozen=True, slots=True)
class Statement:
    """A sentence on how things are; `since` is the time it ends with, if it has one."""

    level: Level
    text: str
    since: str | None = None


@dataclass(frozen=True, slots=True)
class RulesView:
    """The rules that fit what was asked for, one page of them: those that fail first."""

    rules: Sequence[Document]
    text: str
    found: int
    page: int

    @property
    def pages(self) -> int:
        return max(1, -(-self.found // RULES_PER_PAGE))


@dataclass(frozen=True, slots=True)
class OverviewView:
    """All that the front page needs. `unsettled`: a run is about to begin or to end, so that this will not hold long."""

    status: Document
    statements: Sequence[Statement]
    rules: RulesView
    runs: Sequence[Document]
    causes: Causes
    succeeded: str | None
    unsettled: bool


@dataclass(frozen=True, slots=True)
class _Past:
    """What the history has for the front page."""

    runs: Sequence[Document] = ()
    succeeded: float | None = None
    readable: bool = True


@dataclass(slots=True)
class _Known:
    """Causes that were read from reports, and for which runs and sources: reports of runs that are over never change."""

    key: object = None
    causes: Causes = field(default_factory=Causes)


class Overview:
    """Makes the front page's content."""

    def __init__(self, service: Service, guard: Guard, reports: Reports) -> None:
        self._service = service
        self._guard = guard
        self._reports = reports
        self._known = _Known()

    async def view(self, query: Mapping[str, str]) -> OverviewView:
        """How things are now. `query` says which rules are looked for: `q`, a text, and `page`."""
        status = await status_of(self._service, post=self._guard.mode)
        past = await anyio.to_thread.run_sync(_past, self._service)
        failing = [rule for rule in status["rules"] if fails(rule)]
        causes = await self._causes(failing) if failing else Causes()
        going = [run for run in past.runs if not run["finished"]]
        return OverviewView(
            status=status,
            statements=statements_of(status, failing, readable=past.readable),
            rules=_rules(status["rules"], query),
            runs=past.runs,
            causes=causes,
            succeeded=None if past.succeeded is None else utc(past.succeeded),
            unsettled=status["run"] is None and bool(going or self._service.runner.busy),
        )

    async def _causes(self, failing: Sequence[Document]) -> Causes:
        """Why these rules fail, by the reports of their last runs."""
        names = {rule["source"] for rule in failing}
        sources = {str(rule.source) for rule in self._service.files.config.rules if rule.name in names}
        last = {rule["last"]["run"]: rule["last"]["finished"] for rule in failing}
        runs = sorted(last, key=lambda run: last[run], reverse=True)[:_MAX_REPORTS]
        key = (tuple(runs), frozenset(sources))
        if self._known.key != key:
            causes = Causes(lambda image: parts_of(image["source"])[0] in sources)
            for run in runs:
                try:
                    await self._reports.read(run, causes.see)
                except (KeyError, sqlite3.Error):
                    continue  # it is not kept any more; that its rules fail is said in any case
            self._known = _Known(key, causes)
        return self._known.causes


def fails(rule: Document) -> bool:
    """Whether not all of a rule's images went through, the last time."""
    return rule["last"] is not None and rule["last"]["outcome"] != "success"


def statements_of(status: Document, failing: Sequence[Document], *, readable: bool) -> list[Statement]:
    """The first one says it all in one sentence; the others tell more."""
    found = [*_troubles(status, failing, readable=readable), *_notes(status)]
    worst: Level = "bad" if any(each.level == "bad" for each in found) else "note"
    if status["stopping"]:
        found.insert(0, Statement(worst, "Stopping: what is under way may end, nothing new begins."))
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
        if never := since.count(None):
            which = "none has" if never == len(since) else f"{never} have not"
            found.append(Statement("bad", f"{whole}; {which} succeeded yet."))
        else:
            found.append(Statement("bad", f"{whole}, without a success since", min(since)))
    if problems := status["files"]["problems"]:
        text = f"The files have changed and are not taken: {count(len(problems), 'problem')}. In force is what was read"
        found.append(Statement("bad", text, status["files"]["loaded"]))
    if last and last.get("error"):
        found.append(
            Statement("bad", f"The last run broke off: {last['error'].removeprefix('the run broke off: ')}")
        )
    if not readable:
        found.append(Statement("bad", "The history cannot be read: see the log."))
    return found


def _notes(status: Document) -> list[Statement]:
    found = []
    last = status["last_run"]
    if last and last["outcome"] == "interrupted":
        found.append(Statement("note", "The last run was stopped before its end", last["finished"]))
    if status["queued"]:
        found.append(Statement("note", "Another run follows at once: it was due while this one went on."))
    idle = sum(rule["next"] is None for rule in status["rules"])
    if idle and not status["stopping"]:
        which = (
            "All rules run"
            if idle == len(status["rules"])
            else f"{count(idle, 'rule')} of {len(status['rules'])} run"
        )
        found.append(Statement("note", f"{which} only when asked to: no schedule is given."))
    return found


def _no_trouble(status: Document) -> Statement:
    rules = status["rules"]
    new = sum(rule["last"] is None for rule in rules)
    if not rules:
        return Statement("note", "The images file has no rules: there is nothing to do.")
    if new == len(rules):
        going = "The first run goes on." if status["run"] else "Nothing has run yet."
        return Statement("note", going)
    if new:
        return Statement(
            "note", f"{count(new, 'rule')} of {len(rules)} did not run yet; the others are well."
        )
    what = "the rule succeeded in its" if len(rules) == 1 else f"all {len(rules)} rules succeeded in their"
    return Statement("good", f"All is well: {what} last run.")


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
