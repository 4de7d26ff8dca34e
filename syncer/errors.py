"""What can go wrong at a registry, as one kind of exception.

    RegistryError                 every failure of a request, with its kind and whether trying again can help
        DigestMismatch            content that is not what its digest says

`kind` is one of `Kind`: the names that reports carry.
"""

from enum import StrEnum

from syncer.events import Failure


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
    CONFLICT = "conflict"
    INVALID = "invalid"
    INTERRUPTED = "interrupted"
    INTERNAL = "internal"


RETRYABLE_KINDS = frozenset(
    {Kind.THROTTLED, Kind.TIMEOUT, Kind.CONNECTION, Kind.SERVER_ERROR, Kind.INTERRUPTED, Kind.INTERNAL}
)
"""Kinds that may be gone at the next try."""


class RegistryError(Exception):
    """A request to a registry that failed for good or for now.

    `registry` is the host, `attempt` what was tried ("GET manifest 1.27"), `status` the HTTP status if there
    was an answer, `codes` the registry's own error codes, `retry_after` seconds that it asked us to wait,
    `advice` what the user can do about it. `permanent` says that trying again cannot help.
    """

    def __init__(
        self,
        kind: Kind,
        message: str,
        *,
        registry: str = "",
        attempt: str = "",
        status: int | None = None,
        codes: tuple[str, ...] = (),
        permanent: bool | None = None,
        retry_after: float | None = None,
        advice: str = "",
    ) -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message
        self.registry = registry
        self.attempt = attempt
        self.status = status
        self.codes = codes
        self.permanent = kind not in RETRYABLE_KINDS if permanent is None else permanent
        self.retry_after = retry_after
        self.advice = advice

    def __str__(self) -> str:
        """One line: what was tried, what came back, what to do."""
        tried = f"{self.attempt}: " if self.attempt else ""
        advice = f"; {self.advice}" if self.advice else ""
        return f"{tried}{self.message}{advice}"

    def as_failure(self) -> Failure:
        """The same as data, for events and reports; its line says too if trying again may help."""
        again = "" if self.permanent else "; trying again may help"
        return Failure(str(self.kind), f"{self}{again}", self.registry, self.status, self.permanent)


class DigestMismatch(RegistryError):
    """Content whose digest or size is not the one it was asked for by."""

    def __init__(
        self, message: str, *, registry: str = "", attempt: str = "", permanent: bool = False
    ) -> None:
        super().__init__(
            Kind.DIGEST_MISMATCH, message, registry=registry, attempt=attempt, permanent=permanent
        )
