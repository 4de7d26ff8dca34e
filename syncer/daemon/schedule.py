"""When runs are due: cron's fields against the clock on the wall, and which schedules' time has come.

No waiting and no clock in here: whoever asks says what time it is, in UTC.
"""

import random
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from functools import cache

from croniter import croniter

LONGEST_WAIT = 30.0
"""Seconds. A machine that slept, or a clock that was set, is noticed within that time."""

_DAY = timedelta(days=1)
_SECOND = timedelta(seconds=1)
_WIDEST_CHANGE = timedelta(hours=26)
"""No zone ever set its clock by more."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """Five fields, or six with the seconds first, or `@daily` and its kin, on the clock of a time zone.

    Where the clocks change, a time of day comes once: one that is skipped is due when the clock is set forward, one
    that comes twice is due the first time. What is due in every hour goes on with the hours as they pass.
    """

    text: str
    zone: tzinfo

    def next_after(self, moment: datetime) -> datetime:
        """The first time later than `moment`, in UTC and whole seconds."""
        moment = moment.astimezone(UTC).replace(microsecond=0)
        return self._passing(moment) if _is_hourly(self.text) else self._of_the_day(moment)

    def _of_the_day(self, moment: datetime) -> datetime:
        start = self._wall(moment)
        if self._offset(moment - _WIDEST_CHANGE) != self._offset(moment):
            # Times that a change moved may still lie ahead, though the wall is past them.
            start -= _WIDEST_CHANGE
        walls = self._matches(start)
        while (instant := self._instant(walls.get_next(datetime))) <= moment:
            pass
        return instant

    def _passing(self, moment: datetime) -> datetime:
        start = self._wall(moment)
        while True:
            due = self._at(self._matches(start).get_next(datetime), self._offset(moment))
            change = self._first_change(moment, due)
            if change is None:
                return due
            moment, start = change, self._wall(change) - _SECOND

    def _matches(self, start: datetime) -> croniter:
        return croniter(self.text, start, second_at_beginning=True)

    def _wall(self, moment: datetime) -> datetime:
        return moment.astimezone(self.zone).replace(tzinfo=None)

    def _offset(self, moment: datetime) -> timedelta:
        return moment.astimezone(self.zone).utcoffset() or timedelta()

    def _at(self, wall: datetime, offset: timedelta) -> datetime:
        return (wall - offset).replace(tzinfo=UTC)

    def _instant(self, wall: datetime) -> datetime:
        """When the wall shows this time first; for a time that it skips, when it does so."""
        instant = wall.replace(tzinfo=self.zone).astimezone(UTC)
        if self._wall(instant) == wall:
            return instant
        # Python reads a skipped time by the clock before the change, and with `fold` by the clock after it.
        before = wall.replace(tzinfo=self.zone, fold=1).astimezone(UTC)
        return self._first_change(before, instant) or instant

    def _first_change(self, start: datetime, end: datetime) -> datetime | None:
        """The first moment after `start`, up to `end`, at which the clock has another offset."""
        if isinstance(self.zone, timezone):
            return None
        offset = self._offset(start)
        while start < end:
            later = min(start + _DAY, end)
            if self._offset(later) != offset:
                return self._bisect(start, later)
            start = later
        return None

    def _bisect(self, start: datetime, end: datetime) -> datetime:
        offset = self._offset(start)
        while end - start > _SECOND:
            middle = start + (end - start) // 2
            middle = middle.replace(microsecond=0) if middle.microsecond else middle
            if self._offset(middle) == offset:
                start = middle
            else:
                end = middle
        return end


@cache
def _is_hourly(text: str) -> bool:
    """Whether no hour is left out: then it is no time of day."""
    fields, _ = croniter.expand(text, second_at_beginning=True)
    hours = fields[1]
    return hours == ["*"] or len(hours) == 24


@dataclass(frozen=True, slots=True)
class _Due:
    """A time by the schedule, and the moment at which its run begins: later by the jitter."""

    nominal: datetime
    at: datetime


class Timetable:
    """When each schedule is due next.

    `jitter` is by how many seconds at most a run begins later than its schedule says: the same for all schedules
    of one moment, so that they share a run. `seed` makes it differ between daemons.
    """

    def __init__(self, zone: tzinfo, *, jitter: float = 0.0, seed: str = "") -> None:
        self.zone = zone
        self._jitter = jitter
        self._seed = seed
        self._due: dict[str, _Due] = {}
        self._looked: datetime | None = None

    def set_schedules(self, texts: Iterable[str], now: datetime) -> None:
        """These are in force from now on. Those that were keep the time at which they are due."""
        self._due = {text: self._due.get(text) or self._after(text, now) for text in texts}

    def take_due(self, now: datetime) -> frozenset[str]:
        """The schedules whose time has come. However many times were missed, each is named once."""
        if self._looked is not None and now < self._looked - timedelta(seconds=LONGEST_WAIT):
            # The clock was set back: what was reckoned from the old time means nothing.
            self._due = {text: self._after(text, now) for text in self._due}
        self._looked = now
        come = frozenset(text for text, due in self._due.items() if due.at <= now)
        self._due |= {text: self._after(text, now) for text in come}
        return come

    def next_times(self) -> dict[str, datetime]:
        """When the next run of each schedule begins."""
        return {text: due.at for text, due in self._due.items()}

    def wait(self, now: datetime) -> float:
        """For how many seconds there is nothing to look for."""
        left = [(due.at - now).total_seconds() for due in self._due.values()]
        return max(0.0, min([LONGEST_WAIT, *left]))

    def _after(self, text: str, moment: datetime) -> _Due:
        nominal = Schedule(text, self.zone).next_after(moment)
        # No need to be secret: it only has to differ from daemon to daemon.
        delay = random.Random(f"{self._seed} {nominal}").uniform(0, self._jitter)  # noqa: S311
        return _Due(nominal, nominal + timedelta(seconds=delay))
