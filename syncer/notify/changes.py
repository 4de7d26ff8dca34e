"""What a run changed: failures that are new, that continue, and that are over."""

import logging
import sqlite3
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from syncer.observe.report import ReportObserver
from syncer.rules.rule import Rule
from syncer.state.failures import MAX_FAILURES, FailureTable, KnownFailure
from syncer.state.history import Document

THE_RUN = ""
"""The key of a failure that is not the failure of an image: the run was aborted."""
REMINDER_SECONDS = 23 * 3600.0
"""Failures that continue are named again after this time. Less than a day: the runs of a daily schedule vary."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Ended:
    """A finished run: summary with totals, report, and the rules that were copied as a whole without a failure."""

    summary: Document
    report: ReportObserver
    complete: Sequence[Rule] = ()

    @property
    def outcome(self) -> str:
        return str(self.summary["outcome"])


@dataclass(frozen=True, slots=True)
class Changes:
    """Failures by destination. `when` is the Unix time of the comparison, and `failing` has the time of the first failure.

    `is_due` is true if a failure that continues has to be named again.
    """

    when: float
    failing: Mapping[str, float]
    new: frozenset[str]
    recovered: frozenset[str]
    is_due: bool


class FailureWatch:
    """Compares runs with what is known of earlier runs. `now` returns Unix time in seconds. Every method may block.

    If the table cannot be used, this is logged, and what this process knows is used.
    """

    def __init__(self, table: FailureTable, *, now: Callable[[], float] = time.time) -> None:
        self._table = table
        self._now = now
        self._known: dict[str, KnownFailure] = {}
        self._lock = threading.Lock()

    def compare(self, ended: Ended) -> Changes:
        """Compare a finished run with the failures that are known. `record` must follow."""
        with self._lock:
            self._load()
            failing, done = set[str](), set[str]()
            for image in ended.report.ended():
                error = image.get("error")
                if not isinstance(error, Mapping):
                    done.add(str(image["destination"]))
                elif error["kind"] != "interrupted":
                    failing.add(str(image["destination"]))
            if ended.outcome in ("failure", "partial") and (not failing or "error" in ended.summary):
                failing.add(THE_RUN)
            elif ended.outcome != "interrupted":
                done.add(THE_RUN)
            now = self._now()
            # The same ones each time, so that those beyond the limit are not new each time.
            kept = sorted(failing)[:MAX_FAILURES]
            return Changes(
                when=now,
                failing={name: self._known[name].since if name in self._known else now for name in kept},
                new=frozenset(name for name in kept if name not in self._known),
                recovered=self._recovered(ended, failing, done),
                is_due=any(_is_due(self._known[name], now) for name in kept if name in self._known),
            )

    def record(self, changes: Changes, *, told: bool) -> None:
        """Record the result of `compare`, and whether a notification names the failures."""
        with self._lock:
            failures = {}
            for name, since in changes.failing.items():
                known = self._known.get(name)
                told_at = changes.when if told else known.told if known else None
                failures[name] = KnownFailure(since, told_at)
            self._known |= failures
            for name in changes.recovered:
                self._known.pop(name, None)
            try:
                self._table.save(failures, changes.recovered, now=changes.when)
            except sqlite3.Error as error:
                _log.error("cannot record which images fail: %s", error)

    def not_delivered(self, when: float) -> None:
        """Record that no one received the notification with `Changes.when`: the next run names its failures again."""
        with self._lock:
            for name, known in self._known.items():
                if known.told == when:
                    self._known[name] = KnownFailure(known.since)
            try:
                self._table.forget_told(when)
            except sqlite3.Error as error:
                _log.error("cannot record which images fail: %s", error)

    def _load(self) -> None:
        try:
            self._known = self._table.load()
        except sqlite3.Error as error:
            _log.error("cannot read which images failed before: %s", error)

    def _recovered(self, ended: Ended, failing: set[str], done: set[str]) -> frozenset[str]:
        """Return the known failures that are over: the image is complete, or its rule no longer selects it."""
        prefixes = tuple(
            f"{destination.repository}{mark}"
            for rule in ended.complete
            for destination in rule.destinations
            for mark in ":@"
        )
        whole = {str(destination.repository) for rule in ended.complete for destination in rule.destinations}
        return frozenset(
            name
            for name in self._known
            if name not in failing and (name in done or name in whole or name.startswith(prefixes))
        )


def _is_due(known: KnownFailure, now: float) -> bool:
    # A time in the future was recorded before the clock was set back.
    return known.told is None or not 0 <= now - known.told < REMINDER_SECONDS
