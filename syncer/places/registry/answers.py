"""Judging the answers of registries: what counts as success, as a refusal, and as no answer of a registry at all."""

from syncer.errors import Attempt, Kind, RegistryError
from syncer.http.failures import is_html, page_title
from syncer.http.request import Answer

SUCCESS = frozenset({200, 201, 202, 203, 204})
"""Registries differ in which of these they answer: what comes with it decides whether one can go on."""


def is_refusal(error: RegistryError, endpoint: str) -> bool:
    """Whether a registry answered a request to `endpoint` and did not grant it.

    False for a token service's refusal, for a limit that was hit, and where no answer came.
    """
    return (
        error.status is not None and error.attempt.endpoint == endpoint and error.kind is not Kind.THROTTLED
    )


def invalid(message: str, attempt: Attempt, *, advice: str = "") -> RegistryError:
    """The error for an answer that breaks the specification."""
    return RegistryError(Kind.INVALID, message, attempt=attempt, advice=advice)


def refuse_web_page(answer: Answer, attempt: Attempt) -> None:
    """Raise where a portal, a proxy or a mirror out of order answered in the registry's place."""
    if is_html(answer.headers, answer.body):
        raise invalid(
            f"a web page came back ({page_title(answer.body) or 'without a title'}): that is no registry",
            attempt,
            advice=f"check the name {attempt.registry}, and what is between here and there",
        )


def unreadable(message: str, answer: Answer, attempt: Attempt) -> RegistryError:
    """The error for content that cannot be read; it may be compressed, though nobody asked for that."""
    coding = answer.headers.get("content-encoding", "").lower()
    if coding in {"", "identity"}:
        return invalid(message, attempt)
    return invalid(f"{message}; the answer came compressed ({coding[:40]}), though not asked to be", attempt)
