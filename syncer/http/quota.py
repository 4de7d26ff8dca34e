"""Parses the pull quota of Docker Hub (`RateLimit-Limit` and `RateLimit-Remaining` headers)."""

import re

import msgspec

from syncer.http.transport import Headers
from syncer.lazy_pattern import lazy_pattern

_QUOTA = lazy_pattern(r"\s{0,8}(\d{1,9})\s{0,8}(?:;\s{0,8}w=(\d{1,8}))?", re.ASCII)


class Quota(msgspec.Struct, frozen=True):
    """`remaining` pulls of `limit` per `period` in seconds. `limit` and `period` are 0 if they are unknown."""

    remaining: int
    limit: int = 0
    period: float = 0.0


def read_quota(headers: Headers) -> Quota | None:
    """Return the quota from the headers of a response, or None if there is none."""
    left = _QUOTA.match(headers.get("ratelimit-remaining", ""))
    if left is None:
        return None
    limit = _QUOTA.match(headers.get("ratelimit-limit", ""))
    if limit is None or not limit[2]:
        return Quota(int(left[1]))
    return Quota(int(left[1]), int(limit[1]), float(limit[2]))
