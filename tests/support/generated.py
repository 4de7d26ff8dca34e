"""How many examples Hypothesis generates for a test, and how many seeds a test with random moments has.

`EXAMPLES=10 ./scripts/test tests/unit` generates ten times as many, to search for longer than each change allows.
With `EXAMPLE_SECONDS`, an example that takes longer fails: see `scripts/fuzz`.
"""

import os
from datetime import timedelta

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

_FACTOR = int(os.environ.get("EXAMPLES", "1"))
_SECONDS = os.environ.get("EXAMPLE_SECONDS")
_DEADLINE = timedelta(seconds=float(_SECONDS)) if _SECONDS else None


def seeds(count: int) -> range:
    """Return so many seeds, from 1."""
    return range(1, count * _FACTOR + 1)


def examples(count: int) -> settings:
    """Settings for a test with so many examples, by default without a deadline for each."""
    return settings(max_examples=count * _FACTOR, deadline=_DEADLINE, suppress_health_check=list(HealthCheck))


def long(texts: st.SearchStrategy[str], size: int = 20_000) -> st.SearchStrategy[str]:
    """A text of `texts`, or one that is repeated up to `size` characters: what needs quadratic time then hangs."""
    repeated = st.builds(
        lambda start, text, end: start + text * (size // max(len(text), 1)) + end, texts, texts, texts
    )
    # Seldom: they take longer than others.
    return st.integers(0, 30).flatmap(lambda number: texts if number else repeated)
