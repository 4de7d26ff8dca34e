"""`ImageCopy`: the state of copying one image to one destination."""

import time
from collections import Counter
from collections.abc import Mapping, Sequence

import msgspec

from syncer.engine.platform_filter import WITHOUT_ATTESTATIONS, IndexFilter
from syncer.engine.task import Job, Key, Priority
from syncer.errors import Attempt, Kind, RegistryError
from syncer.events import BlobCounts, Failure, ImageFailed, ImageSkipped, SkipReason
from syncer.observers import Observer
from syncer.oci import media_types
from syncer.oci.digest import Digest
from syncer.oci.manifest import Manifest
from syncer.oci.reference import Reference, Repository
from syncer.rules.attestations import Attestations
from syncer.rules.rule import Rule

MAX_MANIFESTS = 20_000
"""Number of manifests of one image: its index and all children."""
MAX_REFERENCES = 50_000
"""Number of blobs and children that these manifests refer to."""
MAX_MANIFEST_BYTES = 128 * 1024 * 1024


class ImageBudget(msgspec.Struct):
    """Counts the manifests of one image, so that a hostile index cannot exhaust the memory."""

    manifests: int = 0
    references: int = 0
    nbytes: int = 0

    def charge(self, manifest: Manifest, source: Repository) -> None:
        """Count one more manifest. Raises `RegistryError` if the image exceeds a limit."""
        self.manifests += 1
        self.references += len(manifest.blobs) + len(manifest.children)
        self.nbytes += len(manifest.raw)
        self.check(source)

    def check(self, source: Repository) -> None:
        """Raises `RegistryError` if the image exceeds a limit."""
        for count, most, what in (
            (self.manifests, MAX_MANIFESTS, "manifests"),
            (self.references, MAX_REFERENCES, "references to blobs and manifests"),
            (self.nbytes, MAX_MANIFEST_BYTES, "bytes of manifests"),
        ):
            if count > most:
                raise RegistryError(
                    Kind.TOO_LARGE,
                    f"the image has more than {most} {what}, the limit for one image",
                    attempt=Attempt(source.host, "GET", "manifest", f"manifests of {source}"),
                )


class ImageCopy(msgspec.Struct, eq=False):
    """State shared by the tasks that copy one image.

    `attestations` is the destination's setting. `source_digest` is the source's digest if the index is rewritten.
    `previous` is the digest of the destination's tag before the copy, and `previous_type` its media type. `nbytes` is the
    number of bytes pushed, `blobs` the number of blobs by outcome. `started` is a reading of the monotonic clock in
    seconds, 0 before the copy begins. `budget` counts the image's manifests. `priority` is that of all its tasks.
    `announced` is the digest that an event named for the source's tag. `awaited_referrers` are the manifests that
    are copied because they refer to the image, `referrers` the number of them that were pushed.
    """

    rule: Rule
    source: Reference
    destination: Reference
    digest: Digest | None = None
    previous: Digest | None = None
    previous_type: str = ""
    nbytes: int = 0
    blobs: Counter[str] = msgspec.field(default_factory=Counter)
    started: float = 0.0
    finished: bool = False
    budget: ImageBudget = msgspec.field(default_factory=ImageBudget)
    attestations: Attestations = Attestations.AUTO
    source_digest: Digest | None = None
    priority: Priority = Priority.NORMAL
    announced: Digest | None = None
    awaited_referrers: set[Digest] = msgspec.field(default_factory=set)
    referrers: int = 0

    @property
    def filter(self) -> IndexFilter:
        """What is left of an index at the destination."""
        return IndexFilter.of(self.rule.platforms, self.attestations)

    @property
    def may_lose_attestations(self) -> bool:
        """Whether the image may go to the destination without its attestations where that refuses them."""
        return self.attestations is Attestations.AUTO and self.filter.keeps_attestations

    @property
    def filters(self) -> Sequence[IndexFilter]:
        """The filter, and the one by which an earlier run may have had to bring the image."""
        return (self.filter, WITHOUT_ATTESTATIONS) if self.may_lose_attestations else (self.filter,)

    @property
    def is_single_there(self) -> bool:
        """Whether the destination is known to have a single image, and not an index."""
        return bool(self.previous_type) and self.previous_type not in media_types.INDEXES

    def count_pushed(self, digest: Digest, nbytes: int) -> None:
        """Count a manifest of `nbytes` bytes that was pushed for this image."""
        self.nbytes += nbytes
        self.referrers += digest in self.awaited_referrers

    def tell_skipped(self, observer: Observer, reason: SkipReason, wanted: Digest | None = None) -> None:
        """Notify `observer` that the destination keeps what it has. `wanted` is what it should have instead."""
        self.finished = True
        observer.notify(
            ImageSkipped(
                self.rule,
                self.source,
                self.destination,
                self.digest,
                reason,
                self.seconds,
                self.source_digest,
                wanted,
                self.referrers,
            )
        )

    def tell_failed(self, observer: Observer, failure: Failure) -> None:
        """Notify `observer` that the copy failed, with the root cause."""
        self.finished = True
        observer.notify(
            ImageFailed(self.rule, self.source, self.destination, failure, self.digest, self.seconds)
        )

    def blob_counts(self) -> BlobCounts:
        return BlobCounts(**self.blobs)

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.started if self.started else 0.0


def add_referrers(
    job: Job, copies: Sequence[ImageCopy], index: Manifest | None = None
) -> Mapping[ImageCopy, Sequence[Key]]:
    """Add tasks for what refers to an image, if a rule wants them. Return the keys that each copy must wait for."""
    if all(copy.rule.referrers is None for copy in copies):
        return {}
    from syncer.engine.referrers import add_image_referrers

    return add_image_referrers(job, copies, index)
