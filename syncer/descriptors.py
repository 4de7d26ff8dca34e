"""The limit of open file descriptors (RLIMIT_NOFILE), and how many of them are free."""

import resource
from pathlib import Path

RESERVE = 24
"""Descriptors reserved for DNS lookups, helper programs and files: anything but connections to registries."""


def raise_limit(wanted: int) -> int:
    """Raise the soft limit so that `wanted` more descriptors can be opened. Return how many can be opened now.

    The limit is never lowered, and never exceeds the hard limit. The result may therefore be less than `wanted`.
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
        return 32  # without /proc, assume more than a process has open at its start
