"""Problems in configuration files, with their locations."""

from collections.abc import Iterable

import msgspec

from syncer.lazy_pattern import lazy_pattern

MAX_SHOWN = 120
"""Maximum length of untrusted text in a message, in characters."""
_LEADING_LINE = lazy_pattern(r"[0-9]+")


class Problem(msgspec.Struct, frozen=True):
    """An error or oddity in a file: its location, and what was expected. `str()` returns one line.

    `place` is the line (or line and column) and the path of the field. A problem never contains a secret.
    """

    file: str
    place: str
    message: str

    @property
    def line(self) -> int:
        """The line number, or 0 for the whole file."""
        digits = _LEADING_LINE.match(self.place)
        return int(digits.group()) if digits else 0

    def __str__(self) -> str:
        return ": ".join(part for part in (f"{self.file}:{self.place}".rstrip(":"), self.message) if part)


class ConfigError(Exception):
    """The files are invalid. `problems` lists every error, and `str()` returns one line for each.

    `warnings` lists further oddities that are not errors.
    """

    def __init__(self, *problems: Problem, warnings: Iterable[Problem] = ()) -> None:
        super().__init__(*problems)
        self.problems = problems
        self.warnings = tuple(warnings)

    def __str__(self) -> str:
        return "\n".join(str(problem) for problem in self.problems)


class Unexpected(Exception):
    """A single problem as an exception, to be added to `Findings`."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem)
        self.problem = problem


class Findings:
    """Collects the problems and warnings of all files."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []
        self.warnings: list[Problem] = []

    def raise_if_any(self) -> None:
        """Raise `ConfigError` if there are problems. They are deduplicated and sorted by file and line."""
        files = list(dict.fromkeys(problem.file for problem in self.problems))
        if self.problems:
            unique = dict.fromkeys(self.problems)
            in_order = sorted(unique, key=lambda problem: (files.index(problem.file), problem.line))
            raise ConfigError(*in_order, warnings=self.warnings)


class Place(msgspec.Struct, frozen=True):
    """A location in a file: the line, and the path of the field."""

    file: str = ""
    line: int = 0
    path: str = ""

    def __str__(self) -> str:
        return ": ".join(part for part in (f"{self.file}:{self.line}", self.path) if part)

    def problem(self, message: str) -> Problem:
        line = str(self.line) if self.line else ""
        return Problem(self.file, ": ".join(part for part in (line, self.path) if part), message)

    def seen_from(self, other: "Place") -> str:
        """Return this location for a message about another one: the file is only named if it is another file."""
        return f"line {self.line}" if self.file == other.file else f"line {self.line} of {self.file}"

    def unexpected(self, message: str) -> Unexpected:
        """Return an exception for a problem at this location."""
        return Unexpected(self.problem(message))


def shown(text: str) -> str:
    """Return untrusted text for a message: quoted, shortened and without control characters."""
    return repr(text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}…")
