"""Limits for one registry: concurrent requests, request rate, bandwidth, and pauses.

The window of concurrent requests adapts (AIMD): it grows by one per window of successful responses and is halved on
congestion. `Retry-After` pauses all requests. The scheduler checks `ready` before it starts a task, so that workers do
not block here while other registries have work.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable

from syncer.accounts.settings import HostSettings
from syncer.errors import MAX_HOLD, RegistryError

MIN_WINDOW = 1.0
SLACK = 0.25
"""Size of a burst at the byte rate, in seconds."""
MAX_UNREACHABLE = 6
"""Consecutive failed connections after which a host counts as down."""
MAX_SLOW = 3
"""Consecutive slow bodies after which a host counts as down."""
DOWN_SECONDS = 10.0
"""Seconds without requests to a host that is down."""
MIN_HOLD = 0.5
"""Minimum seconds of a pause, even if `Retry-After` is 0 or a date in the past."""
QUOTA_RESERVE = 0.1
"""The fraction of the pull quota below which pulls are slowed down gradually."""


class HostLimits:
    """The limits that all requests of one account at one registry share.

    `connections` is the maximum number of concurrent requests; `settings.max_connections` may lower it. The window is
    between 1 and that number. `clock` returns monotonic seconds. `name` is passed to `on_capacity`.
    """

    def __init__(
        self,
        connections: int,
        settings: HostSettings = HostSettings(),  # noqa: B008 - frozen
        *,
        name: str = "",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._most = float(min(connections, settings.max_connections or connections))
        self._window = self._most
        self._clock = clock
        self._in_use = 0
        self._streams = 0  # requests whose body is read while it is sent on to another request
        self._waiting: deque[tuple[asyncio.Event, bool]] = deque()
        self._open_at = 0.0
        self._halved_at = float("-inf")
        self._gap = 1.0 / settings.requests_per_second if settings.requests_per_second else 0.0
        self._next_at = 0.0
        self._byte_rate = settings.bandwidth
        self.metered = settings.bandwidth > 0
        """Whether a bandwidth is set."""
        self._bytes_at = 0.0
        self._unreachable = 0
        self._slow = 0
        self._down_until = 0.0
        self.last_failure: RegistryError | None = None
        """The error that last marked the host as down."""
        self.name = name
        self.on_capacity: Callable[[str], None] = lambda _name: None
        """Called with `name` when `ready` may have become true."""
        self.resized: Callable[[], None] = lambda: None
        """Called when `window` has changed."""

    @property
    def window(self) -> int:
        """The current maximum number of concurrent requests."""
        return int(self._window)

    @property
    def paused(self) -> float:
        """Seconds until requests are allowed again; 0 if they are allowed now."""
        return max(0.0, self._open_at - self._clock())

    @property
    def ready(self) -> bool:
        """Whether a new request would start without waiting."""
        return not self._waiting and self._in_use < self._window and self._open_at <= self._clock()

    @property
    def down(self) -> float:
        """Seconds for which the host still counts as down; 0 if it is not down."""
        return max(0.0, self._down_until - self._clock())

    def connected(self) -> None:
        """Record a successful connection."""
        self._unreachable = 0

    def unreachable(self, error: RegistryError) -> None:
        """Record a failed connection. After `MAX_UNREACHABLE` consecutive failures, the host counts as down."""
        self._unreachable += 1
        if self._unreachable >= MAX_UNREACHABLE:
            self._rest(error)

    def delivered(self) -> None:
        """Record a body that arrived completely and in time."""
        self._slow = 0

    def too_slow(self, error: RegistryError) -> None:
        """Record a body that was too slow. After `MAX_SLOW` consecutive slow bodies, the host counts as down."""
        self._slow += 1
        if self._slow >= MAX_SLOW:
            self._rest(error)

    def _rest(self, error: RegistryError) -> None:
        self.last_failure = error
        self._down_until = self._clock() + DOWN_SECONDS

    async def acquire(self, *, stream: bool = False) -> float:
        """Wait for a slot for one request. Free it with `release`. Returns the start time for `congested`.

        A `stream` is read as fast as an upload sends it on, possibly to the same host. If only streams hold slots, one
        other request is admitted above the window: otherwise the stream and the upload would wait for each other.
        """
        while not self._admits(stream):
            waiter = (asyncio.Event(), stream)
            self._waiting.append(waiter)
            try:
                await waiter[0].wait()
            except BaseException:
                if waiter[0].is_set():
                    self._wake()
                else:
                    self._waiting.remove(waiter)
                raise
        self._in_use += 1
        self._streams += stream
        try:
            return await self._pace()
        except BaseException:
            self.release(stream=stream)
            raise

    def _admits(self, stream: bool) -> bool:
        return self._in_use < int(self._window) or (not stream and self._in_use == self._streams)

    async def _pace(self) -> float:
        """Wait until the pause is over and the request rate allows a request. Returns the time then."""
        while True:
            now = self._clock()
            wait = self._open_at - now
            if self._gap:
                wait = max(wait, self._next_at - now)
            if wait <= 0:
                break
            await asyncio.sleep(wait)
        if self._gap:
            self._next_at = max(self._next_at, now - self._gap) + self._gap
        return now

    def release(self, *, answered: bool = False, stream: bool = False) -> None:
        """Free a slot. `answered`: the registry responded without an error, so the window may grow."""
        self._in_use -= 1
        self._streams -= stream
        if answered and self._window < self._most:
            self._resize(min(self._most, self._window + 1.0 / self._window))
        self._wake()

    def _resize(self, window: float) -> None:
        before, self._window = self.window, window
        if self.window != before:
            self.resized()

    def _wake(self) -> None:
        free = int(self._window) - self._in_use
        if not self._waiting:
            if free > 0:
                self.on_capacity(self.name)
            return
        for _ in range(min(free, len(self._waiting))):
            self._waiting.popleft()[0].set()
        if free <= 0 and self._in_use == self._streams:
            for waiter in self._waiting:
                if not waiter[1]:
                    self._waiting.remove(waiter)
                    waiter[0].set()
                    break

    def congested(self, sent_at: float) -> None:
        """Halve the window after a request sent at `sent_at` was throttled. Requests of the same burst halve it once."""
        if sent_at > self._halved_at:
            self._resize(max(MIN_WINDOW, self._window / 2))
            self._halved_at = self._clock()

    def hold(self, seconds: float) -> None:
        """Pause new requests for so many seconds, from `MIN_HOLD` to `MAX_HOLD`."""
        self._hold(max(seconds, MIN_HOLD))

    def _hold(self, seconds: float) -> None:
        self._open_at = max(self._open_at, self._clock() + min(seconds, MAX_HOLD))

    def quota(self, remaining: int, limit: int, period: float) -> float:
        """Slow down pulls when `remaining` of `limit` pulls per `period` (seconds) falls below the reserve.

        Returns the seconds of the pause, or 0. At 0 remaining pulls, the pause is the time in which one pull is granted.
        """
        reserve = limit * QUOTA_RESERVE
        if remaining >= reserve or limit <= 0:
            return 0.0
        wait = period / limit * (1.0 - remaining / reserve)
        self._hold(wait)
        return wait

    async def spend(self, nbytes: int) -> None:
        """Wait until the bandwidth limit allows so many bytes."""
        if not self._byte_rate:
            return
        now = self._clock()
        self._bytes_at = max(self._bytes_at, now - SLACK) + nbytes / self._byte_rate
        if self._bytes_at > now:
            await asyncio.sleep(self._bytes_at - now)
