"""Events of a run, for the observers in `syncer.observers`.

Every module may import this one, except `syncer.oci` and `syncer.rules`, which it imports itself. Times are in
seconds, sizes in bytes.
"""

from enum import StrEnum
from typing import Literal

import msgspec
from msgspec.structs import force_setattr

from syncer import untrusted
from syncer.oci.digest import Digest
from syncer.oci.reference import Reference, Repository
from syncer.rules.rule import Rule
from syncer.rules.tag_filter import Step, show_steps


class Event(msgspec.Struct, frozen=True, gc=False):
    """Base class of all events. Events are structs because there is at least one for each request."""


class Failure(Event, frozen=True):
    """The reason for a failure, for reports. `kind` is one of `syncer.errors.Kind`."""

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
    shard: str = ""  # such as 1/4; empty if there is only one shard


class RunFinished(Event, frozen=True):
    run_id: str
    trigger: str
    outcome: Literal["success", "partial", "failure", "interrupted"]
    seconds: float


class RoundStarted(Event, frozen=True):
    """The deferred tasks are retried. Round 1 is the first retry round."""

    number: int
    tasks: int


class RuleWarning(Event, frozen=True):
    """A valid rule that has no effect, or not the expected one."""

    rule: Rule
    message: str


class TagsListed(Event, frozen=True):
    """The tags of a rule's source were listed. The rule selects `selected` of `found` tags.

    `steps` are the steps of the key `tags`, if the rule has it.
    """

    rule: Rule
    source: Repository
    found: int
    selected: int
    steps: tuple[Step, ...] = ()

    @property
    def steps_text(self) -> str:
        """The number of tags that each step left: `1,204 tags → include 310 → latest 5`."""
        return show_steps(self.found, self.steps)


# --- images --------------------------------------------------------------------------------------------------


class RepositoriesListed(Event, frozen=True):
    """The repositories for a rule with a pattern were listed: `found` are listed, `selected` are copied.

    `method` is how, such as "Harbor's API". `warning` is what the list may lack, with advice; empty if nothing.
    """

    rule: Rule
    method: str
    found: int
    selected: int
    warning: str = ""


class ImageStarted(Event, frozen=True):
    rule: Rule
    source: Reference
    destinations: tuple[Reference, ...]


class BlobCounts(Event, frozen=True):
    """The number of an image's blobs at one destination, by outcome."""

    copied: int = 0
    mounted: int = 0
    present: int = 0
    shared: int = 0


class IndexFiltered(Event, frozen=True):
    """A filter removed entries of an index: platforms or attestations. The pushed index has another digest."""

    rule: Rule
    source: Reference
    digest: Digest
    filtered: Digest
    kept: tuple[str, ...]
    dropped: tuple[str, ...]

    def __post_init__(self) -> None:
        # The platforms in an index are untrusted text.
        for name in ("kept", "dropped"):
            force_setattr(self, name, tuple(map(untrusted.clean, getattr(self, name))))


class ImageSynced(Event, frozen=True):
    """The tag was written. `nbytes` of blobs and manifests were pushed. `previous` is the tag's former digest.

    `unverified` is set if only a mirror confirmed the digest. `source_digest` is the source's digest if the index was
    rewritten. `referrers` is the number of referrers that were pushed. In a dry run, the fields describe what would be
    done.
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
    referrers: int = 0


class SkipReason(StrEnum):
    """Why an image is not written to a destination."""

    UP_TO_DATE = "up_to_date"
    KEPT = "kept"
    """The rule does not overwrite the tag, and the source has another image: drift."""
    NO_PLATFORM = "no_platform"
    """The platform filter removes every entry."""
    COMPLETE = "complete"
    """An audit found all parts of the image at the destination."""
    REPAIRED = "repaired"
    """An audit found parts missing, and copied them."""
    IMMUTABLE = "immutable"
    """The tag is immutable: the rule says so and the destination lists it, or its index has the same images but another
    digest."""


class ImageSkipped(Event, frozen=True):
    """The image was not written. `digest` is the digest at the destination, None if there is none.

    It is not known if no side was asked, because the destination lists an immutable tag. `source_digest` is the source's
    digest if the destination has a rewritten index. `wanted` is the digest that a copy would have had, if the rule keeps
    another one. `referrers` is the number of referrers that were pushed.
    """

    rule: Rule
    source: Reference
    destination: Reference
    digest: Digest | None
    reason: SkipReason
    seconds: float = 0.0
    source_digest: Digest | None = None
    wanted: Digest | None = None
    referrers: int = 0

    @property
    def drift(self) -> bool:
        """Whether the destination keeps another image than the source has."""
        return self.wanted is not None


class ImageFailed(Event, frozen=True):
    """The image failed. `destination` and `source` have no tag if the rule's tags could not be listed."""

    rule: Rule
    source: Reference
    destination: Reference
    failure: Failure
    digest: Digest | None = None
    seconds: float = 0.0


# --- pruning -------------------------------------------------------------------------------------------------


class TagPruned(Event, frozen=True):
    """A tag was removed from a destination, or would be in a dry run. `rule` is one of those that no longer select it."""

    rule: Rule
    destination: Reference
    digest: Digest
    reason: str


class TagKept(Event, frozen=True):
    """A tag that no rule selects stays at a destination."""

    rule: Rule
    destination: Reference
    reason: str


class PruneHeld(Event, frozen=True):
    """Nothing is removed from a repository, although a rule has `prune`."""

    rule: Rule
    repository: Repository
    reason: str


class PruneFailed(Event, frozen=True):
    """A tag could not be removed."""

    rule: Rule
    destination: Reference
    digest: Digest
    failure: Failure


# --- blobs ---------------------------------------------------------------------------------------------------


class BlobStarted(Event, frozen=True):
    """A transfer begins. `size` is -1 if it is not known."""

    digest: Digest
    size: int
    source: Repository
    destinations: tuple[Repository, ...]


class BlobProgress(Event, frozen=True):
    """Another `nbytes` of a transfer were read from the source."""

    digest: Digest
    nbytes: int


class BlobFinished(Event, frozen=True):
    """A transfer ended, with or without an error."""

    digest: Digest
    ok: bool


class BlobCompleted(Event, frozen=True):
    """A blob is in a repository.

    It was `copied`, `mounted` from another repository, `present` before the run, or `shared`: copied for another image
    of the run. `size` is in bytes, -1 if it is not known (schema 1).
    """

    outcome: Literal["copied", "mounted", "present", "shared"]
    digest: Digest
    size: int
    destination: Repository


class BytesMoved(Event, frozen=True):
    """Bytes of a blob or a manifest that were `pulled` from or `pushed` to a registry."""

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
    """A request got a response, or failed without one (`status` 0). `target` is the path without the query."""

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
    """An account has few pulls left: the next ones are spread over the rest of the period, `wait` seconds apart."""

    registry: str
    account: str
    remaining: int
    wait: float


class ConcurrencyChanged(Event, frozen=True):
    """The limit of concurrent requests to a registry changed. It is the sum over all accounts."""

    registry: str
    limit: int


class ProjectMade(Event, frozen=True):
    """A missing project was created at a registry. In a dry run, it would be created."""

    registry: str
    project: str


class Decision(Event, frozen=True):
    """The reason for a decision, for the debug log."""

    subject: str
    message: str
