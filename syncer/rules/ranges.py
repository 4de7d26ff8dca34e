"""Ranges of versions in the syntax of npm and Masterminds, with up to four numbers.

A version with fewer than three numbers, or with `x` or `*`, stands for all versions that begin so, as in npm:
`>1.4` is `>=1.5`, and `<=1.4` is `<1.5`. Three numbers are one version: `1.2.3` is `1.2.3.0`.
"""

import re

import msgspec

from syncer.lazy_pattern import lazy_pattern
from syncer.rules.versions import (
    MAX_NUMBERS,
    Identifier,
    Numbers,
    Version,
    VersionKey,
    identifiers,
    padded,
    parse_prerelease,
)

MAX_RANGE_LENGTH = 1000
"""Characters."""
_HYPHEN = " - "
_OPERATOR = lazy_pattern(r"(?:>=|=>|<=|=<|!=|~>|[<>=~^])?")
_GAP = lazy_pattern(r"(>=|=>|<=|=<|!=|~>|[<>=~^]) ")
_VERSION = lazy_pattern(
    r"v?((?:[0-9]{1,128}|[xX*])(?:\.(?:[0-9]{1,128}|[xX*])){0,3})(-[0-9A-Za-z][0-9A-Za-z.-]{0,128})?"
)
_ADMITTED_WORD = lazy_pattern(r"-(?:[0-9]{1,128}|[ab])(?:[.-][0-9A-Za-z]{1,128}){0,20}", re.IGNORECASE)
_SYNONYMS = {"": "=", "=>": ">=", "=<": "<=", "~>": "~"}


class InvalidRange(ValueError):
    """Text that is not a range of versions."""


class Interval(msgspec.Struct, frozen=True):
    """Versions from `low` on and before `high`. None has no limit. If `outside` is set, all other versions."""

    low: VersionKey | None = None
    high: VersionKey | None = None
    outside: bool = False

    def contains(self, key: VersionKey) -> bool:
        within = (self.low is None or key >= self.low) and (self.high is None or key < self.high)
        return within != self.outside


class Alternative(msgspec.Struct, frozen=True):
    """One side of `||`: all intervals must contain a version. `prereleases` is whether it names a pre-release."""

    intervals: tuple[Interval, ...]
    prereleases: bool


class VersionRange(msgspec.Struct, frozen=True):
    """A range. `text` is what was written."""

    text: str
    alternatives: tuple[Alternative, ...]

    def contains(self, version: Version, *, prereleases: bool = False) -> bool:
        """Return whether a version is in the range. Its suffix counts only if it makes it a pre-release.

        A pre-release must be admitted by `prereleases`, or by the side of `||` that contains it.
        """
        key = version.key
        return any(
            all(interval.contains(key) for interval in each.intervals)
            for each in self.alternatives
            if prereleases or each.prereleases or not version.prerelease
        )


class _Bound(msgspec.Struct, frozen=True):
    """A version in a range: `first` is the lowest that it stands for, `end` is the lowest after all of these.

    `given` is how many numbers are written. `exact` is whether it stands for one version.
    """

    numbers: Numbers
    given: int
    exact: bool
    first: VersionKey
    end: VersionKey | None
    prerelease: bool

    def before(self, given: int) -> VersionKey | None:
        """Return the lowest version with another value in the first `given` numbers; None if none is given."""
        return _before(_next(self.numbers, given)) if given else None


def parse_range(text: str) -> VersionRange:
    """Read a range such as `>=1.20 <2`, `^1.4`, `~1.4`, `1.x`, `1.2 - 1.4` or `!=1.5, >1 || 3`. Raises `InvalidRange`."""
    if len(text) > MAX_RANGE_LENGTH:
        raise InvalidRange(f"expected a range of at most {MAX_RANGE_LENGTH} characters")
    spaced = " ".join(text.split())
    return VersionRange(text, tuple(_alternative(part) for part in spaced.split("||")))


ANY_VERSION = VersionRange("*", (Alternative((Interval(),), prereleases=False),))


def _alternative(text: str) -> Alternative:
    intervals: list[Interval] = []
    prereleases = False
    for part in text.split(","):
        if not part.strip():
            raise InvalidRange(
                'expected a range such as ">=1.20 <2", found an empty one; all versions are "*"'
            )
        read = _hyphen_range(part) if _HYPHEN in part else _comparisons(part.strip())
        for interval, bounds in read:
            intervals.append(interval)
            prereleases = prereleases or any(bound.prerelease for bound in bounds)
    return Alternative(tuple(intervals), prereleases)


def _hyphen_range(text: str) -> list[tuple[Interval, list[_Bound]]]:
    sides = text.split(_HYPHEN)
    if len(sides) != 2:
        raise InvalidRange(f"expected two versions around ' - ', found {_shown(text)}")
    low, high = (_bound(side.strip()) for side in sides)
    return [(Interval(low.first, high.end), [low, high])]


def _comparisons(text: str) -> list[tuple[Interval, list[_Bound]]]:
    return [_comparison(part) for part in _GAP.sub(r"\1", text).split(" ")]


def _comparison(text: str) -> tuple[Interval, list[_Bound]]:
    found = _OPERATOR.match(text)
    written = found.group() if found else ""
    bound = _bound(text[len(written) :], text)
    match _SYNONYMS.get(written, written):
        case "=":
            interval = Interval(bound.first, bound.end)
        case "!=":
            interval = Interval(bound.first, bound.end, outside=True)
        case ">=":
            interval = Interval(bound.first)
        case "<=":
            interval = Interval(None, bound.end)
        case "<":
            interval = Interval(None, bound.first)
        case ">":
            # Nothing is greater than all versions.
            interval = Interval(bound.end) if bound.end is not None else Interval(outside=True)
        case "~":
            interval = Interval(bound.first, bound.before(min(bound.given, 2)))
        case _:
            interval = Interval(bound.first, bound.before(_caret_place(bound)))
    return interval, [bound]


def _caret_place(bound: _Bound) -> int:
    """Return how many numbers stay as they are: all up to the first that is not 0."""
    not_zero = (place for place, number in enumerate(bound.numbers[: bound.given], 1) if number)
    return next(not_zero, bound.given)


def _bound(text: str, comparison: str = "") -> _Bound:
    found = _VERSION.fullmatch(text)
    if found is None:
        raise InvalidRange(
            f'expected a version with one to four numbers, as in ">=1.20 <2", found {_shown(comparison or text)}'
        )
    parts = found[1].split(".")
    wildcard = next((index for index, part in enumerate(parts) if part in "xX*"), None)
    written = [int(part) for part in parts[:wildcard]]
    numbers, given = padded(written), len(written)
    if found[2]:
        if wildcard is not None:
            raise InvalidRange(f"expected no suffix after x or *, found {_shown(text)}")
        prerelease = _prerelease(found[2], text)
        first: VersionKey = (numbers, False, prerelease)
        # The next pre-release is the same one with the lowest further part.
        return _Bound(numbers, given, True, first, (numbers, False, (*prerelease, _LOWEST)), prerelease=True)
    if wildcard is None and given >= MAX_NUMBERS - 1:
        first = (numbers, True, ())
        return _Bound(numbers, given, True, first, (numbers, True, (_LOWEST,)), prerelease=False)
    if not given:
        return _Bound(numbers, 0, False, _before(numbers), None, prerelease=False)
    return _Bound(numbers, given, False, _before(numbers), _before(_next(numbers, given)), prerelease=False)


_LOWEST: Identifier = (-1, 0)
"""Comes before every part of a pre-release."""


def _before(numbers: Numbers) -> VersionKey:
    """Return what comes before all pre-releases of a version."""
    return numbers, False, ()


def _next(numbers: Numbers, given: int) -> Numbers:
    """Return the lowest numbers after all that begin with the first `given` ones."""
    return padded([*numbers[: given - 1], numbers[given - 1] + 1])


def _prerelease(suffix: str, text: str) -> tuple[Identifier, ...]:
    # `-0` and `-a` are how ranges admit pre-releases.
    if parse_prerelease(suffix) or _ADMITTED_WORD.fullmatch(suffix):
        return identifiers(suffix)
    raise InvalidRange(
        f"{suffix!r} is no pre-release, found {_shown(text)}: tags with such a suffix are selected by `variant`"
    )


def _shown(text: str) -> str:
    return repr(text if len(text) <= 80 else f"{text[:80]}…")
