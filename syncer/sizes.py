"""Parses sizes in bytes: `20MiB`, `500KB`, `4 GiB`, or a number of bytes."""

import re

from syncer.lazy_pattern import lazy_pattern

_SIZE = lazy_pattern(
    r"([0-9]{1,15}(?:\.[0-9]{1,6})?) {0,8}(?:([kmgt])(i?))?(?:b|bytes)?(?:/s)?", re.IGNORECASE | re.ASCII
)
_POWERS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}


class InvalidSize(ValueError):
    """Text that is not a valid size."""


def parse_size(text: str) -> int:
    """Return a size in bytes. Raises `InvalidSize`."""
    match = _SIZE.fullmatch(text.strip())
    if not match:
        raise InvalidSize(text)
    number, unit, binary = match.groups()
    return int(float(number) * (1024 if binary else 1000) ** _POWERS[(unit or "").lower()])
