"""What is known of a run at one moment: images done and to come, transfers, rates, time left.

No drawing in here, and no clock but the one that is handed in.
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
"""The kind of failure of what was not done because the run was stopped."""
LISTED_FAILURES = 10
_WINDOW = 5.0
"""Seconds that a rate is taken over."""
_LONG_WINDOW = 60.0
"""Seconds that the pace of images is taken over: they end in bursts."""
_LEAST_SECONDS = 4.0
_LEAST_IMAGES = 4
"""Before that, a time left would be a guess."""


class Pace:
    """How fast a number grows, over the last few seconds. Samples are taken when it is looked at."""

    def __init__(self, window: float = _WINDOW) -> None:
        self._window = window
        self._samples: deque[tuple[float, float]] = deque()

    def look(self, now: float, value: float) -> float:
        """Growth a second, with `value` reached at `now`. 0 while there is too little to tell."""
        samples = self._samples
        samples.append((now, value))
        while len(samples) > 2 and samples[1][0] <= now - self._window:
            samples.popleft()
        start, first = samples[0]
        return (value - first) / (now - start) if now > start else 0.0


class Transfer(msgspec.Struct):
    """A blob on its way: `moved` of `whole` bytes have come. `sharing` downloads of it run at once."""

    digest: Digest
    size: int
    source: Repository
    moved: int = 0
    sharing: int = 1
    pace: Pace = msgspec.field(default_factory=Pace)

    @property
    def whole(self) -> int:
        """Bytes, or -1 where nobody says how many."""
        return self.size * self.sharing if self.size >= 0 else -1


class _Rule(msgspec.Struct):
    """How many images a rule means, as far as one can know."""

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
    """The run as its events tell it. Rates are taken when they are asked for."""

    def __init__(self, clock: Clock = time.monotonic) -> None:
        self._clock = clock
        super().__init__()

    def _reset(self) -> None:
        super()._reset()
        self.started = self._clock()
        self.finished: RunFinished | None = None
        self.round = 0
        self.interrupted = 0
        # Where the rows of the picture are: a transfer keeps its row until it ends.
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
            # The same blob for another registry.
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
        """Images known so far, each at one destination. A rule that was not heard of has one, for all we know."""
        return self._known + self._unheard

    @property
    def _unheard(self) -> int:
        return max(0, self._announced - len(self._rules))

    @property
    def transfers(self) -> list[Transfer]:
        return [slot for slot in list(self.slots) if slot is not None]

    @property
    def moved(self) -> int:
        """Bytes that have come from sources, with those of transfers that still run."""
        return self.nbytes["pulled"] + sum(transfer.moved for transfer in self.transfers)

    @property
    def elapsed(self) -> float:
        return self.finished.seconds if self.finished else self._clock() - self.started

    def speed(self) -> float:
        """Bytes a second over the last few seconds."""
        return self._bytes_pace.look(self._clock(), self.moved)

    def speed_of(self, transfer: Transfer) -> float:
        return transfer.pace.look(self._clock(), transfer.moved)

    def average(self) -> float:
        """Bytes a second over the whole run."""
        return self.moved / self.elapsed if self.elapsed > 0 else 0.0

    def time_left(self, speed: float) -> float | None:
        """Seconds, with bytes coming at `speed`; None while that would be a guess."""
        done, left = self.done, self.total - self.done
        pace = self._images_pace.look(self._clock(), done)
        if self._listed and self._unheard:
            # Some rules still hide how many images they mean.
            return None
        if left <= 0 or pace <= 0 or done < _LEAST_IMAGES or self.elapsed < _LEAST_SECONDS:
            return None
        waiting = sum(max(0, transfer.whole - transfer.moved) for transfer in self.transfers)
        return max(left / pace, waiting / speed if speed > 0 else 0.0)
