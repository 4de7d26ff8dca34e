"""Reads tags as versions: an optional `v`, one to four numbers, and a suffix. The order of versions is total."""

import re

import msgspec

from syncer.lazy_pattern import lazy_pattern

MAX_NUMBERS = 4
_VERSION = lazy_pattern(r"v?([0-9]{1,128}(?:\.[0-9]{1,128}){0,3})(?!\.?[0-9])(.{0,128})", re.DOTALL)
_COMMIT = lazy_pattern(r"[0-9a-f]{7,64}")
_RUN = lazy_pattern(r"[0-9]{1,128}|[A-Za-z]{1,128}")
_PRERELEASE = lazy_pattern(
    r"(?:[-._]?(?:alpha|beta|rc|cr|dev|snapshot|nightly|pre|preview|prerelease|milestone|canary|ea|eap)"
    r"(?:[-._]?[0-9]{1,128})?"
    # `3.14.0b4` of Python, and `-M2` of Spring.
    r"|[ab][0-9]{1,128}|[-.]m[0-9]{1,128})"
    # Further numbers, words, and commits: `-alpha.beta.2`, `-dev.20241120.1a2b3c4`.
    r"(?:[-._](?:[0-9]{1,128}|(?:alpha|beta|rc|dev|snapshot|nightly|pre)[0-9]{0,20}"
    r"|g?(?=[0-9]{0,39}[a-f])[0-9a-f]{7,40})){0,20}",
    re.IGNORECASE,
)

Identifier = tuple[int, int | str]
"""A part of a pre-release: numbers come before words, and compare as numbers."""
Numbers = tuple[int, int, int, int]
VersionKey = tuple[Numbers, bool, tuple[Identifier, ...]]


class Version(msgspec.Struct, frozen=True):
    """A version. `suffix` is the text after the numbers.

    `prerelease` has the parts of a pre-release suffix and is empty for other suffixes. Versions with equal `key` are
    equal, such as `1.2` and `v1.2.0`.
    """

    numbers: Numbers
    suffix: str = ""
    prerelease: tuple[Identifier, ...] = ()

    @property
    def key(self) -> VersionKey:
        """What versions are compared by. A pre-release comes before its release, and a variant's suffix does not count."""
        return self.numbers, not self.prerelease, self.prerelease

    @property
    def is_variant(self) -> bool:
        """Whether the suffix is none of a pre-release, such as `-alpine`."""
        return bool(self.suffix) and not self.prerelease


def parse_version(tag: str) -> Version | None:
    """Return the version that a tag names, or None if it names none. Never raises."""
    found = _VERSION.fullmatch(tag)
    if found is None:
        return None
    numbers, suffix = found.groups()
    if "." not in numbers and suffix and _COMMIT.fullmatch(tag):
        return None
    return Version(padded([int(number) for number in numbers.split(".")]), suffix, parse_prerelease(suffix))


def parse_prerelease(suffix: str) -> tuple[Identifier, ...]:
    """Return the parts of a pre-release suffix such as `-rc.1`; nothing for any other suffix."""
    return identifiers(suffix) if _PRERELEASE.fullmatch(suffix) else ()


def identifiers(suffix: str) -> tuple[Identifier, ...]:
    """Return the numbers and words of a suffix, in order. The case of letters does not count."""
    return tuple((0, int(run)) if run[0].isdigit() else (1, run.lower()) for run in _RUN.findall(suffix))


def padded(numbers: list[int]) -> Numbers:
    """Return one to four numbers as four. A missing number is 0."""
    first, second, third, fourth = (*numbers, 0, 0, 0, 0)[:MAX_NUMBERS]
    return first, second, third, fourth
