"""How many examples Hypothesis generates for a test, and how many seeds a test with random moments has.

`EXAMPLES=10 ./scripts/test tests/unit` generates ten times as many, to search for longer than each change allows.
"""

import os

from hypothesis import HealthCheck, settings

_FACTOR = int(os.environ.get("EXAMPLES", "1"))


def seeds(count: int) -> range:
    """Return so many seeds, from 1."""
    return range(1, count * _FACTOR + 1)


def examples(count: int) -> settings:
    """Settings for a test with so many examples, without a deadline for each."""
    return settings(max_examples=count * _FACTOR, deadline=None, suppress_health_check=list(HealthCheck))
