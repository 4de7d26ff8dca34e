"""When runs are due: cron's fields against the clock on the wall, and which schedules' time has come.

No waiting and no clock in here: whoever asks says what time it is, in UTC.
"""

import random
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from functools import cache

from croniter import croniter

LONGEST_WAIT = 30.0
"""Seconds. A machine that slept, or a clock that was set, is noticed within that time."""


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
        start = moment.replace(microsecond=0).astimezone(self.zone)
        times = croniter(self.text, start, second_at_beginning=True)
        due: datetime = times.get_next(datetime)
        while due.fold and not _is_hourly(self.text):
            # croniter names a time of day again when the clock shows it for the second time.
            due = times.get_next(datetime)
        return due.astimezone(UTC)


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
