"""Regular expressions of rules, in RE2's syntax, whose matching takes linear time."""

from functools import cache
from typing import Any


class InvalidPattern(ValueError):
    """A regular expression that RE2 does not accept."""


@cache
def compiled(pattern: str) -> Any:
    """Return the compiled pattern. Raises `re2.error`."""
    import re2  # most files have no regular expression

    options = re2.Options()
    options.log_errors = False
    return re2.compile(pattern, options)


def check_pattern(pattern: str) -> str:
    """Return `pattern` if it is valid. Raises `InvalidPattern` with RE2's message."""
    import re2

    try:
        compiled(pattern)
    except re2.error as error:
        reason = error.args[0] if error.args else ""
        text = reason.decode("utf-8", "replace") if isinstance(reason, bytes) else str(reason)
        raise InvalidPattern(text[:200]) from error
    return pattern
