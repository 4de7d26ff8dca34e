"""Retries a request with exponential backoff, for seconds. Retry rounds repeat failed tasks after minutes."""

import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar

from syncer.errors import RegistryError, RetryReason

if TYPE_CHECKING:
    from tenacity import RetryCallState

T = TypeVar("T")
ATTEMPTS = 4
"""Maximum attempts of one request, including the first."""
RETRY_SECONDS = 120.0
"""Seconds after which no further attempt is made. A retry round may repeat the task later."""


def _may_pass(error: BaseException) -> bool:
    return isinstance(error, RegistryError) and error.retryable


def _backoff(state: "RetryCallState") -> float:
    from tenacity import wait_random_exponential

    return wait_random_exponential(multiplier=0.5, max=20)(state)


def _wait(state: "RetryCallState") -> float:
    error = state.outcome.exception() if state.outcome else None
    asked = error.retry_after if isinstance(error, RegistryError) else None
    return max(asked or 0.0, _backoff(state))


async def with_retries(
    attempt: Callable[[], Awaitable[T]], *, on_retry: Callable[[RetryReason, float], None]
) -> T:
    """Call `attempt` until it succeeds or raises an error that is not retryable.

    Gives up after `ATTEMPTS` attempts or `RETRY_SECONDS` and raises the last error. Before each retry, `on_retry` is
    called with the reason and the seconds to wait.
    """
    began = time.monotonic()
    try:
        return await attempt()
    except RegistryError as error:
        if not error.retryable or time.monotonic() - began > RETRY_SECONDS:
            raise
        first = error
    return await _repeat(attempt, first, on_retry)


async def _repeat(
    attempt: Callable[[], Awaitable[T]], first: RegistryError, on_retry: Callable[[RetryReason, float], None]
) -> T:
    """Repeat `attempt`, whose first call raised `first`."""
    # Use tenacity only after a failure: its import slows the startup, and it adds a quarter to the time of a request.
    from tenacity import AsyncRetrying, retry_if_exception, stop_after_attempt, stop_after_delay

    failed = [first]

    async def replay() -> T:
        if failed:
            raise failed.pop()
        return await attempt()

    def before_sleep(state: "RetryCallState") -> None:
        error = state.outcome.exception() if state.outcome else None
        assert isinstance(error, RegistryError)
        on_retry(error.retry_reason, state.upcoming_sleep)

    return await AsyncRetrying(
        stop=stop_after_attempt(ATTEMPTS) | stop_after_delay(RETRY_SECONDS),
        wait=_wait,
        retry=retry_if_exception(_may_pass),
        before_sleep=before_sleep,
        reraise=True,
    )(replay)
