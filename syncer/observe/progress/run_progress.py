"""The current state of a run: finished and expected images, transfers, rates, time left.

This module draws nothing, and uses only the clock that is passed to it.
"""

import time
from collections import deque
from collections.abc import Callable

import msgspec

from syncer.events import (
    BlobFinished,
    BlobProgress,
    BlobStarted,
    Failure,
    ImageFailed,
    ImageSkipped,
    ImageStarted,
    ImageSynced,
    RoundStarted,
    RuleWarning,
    RunFinished,
    RunStarted,
    TagsListed,
)
from syncer.observe.progress.totals import Totals
from syncer.oci.digest import Digest
from syncer.oci.reference import Reference, Repository

Clock = Callable[[], float]
Ended = ImageSynced | ImageSkipped | ImageFailed

INTERRUPTED = "interrupted"
"""The failure kind of images that were not finished because the run was stopped."""
LISTED_FAILURES = 10
_WINDOW = 5.0
"""Seconds over which a rate is averaged."""
_LONG_WINDOW = 60.0
"""Seconds over which the rate of images is averaged. It is longer because images finish in bursts."""
_LEAST_SECONDS = 4.0
_LEAST_IMAGES = 4
"""Before this, the time left cannot be estimated."""


class Pace:
    """The growth rate of a number over the last few seconds. Each call of `look` adds a sample."""

    def __init__(self, window: float = _WINDOW) -> None:
        self._window = window
        self._samples: deque[tuple[float, float]] = deque()

    def look(self, now: float, value: float) -> float:
        """Add the sample `value` at `now` and return the growth per second, or 0 if there are too few samples."""
        samples = self._samples
        samples.append((now, value))
        while len(samples) > 2 and samples[1][0] <= now - self._window:
            samples.popleft()
        start, first = samples[0]
        return (value - first) / (now - start) if now > start else 0.0


class Transfer(msgspec.Struct):
    """A blob transfer: `moved` of `whole` bytes are downloaded, by `sharing` concurrent downloads of the blob."""

    digest: Digest
    size: int
    source: Repository
    moved: int = 0
    sharing: int = 1
    pace: Pace = msgspec.field(default_factory=Pace)

    @property
    def whole(self) -> int:
        """Total bytes, or -1 if the size is not known."""
        return self.size * self.sharing if self.size >= 0 else -1


class _Rule(msgspec.Struct):
    """The known or estimated number of images of a rule."""

    selected: int = 0
    seen: int = 0
    places: set[Repository] = msgspec.field(default_factory=set)

    @property
    def images(self) -> int:
        return max(self.selected * max(1, len(self.places)), self.seen)


class FailedImage(msgspec.Struct, frozen=True):
    source: Reference
    destination: Reference
    failure: Failure


class RunProgress(Totals):
    """The state of a run, derived from its events. Rates are computed on request."""

    def __init__(self, clock: Clock = time.monotonic) -> None:
        self._clock = clock
        super().__init__()

    def _reset(self) -> None:
        super()._reset()
        self.started = self._clock()
        self.finished: RunFinished | None = None
        self.round = 0
        self.interrupted = 0
        # The rows of the display: a transfer keeps its row until it ends.
        self.slots: list[Transfer | None] = []
        self.failures: list[FailedImage] = []
        self._announced = 0
        self._known = 0
        self._listed = False
        self._rules: dict[int, _Rule] = {}
        self._open: set[tuple[Reference, Reference]] = set()
        self._transfers: dict[Digest, Transfer] = {}
        self._bytes_pace = Pace()
        self._images_pace = Pace(_LONG_WINDOW)

    # --- events -------------------------------------------------------------------------------------------------

    def on_run_started(self, event: RunStarted) -> None:
        super().on_run_started(event)
        self._announced = event.rules
        self._bytes_pace.look(self.started, 0)
        self._images_pace.look(self.started, 0)

    def on_run_finished(self, event: RunFinished) -> None:
        self.finished = event

    def on_round_started(self, event: RoundStarted) -> None:
        self.round = event.number

    def on_rule_warning(self, event: RuleWarning) -> None:
        self._learn(event.rule.number)

    def on_tags_listed(self, event: TagsListed) -> None:
        self._listed = True
        self._learn(event.rule.number, selected=event.selected)

    def on_image_started(self, event: ImageStarted) -> None:
        for destination in event.destinations:
            image = (event.source, destination)
            if image not in self._open:
                self._open.add(image)
                self._learn(event.rule.number, seen=destination.repository)

    def on_image_synced(self, event: ImageSynced) -> None:
        super().on_image_synced(event)
        self._ended(event)

    def on_image_skipped(self, event: ImageSkipped) -> None:
        super().on_image_skipped(event)
        self._ended(event)

    def on_image_failed(self, event: ImageFailed) -> None:
        super().on_image_failed(event)
        self._ended(event)
        self.interrupted += event.failure.kind == INTERRUPTED
        if len(self.failures) < LISTED_FAILURES:
            self.failures.append(FailedImage(event.source, event.destination, event.failure))

    def _ended(self, event: Ended) -> None:
        image = (event.source, event.destination)
        if image in self._open:
            self._open.discard(image)
        else:
            self._learn(event.rule.number, seen=event.destination.repository)

    def _learn(self, number: int, *, selected: int = 0, seen: Repository | None = None) -> None:
        rule = self._rules.setdefault(number, _Rule())
        self._known -= rule.images
        rule.selected = selected or rule.selected
        if seen is not None:
            rule.seen += 1
            rule.places.add(seen)
        self._known += rule.images

    def on_blob_started(self, event: BlobStarted) -> None:
        if running := self._transfers.get(event.digest):
            # Another download of the same blob, for another registry.
            running.sharing += 1
            return
        transfer = Transfer(event.digest, event.size, event.source)
        transfer.pace.look(self._clock(), 0)
        self._transfers[event.digest] = transfer
        if None in self.slots:
            self.slots[self.slots.index(None)] = transfer
        else:
            self.slots.append(transfer)

    def on_blob_progress(self, event: BlobProgress) -> None:
        if transfer := self._transfers.get(event.digest):
            transfer.moved += event.nbytes

    def on_blob_finished(self, event: BlobFinished) -> None:
        transfer = self._transfers.get(event.digest)
        if transfer is None:
            return
        if transfer.sharing > 1:
            transfer.sharing -= 1
            transfer.moved = max(0, transfer.moved - max(0, transfer.size))
        else:
            del self._transfers[event.digest]
            self.slots[self.slots.index(transfer)] = None
            while self.slots and self.slots[-1] is None:
                self.slots.pop()

    # --- looking ------------------------------------------------------------------------------------------------

    @property
    def total(self) -> int:
        """Number of images known so far, counted per destination. A rule without events counts as one image."""
        return self._known + self._unheard

    @property
    def _unheard(self) -> int:
        return max(0, self._announced - len(self._rules))

    @property
    def transfers(self) -> list[Transfer]:
        return [slot for slot in list(self.slots) if slot is not None]

    @property
    def moved(self) -> int:
        """Bytes downloaded from sources, including running transfers."""
        return self.nbytes["pulled"] + sum(transfer.moved for transfer in self.transfers)

    @property
    def elapsed(self) -> float:
        return self.finished.seconds if self.finished else self._clock() - self.started

    def speed(self) -> float:
        """Return the bytes per second over the last few seconds."""
        return self._bytes_pace.look(self._clock(), self.moved)

    def speed_of(self, transfer: Transfer) -> float:
        return transfer.pace.look(self._clock(), transfer.moved)

    def average(self) -> float:
        """Return the bytes per second over the whole run."""
        return self.moved / self.elapsed if self.elapsed > 0 else 0.0

    def time_left(self, speed: float) -> float | None:
        """Return the seconds left at `speed` bytes per second, or None if they cannot be estimated yet."""
        done, left = self.done, self.total - self.done
        pace = self._images_pace.look(self._clock(), done)
        if self._listed and self._unheard:
            # The number of images is not known yet for some rules.
            return None
        if left <= 0 or pace <= 0 or done < _LEAST_IMAGES or self.elapsed < _LEAST_SECONDS:
            return None
        waiting = sum(max(0, transfer.whole - transfer.moved) for transfer in self.transfers)
        return max(left / pace, waiting / speed if speed > 0 else 0.0)
