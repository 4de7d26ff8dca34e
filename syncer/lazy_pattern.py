"""Regular expressions that are compiled at their first use, since a run needs few of them."""

import re
from typing import Any, AnyStr, cast


def lazy_pattern(expression: AnyStr, flags: re.RegexFlag = re.NOFLAG) -> re.Pattern[AnyStr]:
    """Return a stand-in for `re.compile(expression, flags)` that compiles when one of its methods is first used.

    Only for expressions of this program: an invalid one is found late.
    """
    return cast("re.Pattern[AnyStr]", LazyPattern(expression, flags))


class LazyPattern:
    """Keeps each attribute of the compiled pattern that was asked for, so that a second access costs nothing more."""

    def __init__(self, expression: str | bytes, flags: re.RegexFlag) -> None:
        self._expression = expression
        self._flags = flags

    def __getattr__(self, name: str) -> Any:
        value = getattr(re.compile(self._expression, self._flags), name)
        setattr(self, name, value)
        return value
