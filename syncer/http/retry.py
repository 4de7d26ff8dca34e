"""Which failures of a request deserve another try, and after how long. Seconds; minutes are the retry rounds' matter."""

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Literal, TypeVar

from syncer.errors import Kind, RegistryError

if TYPE_CHECKING:
    from tenacity import RetryCallState

T = TypeVar("T")
Reason = Literal["timeout", "connection", "throttled", "server_error", "token"]

ATTEMPTS = 4
"""Tries of one request, the first included."""
MAX_RETRY_AFTER = 2.0
"""Seconds. A registry that asks for more is waited for without a worker: see `syncer.engine.graph`."""

TRANSIENT_STATUSES = frozenset({408, 425, 429, 500, 502, 503, 504, 520, 521, 522, 523, 524})

_REASONS: dict[Kind, Reason] = {
    Kind.TIMEOUT: "timeout",
    Kind.CONNECTION: "connection",
    Kind.THROTTLED: "throttled",
    Kind.SERVER_ERROR: "server_error",
}


def reason_of(error: RegistryError) -> Reason:
    """Why something is asked for again after an error that `is_retryable`."""
    return _REASONS[error.kind]


def is_retryable(error: BaseException) -> bool:
    """Whether the same request may go through in a few seconds."""
    return (
        isinstance(error, RegistryError)
        and not error.permanent
        and error.kind in _REASONS
        and (error.retry_after or 0.0) <= MAX_RETRY_AFTER
    )


def _backoff(state: "RetryCallState") -> float:
    from tenacity import wait_random_exponential  # noqa: PLC0415

    return wait_random_exponential(multiplier=0.5, max=20)(state)


def _wait(state: "RetryCallState") -> float:
    error = state.outcome.exception() if state.outcome else None
    asked = error.retry_after if isinstance(error, RegistryError) else None
    return asked if asked is not None else _backoff(state)


async def with_retries(
    attempt: Callable[[], Awaitable[T]], *, on_retry: Callable[[Reason, float], None]
) -> T:
    """Call `attempt` until it succeeds, fails for good, or has failed `ATTEMPTS` times.

    `on_retry` hears the reason and the seconds to wait before each further try. Raises the last failure.
    """
    failed: list[BaseException] = []

    async def replay() -> T:
        # The failure that brought us here is attempt number one.
        if failed:
            raise failed.pop()
        return await attempt()

    def before_sleep(state: "RetryCallState") -> None:
        error = state.outcome.exception() if state.outcome else None
        assert isinstance(error, RegistryError)
        on_retry(reason_of(error), state.upcoming_sleep)

    try:
        return await attempt()
    except RegistryError as error:
        if not is_retryable(error):
            raise
        failed.append(error)
    # tenacity comes in only now: importing it costs the start, its bookkeeping every request a quarter of its time.
    from tenacity import AsyncRetrying, retry_if_exception, stop_after_attempt  # noqa: PLC0415

    return await AsyncRetrying(
        stop=stop_after_attempt(ATTEMPTS),
        wait=_wait,
        retry=retry_if_exception(is_retryable),
        before_sleep=before_sleep,
        reraise=True,
    )(replay)
