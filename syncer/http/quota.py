"""How many pulls are left, as Docker Hub says with each answer (`RateLimit-Limit` and `RateLimit-Remaining`)."""

import re

import httpx
import msgspec

_QUOTA = re.compile(r"\s{0,8}(\d{1,9})\s{0,8}(?:;\s{0,8}w=(\d{1,8}))?", re.ASCII)


class Quota(msgspec.Struct, frozen=True):
    """`remaining` pulls of `limit` in each `period` of seconds; both are 0 where they are not said."""

    remaining: int
    limit: int = 0
    period: float = 0.0


def read_quota(headers: httpx.Headers) -> Quota | None:
    """What an answer says; None if it says nothing."""
    left = _QUOTA.match(headers.get("ratelimit-remaining", ""))
    if left is None:
        return None
    limit = _QUOTA.match(headers.get("ratelimit-limit", ""))
    if limit is None or not limit[2]:
        return Quota(int(left[1]))
    return Quota(int(left[1]), int(limit[1]), float(limit[2]))
