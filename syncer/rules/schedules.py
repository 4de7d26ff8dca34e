"""Validates schedules, so that an invalid one is reported when the file is read."""

import datetime as dt
import re

_MAX_LENGTH = 200


class InvalidSchedule(ValueError):
    """Text that is not a schedule, or a schedule that never becomes due."""


def check_schedule(text: str) -> str:
    """Return the schedule with one blank between its fields: five, six with the seconds first, or a word as `@daily`.

    Raises `InvalidSchedule`.
    """
    from croniter import CroniterBadDateError, CroniterError, croniter  # 60 ms, and most rules have none

    shown = repr(text[:_MAX_LENGTH])
    fields = text.split()
    # Reject croniter's extensions (a random or hashed minute, a year): their meaning would change at each start.
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
    return " ".join(fields)
