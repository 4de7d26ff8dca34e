"""What happens during a run, as small frozen records, and `Observer`: whoever takes them.

Everyone may import this module but the formats and the rules, which it imports. Times are seconds, sizes are bytes.
"""

import logging
from collections.abc import Callable, Iterable
from enum import StrEnum
from typing import Any, Literal

import msgspec
from msgspec.structs import force_setattr

from syncer import untrusted
from syncer.oci.digest import Digest
from syncer.oci.reference import Reference, Repository
from syncer.rules.rule import Rule

_log = logging.getLogger(__name__)


class Event(msgspec.Struct, frozen=True, gc=False):
    """One thing that happened. Structs, since there is one for every request."""


class Failure(Event, frozen=True):
    """Why something failed, ready for a report: `kind` is one of the contract's error kinds."""

    kind: str
    message: str
    registry: str = ""
    status: int | None = None
    permanent: bool = False


# --- the run -------------------------------------------------------------------------------------------------


class RunStarted(Event, frozen=True):
    run_id: str
    trigger: str
    rules: int
    dry_run: bool = False
    shard: str = ""  # such as 1/4; empty where one process does all


class RunFinished(Event, frozen=True):
    run_id: str
    trigger: str
    outcome: Literal["success", "partial", "failure", "interrupted"]
    seconds: float


class RoundStarted(Event, frozen=True):
    """The deferred tasks are tried again: round 1 is the first retry round."""

    number: int
    tasks: int


class RuleWarning(Event, frozen=True):
    """A rule that is fine but does nothing, or not all that one might think."""

    rule: Rule
    message: str


class TagsListed(Event, frozen=True):
    """A rule's source was listed: `selected` tags are wanted of `found`."""

    rule: Rule
    source: Repository
    found: int
    selected: int


# --- images --------------------------------------------------------------------------------------------------


class ImageStarted(Event, frozen=True):
    rule: Rule
    source: Reference
    destinations: tuple[Reference, ...]


class BlobCounts(Event, frozen=True):
    """What became of the blobs of one image at one destination."""

    copied: int = 0
    mounted: int = 0
    present: int = 0
    shared: int = 0


class IndexFiltered(Event, frozen=True):
    """Entries of an index are dropped, for their platform or as attestations: what is pushed has another digest."""

    rule: Rule
    source: Reference
    digest: Digest
    filtered: Digest
    kept: tuple[str, ...]
    dropped: tuple[str, ...]

    def __post_init__(self) -> None:
        # An index may say anything in place of a platform.
        for name in ("kept", "dropped"):
            force_setattr(self, name, tuple(map(untrusted.clean, getattr(self, name))))


class ImageSynced(Event, frozen=True):
    """The tag is written. `nbytes` were pushed for it, blobs and manifests; `previous` is what the tag named.

    `unverified` says that only a mirror vouches for it. `source_digest` is the source's, where the index was rewritten.
    In a dry run, all this is what would be.
    """

    rule: Rule
    source: Reference
    destination: Reference
    digest: Digest
    previous: Digest | None
    nbytes: int
    seconds: float
    blobs: BlobCounts = BlobCounts()
    unverified: bool = False
    source_digest: Digest | None = None


class SkipReason(StrEnum):
    """Why an image is left as it is at a destination."""

    UP_TO_DATE = "up_to_date"
    KEPT = "kept"
    """The rule never overwrites a tag."""
    NO_PLATFORM = "no_platform"
    """The platform filter leaves nothing of it."""
    IMMUTABLE = "immutable"
    """The tag cannot be written, and names the same images in other bytes."""


class ImageSkipped(Event, frozen=True):
    """Nothing to do. `digest` is what the destination has, None where it has nothing.

    `source_digest` is the source's, where the destination has a rewritten index.
    """

    rule: Rule
    source: Reference
    destination: Reference
    digest: Digest | None
    reason: SkipReason
    seconds: float = 0.0
    source_digest: Digest | None = None


class ImageFailed(Event, frozen=True):
    """`destination` and `source` have no tag where a rule's tags could not be listed."""

    rule: Rule
    source: Reference
    destination: Reference
    failure: Failure
    digest: Digest | None = None
    seconds: float = 0.0


# --- blobs ---------------------------------------------------------------------------------------------------


class BlobStarted(Event, frozen=True):
    """A transfer begins; `size` is -1 where the manifest does not say."""

    digest: Digest
    size: int
    source: Repository
    destinations: tuple[Repository, ...]


class BlobProgress(Event, frozen=True):
    """`nbytes` more of a transfer have come from the source."""

    digest: Digest
    nbytes: int


class BlobFinished(Event, frozen=True):
    """A transfer ended, well or not."""

    digest: Digest
    ok: bool


class BlobCompleted(Event, frozen=True):
    """A blob is in a repository: `copied` there, `mounted` from another, `present` before, or `shared`: brought by another image of the run.

    `size` is in bytes, -1 where only a manifest of schema 1 told of it.
    """

    outcome: Literal["copied", "mounted", "present", "shared"]
    digest: Digest
    size: int
    destination: Repository


class BytesMoved(Event, frozen=True):
    """Bytes of a blob or a manifest over the wire: `pulled` from or `pushed` to a registry."""

    direction: Literal["pulled", "pushed"]
    registry: str
    nbytes: int
    content: Literal["blob", "manifest"] = "blob"


# --- tasks ---------------------------------------------------------------------------------------------------


class TaskEnded(Event, frozen=True):
    kind: str
    outcome: Literal["done", "failed", "retried"]
    label: str
    failure: Failure | None = None


# --- requests ------------------------------------------------------------------------------------------------


class RequestSent(Event, frozen=True):
    """A request was answered or broke off (`status` 0). `target` is the path, without query."""

    registry: str
    method: str
    endpoint: str
    target: str
    status: int
    seconds: float


class RequestRetried(Event, frozen=True):
    registry: str
    reason: Literal["timeout", "connection", "throttled", "server_error", "token"]
    wait: float


class RateLimitSeen(Event, frozen=True):
    registry: str
    account: str
    remaining: int


class QuotaLow(Event, frozen=True):
    """Few pulls are left to an account: the next ones are spread over what remains of the period, `wait` apart."""

    registry: str
    account: str
    remaining: int
    wait: float


class ConcurrencyChanged(Event, frozen=True):
    """So many requests may run at once at a registry from now on, in all accounts' names together."""

    registry: str
    limit: int


class ProjectMade(Event, frozen=True):
    """A project that was missing at a registry was made; in a dry run, it would be."""

    registry: str
    project: str


class Decision(Event, frozen=True):
    """Why something was done or left: for the debug log."""

    subject: str
    message: str


class Observer:
    """Takes events: an event of class `ImageSynced` goes to the method `on_image_synced`, if there is one."""

    def __init__(self) -> None:
        self._handlers: dict[type, Callable[[Any], None] | None] = {}

    def notify(self, event: object) -> None:
        """Hand one event to the method that is named after it."""
        kind = type(event)
        try:
            handler = self._handlers[kind]
        except KeyError:
            handler = self._handlers[kind] = getattr(self, _method_name(kind.__name__), None)
        if handler is not None:
            handler(event)


class Observers(Observer):
    """Several observers as one."""

    def __init__(self, observers: Iterable[Observer]) -> None:
        super().__init__()
        self.observers = tuple(observers)
        self._failed: list[Observer] = []

    def notify(self, event: object) -> None:
        for observer in self.observers:
            try:
                observer.notify(event)
            except Exception:  # noqa: BLE001
                # Whoever looks on must not change what happens. Told once: events come by the thousand.
                if observer not in self._failed:
                    self._failed.append(observer)
                    _log.exception("%s failed at %s", type(observer).__name__, type(event).__name__)


def _method_name(class_name: str) -> str:
    words = "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in class_name)
    return f"on{words}"
