"""Which failures of a request deserve another try, and after how long. Seconds; minutes are the retry rounds' matter."""

import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar

from syncer.errors import RegistryError, RetryReason

if TYPE_CHECKING:
    from tenacity import RetryCallState

T = TypeVar("T")
ATTEMPTS = 4
"""Tries of one request, the first included."""
RETRY_SECONDS = 120.0
"""No further try is begun later than this: what takes longer comes once more in a retry round."""


def _may_pass(error: BaseException) -> bool:
    return isinstance(error, RegistryError) and error.retryable


def _backoff(state: "RetryCallState") -> float:
    from tenacity import wait_random_exponential  # noqa: PLC0415

    return wait_random_exponential(multiplier=0.5, max=20)(state)


def _wait(state: "RetryCallState") -> float:
    error = state.outcome.exception() if state.outcome else None
    asked = error.retry_after if isinstance(error, RegistryError) else None
    return max(asked or 0.0, _backoff(state))


async def with_retries(
    attempt: Callable[[], Awaitable[T]], *, on_retry: Callable[[RetryReason, float], None]
) -> T:
    """Call `attempt` until it succeeds, fails for good, has failed `ATTEMPTS` times, or has taken `RETRY_SECONDS`.

    `on_retry` hears the reason and the seconds to wait before each further try. Raises the last failure.
    """
    failed: list[BaseException] = []
    began = time.monotonic()

    async def replay() -> T:
        # The failure that brought us here is attempt number one.
        if failed:
            raise failed.pop()
        return await attempt()

    def before_sleep(state: "RetryCallState") -> None:
        error = state.outcome.exception() if state.outcome else None
        assert isinstance(error, RegistryError)
        on_retry(error.retry_reason, state.upcoming_sleep)

    try:
        return await attempt()
    except RegistryError as error:
        if not error.retryable or time.monotonic() - began > RETRY_SECONDS:
            raise
        failed.append(error)
    # tenacity comes in only now: importing it costs the start, its bookkeeping every request a quarter of its time.
    from tenacity import AsyncRetrying, retry_if_exception, stop_after_attempt, stop_after_delay  # noqa: PLC0415

    return await AsyncRetrying(
        stop=stop_after_attempt(ATTEMPTS) | stop_after_delay(RETRY_SECONDS),
        wait=_wait,
        retry=retry_if_exception(_may_pass),
        before_sleep=before_sleep,
        reraise=True,
    )(replay)
