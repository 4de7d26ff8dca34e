"""`Pace`: whether a body arrives fast enough, while a reader waits for it."""

from syncer.http.transport_errors import ReadTimeout

MIN_RATE = 1024
"""Minimum rate of a body in bytes per second, while a reader waits for it."""
RATE_SECONDS = 10.0
"""Seconds of waiting after which the rate is checked. A single wait counts at most `MAX_WAIT`, so one pause is allowed."""
MAX_WAIT = 3.0


class TooSlow(ReadTimeout):
    """The body arrives more slowly than `MIN_RATE`."""


class Pace:
    """The rate of one body."""

    __slots__ = ("_rated", "_waited")

    def __init__(self) -> None:
        self._waited = 0.0  # seconds since the last check
        self._rated = 0  # bytes received at the last check

    def is_too_slow(self, waited: float, received: int) -> bool:
        """Record `waited` seconds, after which `received` bytes of the body were there."""
        self._waited += min(waited, MAX_WAIT)
        if self._waited <= RATE_SECONDS:
            return False
        slow = received - self._rated < MIN_RATE * self._waited
        self._waited, self._rated = 0.0, received
        return slow
