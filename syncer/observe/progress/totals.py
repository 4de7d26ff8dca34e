"""The totals of a run, counted from its events."""

from collections import Counter

from syncer.events import (
    BlobCompleted,
    BytesMoved,
    ImageFailed,
    ImageSkipped,
    ImageSynced,
    RequestRetried,
    RequestSent,
    RunStarted,
    TagPruned,
)
from syncer.observe import words
from syncer.observers import Observer


class ImageTotals(Observer):
    """Counts the images of a run by outcome. The counts are reset when a new run starts."""

    def __init__(self) -> None:
        super().__init__()
        self._reset()

    def _reset(self) -> None:
        self.synced = self.skipped = self.failed = self.drifted = 0

    def on_run_started(self, _event: RunStarted) -> None:
        self._reset()

    def on_image_synced(self, _event: ImageSynced) -> None:
        self.synced += 1

    def on_image_skipped(self, event: ImageSkipped) -> None:
        self.skipped += 1
        self.drifted += event.drift

    def on_image_failed(self, _event: ImageFailed) -> None:
        self.failed += 1


class Totals(ImageTotals):
    """Counts the events of a run. The counts are reset when a new run starts."""

    def __init__(self) -> None:
        super().__init__()
        self.dry_run = False

    def _reset(self) -> None:
        super()._reset()
        self.blobs: Counter[str] = Counter()
        self.nbytes: Counter[str] = Counter()
        self.requests = self.retries = 0
        self.pruned = 0

    def on_run_started(self, event: RunStarted) -> None:
        super().on_run_started(event)
        self.dry_run = event.dry_run

    def on_tag_pruned(self, _event: TagPruned) -> None:
        self.pruned += 1

    def on_blob_completed(self, event: BlobCompleted) -> None:
        self.blobs[event.outcome] += 1

    def on_bytes_moved(self, event: BytesMoved) -> None:
        self.nbytes[event.direction] += event.nbytes

    def on_request_sent(self, _event: RequestSent) -> None:
        self.requests += 1

    def on_request_retried(self, _event: RequestRetried) -> None:
        self.retries += 1

    @property
    def done(self) -> int:
        """Number of finished images, including failed ones."""
        return self.synced + self.skipped + self.failed

    def as_fields(self) -> dict[str, int | dict[str, int]]:
        """Return the counts in the form of the report's `totals`. `drifted` images are also `skipped`."""
        images = {"synced": self.synced, "skipped": self.skipped, "failed": self.failed}
        return {
            "images": images | ({"drifted": self.drifted} if self.drifted else {}),
            "blobs": {name: self.blobs[name] for name in ("copied", "mounted", "present", "shared")},
            "bytes": {name: self.nbytes[name] for name in ("pulled", "pushed")},
            "requests": self.requests,
            "retries": self.retries,
        }

    def sentence(self) -> str:
        """Return the counts as one line."""
        blobs = ", ".join(f"{self.blobs[name]} {name}" for name in ("copied", "mounted", "present", "shared"))
        would = "would be " if self.dry_run else ""
        removed = f"{words.count(self.pruned, 'tag')} {would}removed; " if self.pruned else ""
        drifted = f" ({self.drifted} drifted)" if self.drifted else ""
        return (
            f"images: {self.synced} {would}synced, {self.skipped} skipped{drifted}, {self.failed} failed; "
            f"{removed}blobs: {blobs}; "
            f"{words.size(self.nbytes['pulled'])} pulled, {words.size(self.nbytes['pushed'])} pushed; "
            f"{words.count(self.requests, 'request')}, {words.count(self.retries, 'retry', 'retries')}"
        )
