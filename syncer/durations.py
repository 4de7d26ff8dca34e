"""Parses and formats durations: `90s`, `5m`, `1h30m`, or a number of seconds."""

import re

from syncer.lazy_pattern import lazy_pattern

_PART = lazy_pattern(r"([0-9]{1,9}(?:\.[0-9]{1,6})?)(ms|s|m|h|d)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
EXPECTED = 'a duration such as "90s", "5m" or "1h30m"'
MAX_DURATION = 366 * 86400.0


class InvalidDuration(ValueError):
    """Text that is not a valid duration."""


def parse_duration(text: str, *, longest: float = MAX_DURATION) -> float:
    """Return a duration in seconds, more than 0 and at most `longest`. The default unit is seconds.

    Raises `InvalidDuration`.
    """
    text = text.strip().lower().replace(" ", "")
    if re.fullmatch(r"[0-9]{1,9}(?:\.[0-9]{1,6})?", text):
        seconds = float(text)
    elif text and not _PART.sub("", text):
        seconds = sum(float(number) * _SECONDS[unit] for number, unit in _PART.findall(text))
    else:
        raise InvalidDuration(f"expected {EXPECTED}")
    if not 0 < seconds <= longest:
        raise InvalidDuration(f"expected {EXPECTED}, more than 0 and at most {longest / 86400:g} days")
    return seconds


def show_duration(seconds: float) -> str:
    """Return a duration as text: `5m`, `1h30m`, `0.5s`."""
    if seconds < 60 or seconds != int(seconds):
        return f"{seconds:g}s"
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    parts = ((hours, "h"), (minutes, "m"), (rest, "s"))
    return "".join(f"{number}{unit}" for number, unit in parts if number)
