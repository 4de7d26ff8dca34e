"""Checks a schedule as users write it, so that a bad one is found when the file is read."""

import datetime as dt
import re

_MAX_LENGTH = 200


class InvalidSchedule(ValueError):
    """Text that names no time, or a time that never comes."""


def check_schedule(text: str) -> str:
    """The schedule itself: five fields, or six with the seconds first, or `@daily` and its kin.

    Raises `InvalidSchedule`.
    """
    from croniter import CroniterBadDateError, CroniterError, croniter  # noqa: PLC0415 - 60 ms, and most rules have none

    shown = repr(text[:_MAX_LENGTH])
    fields = text.split()
    # croniter's own additions (a random or hashed minute, a year) would not mean the same on each start.
    extended = any(re.match("[hr]", field, re.IGNORECASE) for field in fields)
    known = len(fields) in (5, 6) or (len(fields) == 1 and text.lstrip().startswith("@"))
    if not known or extended or len(text) > _MAX_LENGTH:
        raise InvalidSchedule(
            f"expected five fields, or six with the seconds first, or @daily, found {shown}"
        )
    start = dt.datetime(2024, 1, 1, tzinfo=dt.UTC)
    try:
        croniter(text, start, second_at_beginning=True).get_next()
    except CroniterBadDateError as error:
        raise InvalidSchedule(f"the schedule {shown} names a date that never comes") from error
    except (CroniterError, ValueError, KeyError, TypeError, IndexError, OverflowError) as error:
        raise InvalidSchedule(f"not a schedule: {shown} ({str(error)[:200]})") from error
    return text
