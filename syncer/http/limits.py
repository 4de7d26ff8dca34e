"""How much of one registry may be used at once: a window of requests, a pace, a bandwidth, and one clock for all.

The window follows what the registry can take: one wider for each window of answers, halved when it is congested.
`Retry-After` stops the whole host. Whoever hands out work asks `ready` first, so that nobody has to wait in here
who could be doing something else.
"""

import time
from collections import deque
from collections.abc import Callable

import anyio

from syncer.accounts.settings import HostSettings
from syncer.errors import MAX_HOLD, RegistryError

MIN_WINDOW = 1.0
SLACK = 0.25
"""Seconds of a byte rate that may be spent in one go."""
MAX_UNREACHABLE = 6
"""Connections in a row that may fail before a host counts as down."""
MAX_SLOW = 3
"""Bodies in a row that may come too slowly before a host counts as down: others are not to wait for it."""
DOWN_SECONDS = 10.0
"""How long a host that is down is left alone."""
MIN_HOLD = 0.5
"""Seconds that a host is left alone that asks for a break, also where it says 0, or a moment in the past."""
QUOTA_RESERVE = 0.1
"""The share of a quota below which pulls are slowed down, more and more."""


class HostLimits:
    """Shared by everyone who speaks to one registry.

    `connections` is the most requests under way at once; the window moves between that and 1. `settings` may ask
    for less. `clock` gives seconds, `name` is what `on_capacity` is told.
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
        self._streams = 0  # of those, bodies that are read while something else is sent
        self._waiting: deque[tuple[anyio.Event, bool]] = deque()
        self._open_at = 0.0
        self._halved_at = float("-inf")
        self._gap = 1.0 / settings.requests_per_second if settings.requests_per_second else 0.0
        self._next_at = 0.0
        self._byte_rate = settings.bandwidth
        self._bytes_at = 0.0
        self._unreachable = 0
        self._slow = 0
        self._down_until = 0.0
        self.last_failure: RegistryError | None = None
        """Why the host counts, or last counted, as down."""
        self.name = name
        self.on_capacity: Callable[[str], None] = lambda _name: None
        """Called with `name` when `ready` may have become true again."""
        self.resized: Callable[[], None] = lambda: None
        """Called when `window` has changed."""

    @property
    def window(self) -> int:
        """The most requests at once, as of now."""
        return int(self._window)

    @property
    def metered(self) -> bool:
        """Whether a bandwidth is set."""
        return self._byte_rate > 0

    @property
    def paused(self) -> float:
        """Seconds until the host may be asked again; 0 for now."""
        return max(0.0, self._open_at - self._clock())

    @property
    def ready(self) -> bool:
        """Whether new work for this host would go ahead without waiting."""
        return not self._waiting and self._in_use < self._window and self._open_at <= self._clock()

    @property
    def down(self) -> float:
        """Seconds for which there is no point in trying to connect; 0 for none."""
        return max(0.0, self._down_until - self._clock())

    def connected(self) -> None:
        """A connection was made."""
        self._unreachable = 0

    def unreachable(self, error: RegistryError) -> None:
        """No connection could be made: several failures in a row mean that the host is down for a while."""
        self._unreachable += 1
        if self._unreachable >= MAX_UNREACHABLE:
            self._rest(error)

    def delivered(self) -> None:
        """A body came to its end in time."""
        self._slow = 0

    def too_slow(self, error: RegistryError) -> None:
        """A body came drop by drop: several in a row mean the same as several connections that fail."""
        self._slow += 1
        if self._slow >= MAX_SLOW:
            self._rest(error)

    def _rest(self, error: RegistryError) -> None:
        self.last_failure = error
        self._down_until = self._clock() + DOWN_SECONDS

    async def acquire(self, *, stream: bool = False) -> float:
        """Take a place for one request; give it back with `release`, and the returned moment to `congested`.

        A `stream` is read only as fast as an upload takes it, maybe to this same host: so streams never keep the
        last other request out, or both would wait for ever.
        """
        while not self._admits(stream):
            waiter = (anyio.Event(), stream)
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
            await self._pace()
        except BaseException:
            self.release(stream=stream)
            raise
        return self._clock()

    def _admits(self, stream: bool) -> bool:
        return self._in_use < int(self._window) or (not stream and self._in_use == self._streams)

    async def _pace(self) -> None:
        while True:
            now = self._clock()
            wait = self._open_at - now
            if self._gap:
                wait = max(wait, self._next_at - now)
            if wait <= 0:
                break
            await anyio.sleep(wait)
        if self._gap:
            self._next_at = max(self._next_at, now - self._gap) + self._gap

    def release(self, *, answered: bool = False, stream: bool = False) -> None:
        """Give a place back; `answered` says that the registry coped well."""
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
        if free > 0 and not self._waiting:
            self.on_capacity(self.name)
        for _ in range(min(free, len(self._waiting))):
            self._waiting.popleft()[0].set()
        if free <= 0 and self._in_use == self._streams:
            for waiter in self._waiting:
                if not waiter[1]:
                    self._waiting.remove(waiter)
                    waiter[0].set()
                    break

    def congested(self, sent_at: float) -> None:
        """The registry was asked too much by a request sent at that moment: halve, once for each such event."""
        if sent_at > self._halved_at:
            self._resize(max(MIN_WINDOW, self._window / 2))
            self._halved_at = self._clock()

    def hold(self, seconds: float) -> None:
        """The registry asks for a break of so many seconds: nothing new for `MIN_HOLD` at least, `MAX_HOLD` at most."""
        self._hold(max(seconds, MIN_HOLD))

    def _hold(self, seconds: float) -> None:
        self._open_at = max(self._open_at, self._clock() + min(seconds, MAX_HOLD))

    def quota(self, remaining: int, limit: int, period: float) -> float:
        """So many pulls are left of `limit` in each `period` of seconds: how long was held back for it, in seconds.

        With the last one gone, pulls come no faster than the registry gives new ones.
        """
        reserve = limit * QUOTA_RESERVE
        if remaining >= reserve or limit <= 0:
            return 0.0
        wait = period / limit * (1.0 - remaining / reserve)
        self._hold(wait)
        return wait

    async def spend(self, nbytes: int) -> None:
        """Wait until so many bytes may pass at the host's bandwidth."""
        if not self._byte_rate:
            return
        now = self._clock()
        self._bytes_at = max(self._bytes_at, now - SLACK) + nbytes / self._byte_rate
        if self._bytes_at > now:
            await anyio.sleep(self._bytes_at - now)
