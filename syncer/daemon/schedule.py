"""Cron schedules: when each one is due next, in local time.

This module has no clock and never waits. Callers pass the current time in UTC.
"""

import random
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from functools import cache

from croniter import croniter

LONGEST_WAIT = 30.0
"""Maximum number of seconds between two checks of the clock, to notice that it was set or that the machine was suspended."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """A cron expression in a time zone: five fields, six fields with the seconds first, or a name such as `@daily`.

    When the clock changes, a time of day is due once. If the clock skips it, it is due when the clock is set forward.
    If it occurs twice, it is due the first time. A schedule for every hour follows the elapsed hours.
    """

    text: str
    zone: tzinfo

    def next_after(self, moment: datetime) -> datetime:
        """Return the first due time after `moment`, in UTC and whole seconds."""
        start = moment.replace(microsecond=0).astimezone(self.zone)
        times = croniter(self.text, start, second_at_beginning=True)
        due: datetime = times.get_next(datetime)
        while due.fold and not _is_hourly(self.text):
            # croniter returns a time of day that occurs twice both times.
            due = times.get_next(datetime)
        return due.astimezone(UTC)


@cache
def _is_hourly(text: str) -> bool:
    """Return whether the schedule is due in every hour, so that it has no time of day."""
    fields, _ = croniter.expand(text, second_at_beginning=True)
    hours = fields[1]
    return hours == ["*"] or len(hours) == 24


@dataclass(frozen=True, slots=True)
class _Due:
    """A due time of a schedule (`nominal`), and that time plus jitter (`at`), when the run starts."""

    nominal: datetime
    at: datetime


class Timetable:
    """The next due time of each schedule.

    `jitter` is the maximum delay of a run in seconds. Schedules that are due at the same time have the same delay, so
    that they share a run. `seed` makes the delay differ between daemons.
    """

    def __init__(self, zone: tzinfo, *, jitter: float = 0.0, seed: str = "") -> None:
        self.zone = zone
        self._jitter = jitter
        self._seed = seed
        self._due: dict[str, _Due] = {}
        self._checked: datetime | None = None

    def set_schedules(self, texts: Iterable[str], now: datetime) -> None:
        """Replace the schedules. A schedule that is already set keeps its due time."""
        self._due = {text: self._due.get(text) or self._after(text, now) for text in texts}

    def take_due(self, now: datetime) -> frozenset[str]:
        """Return the schedules that are due, and advance them. A schedule that was missed several times is due once."""
        if self._checked is not None and now < self._checked - timedelta(seconds=LONGEST_WAIT):
            # The clock was set back: compute all due times again.
            self._due = {text: self._after(text, now) for text in self._due}
        self._checked = now
        taken = frozenset(text for text, due in self._due.items() if due.at <= now)
        self._due |= {text: self._after(text, now) for text in taken}
        return taken

    def next_times(self) -> dict[str, datetime]:
        """Return when the next run of each schedule starts."""
        return {text: due.at for text, due in self._due.items()}

    def wait(self, now: datetime) -> float:
        """Return the number of seconds until the next check."""
        left = [(due.at - now).total_seconds() for due in self._due.values()]
        return max(0.0, min([LONGEST_WAIT, *left]))

    def _after(self, text: str, moment: datetime) -> _Due:
        nominal = Schedule(text, self.zone).next_after(moment)
        # Not a secret: it only has to differ between daemons.
        delay = random.Random(f"{self._seed} {nominal}").uniform(0, self._jitter)  # noqa: S311
        return _Due(nominal, nominal + timedelta(seconds=delay))
