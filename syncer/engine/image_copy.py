"""`ImageCopy`: one image on its way to one destination, and what has come of it so far."""

import time
from collections import Counter

import msgspec

from syncer.events import BlobCounts, Failure, ImageFailed, Observer
from syncer.oci.digest import Digest
from syncer.oci.reference import Reference
from syncer.rules.rule import Rule


class ImageCopy(msgspec.Struct, eq=False):
    """Shared by the tasks that bring the image.

    `previous` is what the destination's tag named before, `nbytes` what was pushed for it, `blobs` what became
    of its blobs, by outcome, `started` a reading of
    the monotonic clock, 0 before it begins.
    """

    rule: Rule
    source: Reference
    destination: Reference
    digest: Digest | None = None
    previous: Digest | None = None
    nbytes: int = 0
    blobs: Counter[str] = msgspec.field(default_factory=Counter)
    started: float = 0.0
    finished: bool = False

    def tell_failed(self, observer: Observer, failure: Failure) -> None:
        """Say that the image will not be at its destination, with the root cause."""
        self.finished = True
        observer.notify(
            ImageFailed(self.rule, self.source, self.destination, failure, self.digest, self.seconds)
        )

    def blob_counts(self) -> BlobCounts:
        return BlobCounts(**self.blobs)

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.started if self.started else 0.0
