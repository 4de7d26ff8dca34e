"""`Journal`: keeps waiting events in the state folder, from before their answer until their images are complete."""

import logging
import sqlite3
from collections.abc import Iterable, Mapping

import anyio
import anyio.to_thread

from syncer.events import ImageSkipped, ImageSynced, RunFinished
from syncer.observers import Observer
from syncer.oci.digest import Digest
from syncer.oci.reference import Reference
from syncer.rules.rule import Rule
from syncer.state.waiting_events import EventKey, WaitingEvents

_CLOSE_SECONDS = 2.0
_FORGET_SECONDS = 1.0
"""Seconds until events that are done are removed. Who is killed before asks once more for each."""

_log = logging.getLogger(__name__)


class Journal(Observer):
    """The events that wait, and those that a run has taken. Without a table, nothing is kept.

    `run` writes what was added, all that came meanwhile in one transaction. An event is removed when its image is
    complete, or at the end of the run that took it. What an interrupted run leaves is kept for the next start.
    """

    def __init__(self, table: WaitingEvents | None) -> None:
        super().__init__()
        self._table = table
        self._waiting: dict[EventKey, str] = {}
        self._taken: dict[EventKey, str] = {}
        self._changes: dict[EventKey, str | None] = {}
        self._added = anyio.Event()
        self._written = anyio.Event()
        self._writing: anyio.Event | None = None
        self._failing = False

    def load(self) -> Mapping[EventKey, str]:
        """Return the events that an earlier process left. They wait again. May block."""
        if self._table is None:
            return {}
        try:
            self._waiting = self._table.load()
        except sqlite3.Error as error:
            _log.error("cannot read the events that waited: %s", error)
        return dict(self._waiting)

    def put(self, events: Mapping[EventKey, str]) -> None:
        """Add events with the digests that they named."""
        if self._table is not None:
            self._waiting |= events
            self._changes |= events

    async def stored(self) -> None:
        """Return once all that was added is stored."""
        if self._changes:
            self._added.set()
            written = self._written
            await written.wait()
        elif self._writing is not None:
            await self._writing.wait()

    async def run(self) -> None:
        """Write changes, until cancelled."""
        if self._table is None:
            return
        try:
            while True:
                with anyio.move_on_after(_FORGET_SECONDS):
                    await self._added.wait()
                await self._write(self._table)
        finally:
            with anyio.move_on_after(_CLOSE_SECONDS, shield=True):
                await self._write(self._table)

    async def _write(self, table: WaitingEvents) -> None:
        changes, self._changes = self._changes, {}
        written, self._written = self._written, anyio.Event()
        self._writing = written
        self._added = anyio.Event()
        try:
            if changes:
                await anyio.to_thread.run_sync(table.save, changes, abandon_on_cancel=True)
            self._failing = False
        except BaseException as error:
            # The events are still in memory. If this is cancelled, nobody knows whether the thread stores them.
            self._changes = changes | self._changes
            if not isinstance(error, sqlite3.Error):
                raise
            if not self._failing:
                _log.error("cannot store waiting events: %s", error)
            self._failing = True
        finally:
            self._writing = None
            written.set()

    # --- what becomes of events -----------------------------------------------------------------------------------

    def take(self) -> None:
        """Record that a run takes all that waits."""
        self._taken |= self._waiting
        self._waiting = {}

    def put_back(self) -> None:
        """Record that no run took what `take` returned."""
        self._waiting = self._taken | self._waiting
        self._taken = {}

    def forget(self, keys: Iterable[EventKey]) -> None:
        """Remove events that no rule selects any more."""
        for key in keys:
            self._waiting.pop(key, None)
            self._remove([key])

    def on_run_finished(self, event: RunFinished) -> None:
        if event.outcome != "interrupted":
            self._remove(self._taken)
        self._taken = {}

    def on_image_synced(self, event: ImageSynced) -> None:
        self._complete(event.rule, event.source, event.source_digest or event.digest)

    def on_image_skipped(self, event: ImageSkipped) -> None:
        self._complete(event.rule, event.source, event.source_digest or event.digest)

    def _complete(self, rule: Rule, source: Reference, digest: Digest | None) -> None:
        # An image for several destinations, and an event without a digest, are removed at the end of the run.
        if self._taken and len(rule.destinations) == 1 and digest is not None:
            key = EventKey(rule.name, str(rule.source), source.tag or "")
            if self._taken.get(key) == str(digest):
                self._remove([key])
                del self._taken[key]

    def _remove(self, keys: Iterable[EventKey]) -> None:
        if self._table is not None:
            # A newer event of the same tag still waits.
            self._changes |= {key: None for key in keys if key not in self._waiting}
