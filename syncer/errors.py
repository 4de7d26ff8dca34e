"""What can go wrong at a place that holds images, as one kind of exception.

    RegistryError                 every failure, with its kind and whether trying again can help
        DigestMismatch            content that is not what its digest says
        ManifestRefused           a manifest that a registry does not take for what it is

`kind` is one of `Kind`: the names that reports carry. Errors are frozen: `with_changes` makes another one.
"""

from enum import StrEnum
from typing import Any, Literal, Self

import msgspec

from syncer import untrusted
from syncer.events import Failure

MAX_MESSAGE = 1000
"""Characters of an error's own message."""
MAX_RETRY_AFTER = 2.0
"""Seconds. A registry that asks for more is waited for without a worker: see `syncer.engine.graph`."""
MAX_HOLD = 600.0
"""Seconds that a registry may ask the whole host to wait; what asks for more has failed, for now."""


class Kind(StrEnum):
    UNAUTHORIZED = "unauthorized"
    FORBIDDEN = "forbidden"
    NOT_FOUND = "not_found"
    THROTTLED = "throttled"
    TIMEOUT = "timeout"
    CONNECTION = "connection"
    TLS = "tls"
    SERVER_ERROR = "server_error"
    DIGEST_MISMATCH = "digest_mismatch"
    UNSUPPORTED = "unsupported"
    TOO_LARGE = "too_large"
    IMMUTABLE = "immutable"
    UNTRUSTED = "untrusted"
    CONFLICT = "conflict"
    INVALID = "invalid"
    INTERRUPTED = "interrupted"
    INTERNAL = "internal"


RETRYABLE_KINDS = frozenset(
    {Kind.THROTTLED, Kind.TIMEOUT, Kind.CONNECTION, Kind.SERVER_ERROR, Kind.INTERRUPTED, Kind.INTERNAL}
)
"""Kinds that a later retry round may not meet again."""

Presence = Literal["", "exists", "missing", "unknown"]
"""What a refusal tells of the repository that was asked for; empty where that is no question."""

RetryReason = Literal["timeout", "connection", "throttled", "server_error", "token"]
_REQUEST_REASONS: dict[Kind, RetryReason] = {
    Kind.TIMEOUT: "timeout",
    Kind.CONNECTION: "connection",
    Kind.THROTTLED: "throttled",
    Kind.SERVER_ERROR: "server_error",
}


class Attempt(msgspec.Struct, frozen=True):
    """What was tried when an error arose.

    `registry` is the host, or the folder of a layout. `method` is the HTTP method, `endpoint` the kind of request
    (manifest, blob, upload, tags, referrers, token, ping), `subject` what it was about ("manifest nginx:1.27").
    """

    registry: str = ""
    method: str = ""
    endpoint: str = ""
    subject: str = ""

    def __str__(self) -> str:
        return f"{self.method} {self.subject}".strip()


class RegistryError(Exception):
    """A failure at a registry or another place, for good or for now.

    `attempt` is what was tried, `status` the HTTP status if there was an answer, `codes` the registry's own error
    codes, `retry_after` the seconds that it asked us to wait, `advice` what the user can do about it, `presence` what
    it tells of the repository. `permanent` says that trying again cannot help. `message` may quote strangers: it is
    made safe to show here.
    """

    kind: Kind
    message: str
    attempt: Attempt
    status: int | None
    codes: tuple[str, ...]
    permanent: bool
    retry_after: float | None
    advice: str
    presence: Presence

    def __init__(
        self,
        kind: Kind,
        message: str,
        *,
        attempt: Attempt = Attempt(),  # noqa: B008 - frozen
        status: int | None = None,
        codes: tuple[str, ...] = (),
        permanent: bool | None = None,
        retry_after: float | None = None,
        advice: str = "",
        presence: Presence = "",
    ) -> None:
        message = untrusted.clean(message, MAX_MESSAGE)
        super().__init__(message)
        self.__dict__.update(
            kind=kind,
            message=message,
            attempt=attempt,
            status=status,
            codes=codes,
            permanent=kind not in RETRYABLE_KINDS if permanent is None else permanent,
            retry_after=retry_after,
            advice=advice,
            presence=presence,
        )

    def __setattr__(self, name: str, value: object) -> None:
        # The interpreter sets __traceback__ and __cause__; everything else stays as it was raised.
        if not name.startswith("__"):
            raise AttributeError(f"{type(self).__name__} is frozen: use with_changes({name}=...)")
        super().__setattr__(name, value)

    def with_changes(self, **changes: Any) -> Self:
        """The same error with other values for some of its attributes. The traceback is kept."""
        if "message" in changes:
            changes["message"] = untrusted.clean(changes["message"], MAX_MESSAGE)
        changed = self.__class__.__new__(self.__class__, changes.get("message", self.message))
        changed.__dict__.update(self.__dict__ | changes)
        changed.__cause__ = self.__cause__
        return changed.with_traceback(self.__traceback__)

    @property
    def registry(self) -> str:
        """The host that it is about."""
        return self.attempt.registry

    @property
    def retry_reason(self) -> RetryReason:
        """The reason for sending a request again after this error, for metrics. Only for one that is `retryable`."""
        return _REQUEST_REASONS[self.kind]

    @property
    def retryable(self) -> bool:
        """Whether the same request may go through within a few seconds."""
        return (
            not self.permanent
            and self.kind in _REQUEST_REASONS
            and (self.retry_after or 0.0) <= MAX_RETRY_AFTER
        )

    def __str__(self) -> str:
        """One line: what was tried, what came back, what to do."""
        tried = f"{self.attempt}: " if str(self.attempt) else ""
        advice = f"; {self.advice}" if self.advice else ""
        return f"{tried}{self.message}{advice}"

    def as_failure(self) -> Failure:
        """The same as data, for events and reports. Its text says whether trying again may help."""
        again = "" if self.permanent else "; trying again may help"
        return Failure(str(self.kind), f"{self}{again}", self.registry, self.status, self.permanent)


class DigestMismatch(RegistryError):
    """Content whose digest or size is not the one it was asked for by."""

    def __init__(
        self,
        message: str,
        *,
        attempt: Attempt = Attempt(),  # noqa: B008 - frozen
        permanent: bool = False,
    ) -> None:
        super().__init__(Kind.DIGEST_MISMATCH, message, attempt=attempt, permanent=permanent)


class ManifestRefused(RegistryError):
    """A manifest that a registry does not take for what it is, as far as its answer tells.

    Not for want of rights or room, nor because of the tag: another manifest may go through there.
    """

    @classmethod
    def of(cls, error: RegistryError) -> Self:
        """The same error, known to be this."""
        refused = cls(error.kind, error.message)
        refused.__dict__.update(error.__dict__ | {"permanent": True})
        return refused


def source_not_found(subject: str, registry: str) -> RegistryError:
    """The error for a rule's source that its registry does not have."""
    return RegistryError(
        Kind.NOT_FOUND,
        "404 not found",
        attempt=Attempt(registry, "HEAD", "manifest", subject),
        status=404,
        advice=check_source(registry),
    )


def check_source(registry: str) -> str:
    """The advice for a source that is not there."""
    return f"check the rule's source: {registry} has nothing of that name"
