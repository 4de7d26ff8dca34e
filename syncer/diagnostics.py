"""A location in a file, a problem there, and all that was found in the files of one start."""

import re
from collections.abc import Iterable

import msgspec

MAX_SHOWN = 120
"""Characters of a stranger's text in a message."""
_LEADING_LINE = re.compile(r"[0-9]+")


class Problem(msgspec.Struct, frozen=True):
    """Something wrong in a file: where, and what was expected. `str()` is one line.

    `place` is the line (or line and column) and the path of names that leads there. Never holds a secret.
    """

    file: str
    place: str
    message: str

    @property
    def line(self) -> int:
        """0 where the file as a whole is meant."""
        digits = _LEADING_LINE.match(self.place)
        return int(digits.group()) if digits else 0

    def __str__(self) -> str:
        return ": ".join(part for part in (f"{self.file}:{self.place}".rstrip(":"), self.message) if part)


class ConfigError(Exception):
    """Files that cannot be used. `problems` holds all that is wrong with them; `str()` is a line for each.

    `warnings` are what is odd in them beside that.
    """

    def __init__(self, *problems: Problem, warnings: Iterable[Problem] = ()) -> None:
        super().__init__(*problems)
        self.problems = problems
        self.warnings = tuple(warnings)

    def __str__(self) -> str:
        return "\n".join(str(problem) for problem in self.problems)


class Unexpected(Exception):
    """One problem, on its way to the list."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem)
        self.problem = problem


class Findings:
    """All that is found wrong or odd in the files of one start."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []
        self.warnings: list[Problem] = []

    def raise_if_any(self) -> None:
        """Raises `ConfigError` with all problems, each once, file by file and line by line."""
        files = list(dict.fromkeys(problem.file for problem in self.problems))
        if self.problems:
            unique = dict.fromkeys(self.problems)
            in_order = sorted(unique, key=lambda problem: (files.index(problem.file), problem.line))
            raise ConfigError(*in_order, warnings=self.warnings)


class Place(msgspec.Struct, frozen=True):
    """A line of a file, and the path of names that leads to what stands there."""

    file: str = ""
    line: int = 0
    path: str = ""

    def __str__(self) -> str:
        return ": ".join(part for part in (f"{self.file}:{self.line}", self.path) if part)

    def problem(self, message: str) -> Problem:
        return Problem(self.file, f"{self.line}: {self.path}" if self.path else str(self.line), message)

    def unexpected(self, message: str) -> Unexpected:
        """A problem of this place, to be raised."""
        return Unexpected(self.problem(message))


def shown(text: str) -> str:
    """A stranger's text for a message: quoted, without control characters, not endless."""
    return repr(text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}…")
