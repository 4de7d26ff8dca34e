"""How many files and connections this process may have open (RLIMIT_NOFILE), and how many of those are left."""

import resource
from pathlib import Path

RESERVE = 24
"""Descriptors left for what is no connection to a registry: names that are looked up, helper programs, files."""


def raise_limit(wanted: int) -> int:
    """Raise the soft limit so that `wanted` more may be opened, as far as the hard limit lets. How many may be now.

    The limit is never lowered. What cannot be raised stays as it is: there is less to be had then.
    """
    used = _open_now()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = used + RESERVE + wanted
    if soft != resource.RLIM_INFINITY and soft < needed:
        raised = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, raised), hard))
        except (OSError, ValueError):
            pass
        else:
            soft = max(soft, raised)
    if soft == resource.RLIM_INFINITY:
        return wanted
    return max(0, min(wanted, soft - used - RESERVE))


def _open_now() -> int:
    try:
        return sum(1 for _ in Path("/proc/self/fd").iterdir())
    except OSError:
        return 32  # no /proc: more than a process has at its start
