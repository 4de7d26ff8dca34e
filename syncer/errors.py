"""The exceptions for failures at registries, layouts and archives.

    RegistryError                 any failure, with its kind and whether a retry may help
        DigestMismatch            content does not match its digest or size
        ManifestRefused           a registry rejects the content of a manifest

Reports contain the `kind` of an error by its name in `Kind`. Errors are frozen: `with_changes` returns a changed copy.
"""

from enum import StrEnum
from typing import Any, Literal, Self

import msgspec

from syncer import untrusted
from syncer.events import Failure

MAX_MESSAGE = 1000
"""Maximum length of an error's message in characters."""
MAX_RETRY_AFTER = 2.0
"""Seconds. After a longer Retry-After the request is not retried; its task waits without a worker instead."""
MAX_HOLD = 600.0
"""Seconds. A host is throttled for at most this time. If its Retry-After is longer, the task fails for this round."""


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
"""Kinds of errors that may not occur again in a later retry round."""

Presence = Literal["", "exists", "missing", "unknown"]
"""What a refusal reveals about the repository; empty if it reveals nothing."""

RetryReason = Literal["timeout", "connection", "throttled", "server_error", "token"]
_REQUEST_REASONS: dict[Kind, RetryReason] = {
    Kind.TIMEOUT: "timeout",
    Kind.CONNECTION: "connection",
    Kind.THROTTLED: "throttled",
    Kind.SERVER_ERROR: "server_error",
}


class Attempt(msgspec.Struct, frozen=True):
    """The operation that failed.

    `registry` is the host, or the folder of a layout. `method` is the HTTP method, `endpoint` the kind of request
    (manifest, blob, upload, tags, referrers, token, ping), `subject` the content or reference, such as "manifest nginx:1.27".
    """

    registry: str = ""
    method: str = ""
    endpoint: str = ""
    subject: str = ""

    def __str__(self) -> str:
        return f"{self.method} {self.subject}".strip()


class RegistryError(Exception):
    """A permanent or temporary failure at a registry, layout or archive.

    `attempt` is the operation that failed, `status` the HTTP status if there was a response, `codes` the registry's
    error codes, `retry_after` the delay that the registry requested in seconds, `advice` what the user can do, and
    `presence` what the error reveals about the repository. If `permanent` is set, a retry cannot help. `message` may
    contain untrusted text: it is sanitized here.
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
        # The interpreter sets __traceback__ and __cause__. All other attributes are frozen.
        if not name.startswith("__"):
            raise AttributeError(f"{type(self).__name__} is frozen: use with_changes({name}=...)")
        super().__setattr__(name, value)

    def with_changes(self, **changes: Any) -> Self:
        """Return a copy of the error with some attributes changed. The traceback is kept."""
        if "message" in changes:
            changes["message"] = untrusted.clean(changes["message"], MAX_MESSAGE)
        changed = self.__class__.__new__(self.__class__, changes.get("message", self.message))
        changed.__dict__.update(self.__dict__ | changes)
        changed.__cause__ = self.__cause__
        return changed.with_traceback(self.__traceback__)

    @property
    def registry(self) -> str:
        """The registry's host."""
        return self.attempt.registry

    @property
    def retry_reason(self) -> RetryReason:
        """The reason for a retry after this error, for metrics. Only valid if the error is `retryable`."""
        return _REQUEST_REASONS[self.kind]

    @property
    def retryable(self) -> bool:
        """Whether the same request may succeed within a few seconds."""
        return (
            not self.permanent
            and self.kind in _REQUEST_REASONS
            and (self.retry_after or 0.0) <= MAX_RETRY_AFTER
        )

    def __str__(self) -> str:
        """Return one line: the operation, the response and the advice."""
        tried = f"{self.attempt}: " if str(self.attempt) else ""
        advice = f"; {self.advice}" if self.advice else ""
        return f"{tried}{self.message}{advice}"

    def as_failure(self) -> Failure:
        """Return the error as data for events and reports. Its message tells whether a retry may help."""
        again = "" if self.permanent else "; trying again may help"
        return Failure(str(self.kind), f"{self}{again}", self.registry, self.status, self.permanent)


class DigestMismatch(RegistryError):
    """Content whose digest or size is not the expected one."""

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
    """Return the error for a rule's source that does not exist at its registry."""
    return RegistryError(
        Kind.NOT_FOUND,
        "404 not found",
        attempt=Attempt(registry, "HEAD", "manifest", subject),
        status=404,
        advice=check_source(registry),
    )


def check_source(registry: str) -> str:
    """Return the advice for a source that does not exist."""
    return f"check the rule's source: {registry} has no such image"
