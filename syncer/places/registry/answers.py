"""Classification of responses: success, refusal by the registry, and responses that are not from a registry."""

from syncer.errors import MAX_RETRY_AFTER, Attempt, Kind, RegistryError
from syncer.http.failures import is_html, page_title
from syncer.http.request import Answer
from syncer.http.transport_errors import ReadError, RemoteProtocolError

SUCCESS = frozenset({200, 201, 202, 203, 204})
"""Registries return different success statuses for the same request. The headers and the body decide what follows."""


_UNUSABLE = frozenset({Kind.INVALID, Kind.UNSUPPORTED, Kind.DIGEST_MISMATCH, Kind.TOO_LARGE})


def is_refusal(error: RegistryError, endpoint: str) -> bool:
    """Return whether the registry answered a request to `endpoint` with an error status.

    Return False if the token service refused, if a rate limit was reached, or if there was no response.
    """
    return (
        error.status is not None and error.attempt.endpoint == endpoint and error.kind is not Kind.THROTTLED
    )


def is_hang_up(error: RegistryError) -> bool:
    """Whether a server took a request and closed the connection instead of answering: some refuse so."""
    return error.status is None and isinstance(error.__cause__, RemoteProtocolError | ReadError)


def is_head_refusal(error: RegistryError) -> bool:
    """Return whether a GET may answer what a HEAD of a manifest did not.

    A rate limit for HEAD need not hold for GET. Return False if the registry says that it lasts.
    """
    throttled = error.kind is Kind.THROTTLED and error.attempt.endpoint == "manifest"
    if throttled:
        return error.status is not None and (error.retry_after or 0.0) <= MAX_RETRY_AFTER
    return is_refusal(error, "manifest") or is_hang_up(error)


def is_unusable(error: RegistryError, endpoint: str) -> bool:
    """Whether a registry granted a request to `endpoint` and sent what is not the content that was asked for."""
    return error.status is None and error.attempt.endpoint == endpoint and error.kind in _UNUSABLE


def invalid(message: str, attempt: Attempt, *, advice: str = "") -> RegistryError:
    """Return the error for a response that violates the specification."""
    return RegistryError(Kind.INVALID, message, attempt=attempt, advice=advice)


def refuse_web_page(answer: Answer, attempt: Attempt) -> None:
    """Raise `RegistryError` if the response is a web page, as captive portals, proxies and broken mirrors send."""
    if is_html(answer.headers, answer.body):
        raise invalid(
            f"the response is a web page ({page_title(answer.body) or 'without a title'}), not a registry's",
            attempt,
            advice=f"check the name {attempt.registry}, and any proxy on the way to it",
        )


def unreadable(message: str, answer: Answer, attempt: Attempt) -> RegistryError:
    """Return the error for content that cannot be parsed. It names a compression that the request did not allow."""
    coding = answer.headers.get("content-encoding", "").lower()
    if coding in {"", "identity"}:
        return invalid(message, attempt)
    return invalid(
        f"{message}; the response is compressed ({coding[:40]}), but compression was not requested", attempt
    )
