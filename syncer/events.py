"""What happens during a run, as small frozen records, and `Observer`: whoever takes them.

Everyone may import this module; it imports only the formats. Times are seconds, sizes are bytes.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal

from syncer.oci.digest import Digest
from syncer.oci.reference import Reference, Repository


@dataclass(frozen=True, slots=True)
class Failure:
    """Why something failed, ready for a report: `kind` is one of the contract's error kinds."""

    kind: str
    message: str
    registry: str = ""
    status: int | None = None
    permanent: bool = False


# --- the run -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RunStarted:
    run_id: str
    trigger: str
    rules: int


@dataclass(frozen=True, slots=True)
class RunFinished:
    run_id: str
    trigger: str
    outcome: Literal["success", "partial", "failure", "interrupted"]
    seconds: float


@dataclass(frozen=True, slots=True)
class RoundStarted:
    """The put-aside tasks are tried again: round 1 is the first retry round."""

    number: int
    tasks: int


@dataclass(frozen=True, slots=True)
class RuleWarning:
    """A rule that is fine but does nothing, or not all that one might think."""

    rule: int
    message: str


@dataclass(frozen=True, slots=True)
class TagsListed:
    """A rule's source was listed: `selected` tags are wanted of `found`."""

    rule: int
    source: Repository
    found: int
    selected: int


# --- images --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ImageStarted:
    rule: int
    source: Reference
    destinations: tuple[Reference, ...]


@dataclass(frozen=True, slots=True)
class ImageSynced:
    """The tag is written. `nbytes` were pushed for it, blobs and manifests; `previous` is what the tag named."""

    rule: int
    source: Reference
    destination: Reference
    digest: Digest
    previous: Digest | None
    nbytes: int
    seconds: float


@dataclass(frozen=True, slots=True)
class ImageSkipped:
    """Nothing to do; `reason` says why ("up to date", "no platform left")."""

    rule: int
    source: Reference
    destination: Reference
    digest: Digest | None
    reason: str
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class ImageFailed:
    """`destination` and `source` have no tag where a rule's tags could not be listed."""

    rule: int
    source: Reference
    destination: Reference
    failure: Failure
    digest: Digest | None = None
    seconds: float = 0.0


# --- blobs ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class BlobStarted:
    """A transfer begins; `size` is -1 where the manifest does not say."""

    digest: Digest
    size: int
    source: Repository
    destinations: tuple[Repository, ...]


@dataclass(frozen=True, slots=True)
class BlobProgress:
    """`nbytes` more of a transfer have come from the source."""

    digest: Digest
    nbytes: int


@dataclass(frozen=True, slots=True)
class BlobFinished:
    """A transfer ended, well or not."""

    digest: Digest
    ok: bool


@dataclass(frozen=True, slots=True)
class BlobPlaced:
    """A blob is in a repository: `copied` there, `mounted` from another, `present` before, or `shared`: brought by another image of the run."""

    outcome: Literal["copied", "mounted", "present", "shared"]
    digest: Digest
    size: int
    destination: Repository


@dataclass(frozen=True, slots=True)
class BytesMoved:
    """Blob and manifest bytes over the wire: `pulled` from or `pushed` to a registry."""

    direction: Literal["pulled", "pushed"]
    registry: str
    nbytes: int


# --- tasks ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class TaskEnded:
    kind: str
    outcome: Literal["done", "failed", "retried"]
    label: str
    failure: Failure | None = None


# --- requests ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RequestSent:
    """A request was answered or broke off (`status` 0). `target` is the path, without query."""

    registry: str
    method: str
    endpoint: str
    target: str
    status: int
    seconds: float


@dataclass(frozen=True, slots=True)
class RequestRetried:
    registry: str
    reason: Literal["timeout", "connection", "throttled", "server_error", "token"]
    wait: float


@dataclass(frozen=True, slots=True)
class RateLimitSeen:
    registry: str
    account: str
    remaining: int


@dataclass(frozen=True, slots=True)
class Decision:
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

    def notify(self, event: object) -> None:
        for observer in self.observers:
            observer.notify(event)


def _method_name(class_name: str) -> str:
    words = "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in class_name)
    return f"on{words}"
