"""Finished runs, and what is known of earlier ones."""

from collections.abc import Iterable
from typing import Literal

import pytest

from syncer.events import Failure, ImageFailed, ImageSynced, RunFinished, RunStarted
from syncer.notify.changes import Ended, FailureWatch
from syncer.notify.message import Notification, compose
from syncer.observe.report import ReportObserver
from syncer.oci.digest import Digest
from syncer.oci.reference import Reference, Repository
from syncer.state.database import open_database
from syncer.state.failures import FailureTable
from tests.support.chat import chat_server
from tests.support.rules import numbered

Outcome = Literal["success", "partial", "failure", "interrupted"]
TUESDAY = 1_795_489_200.0
"""2026-11-24 03:00 UTC, a Tuesday."""
HOUR = 3600.0


@pytest.fixture
def chat():
    with chat_server() as server:
        yield server


class Clock:
    """A clock that a test sets, in Unix seconds."""

    def __init__(self) -> None:
        self.time = TUESDAY

    def __call__(self) -> float:
        return self.time


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def database():
    opened = open_database(None)
    yield opened
    opened.close()


@pytest.fixture
def watch(database, clock):
    return FailureWatch(FailureTable(database), now=clock)


def image(tag: str, host: str = "to.test") -> Reference:
    return Reference(Repository(host, "app"), tag)


def ended(
    outcome: Outcome | None = None,
    *,
    failed: Iterable[str] = (),
    synced: Iterable[str] = (),
    message: str = "no such image",
    kind: str = "not_found",
    error: str = "",
    whole: bool = True,
) -> Ended:
    """A run in which these tags failed or were copied. `whole` is whether it copied its rule as a whole."""
    failed, synced = list(failed), list(synced)
    outcome = outcome or ("success" if not failed else "partial" if synced else "failure")
    report = ReportObserver()
    report.notify(RunStarted("r1", "schedule", 1))
    for tag in failed:
        failure = Failure(kind, message, "source.test", 404)
        report.notify(ImageFailed(numbered(0), image(tag, "source.test"), image(tag), failure))
    digest = Digest("sha256:" + "0" * 64)
    for tag in synced:
        report.notify(
            ImageSynced(
                rule=numbered(0),
                source=image(tag, "source.test"),
                destination=image(tag),
                digest=digest,
                previous=None,
                nbytes=1,
                seconds=1.0,
            )
        )
    report.notify(RunFinished("r1", "schedule", outcome, 1.0))
    summary = report.run() | {"totals": report.totals()} | ({"error": error} if error else {})
    return Ended(summary, report, [numbered(0)] if whole and outcome == "success" else [])


def notification(
    run: Ended, watch: FailureWatch, *, occasion: str = "failure", link: str = ""
) -> Notification:
    """The notification about a run, which is recorded."""
    changes = watch.compare(run)
    watch.record(changes, told=True)
    return compose(occasion, run, changes, link=link)
