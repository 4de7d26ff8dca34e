"""Finds images in Dockerfiles (Dockerfile reference: FROM, ARG, COPY --from, RUN --mount, parser directives, heredocs)."""

import shlex
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import PurePath

import msgspec

from syncer.references.found import Found, resolve
from syncer.references.variables import Unresolvable, expand

_DIRECTIVES = ("syntax", "escape", "check")
_MAX_TABS = 32
"""Tabs before the end of a heredoc that `<<-` strips."""
_WITH_HEREDOCS = frozenset({"RUN", "COPY", "ADD"})
_PLATFORM_ARGUMENTS = tuple(
    f"{side}{part}" for side in ("TARGET", "BUILD") for part in ("PLATFORM", "OS", "ARCH", "VARIANT")
)
"""Arguments whose value depends on the platform of the build."""


class Instruction(msgspec.Struct, frozen=True):
    """One instruction with its continuation lines. `line` counts from 1, `keyword` is in upper case."""

    line: int
    keyword: str
    rest: str


def is_dockerfile_name(name: str) -> bool:
    """Whether a file's name is one of those for Dockerfiles: `Dockerfile`, `Dockerfile.dev`, `web.Dockerfile`."""
    name = PurePath(name).name.lower()
    stem, _, end = name.partition(".")
    return stem in {"dockerfile", "containerfile"} or end.split(".")[-1] in {"dockerfile", "containerfile"}


def is_dockerfile_text(text: str) -> bool:
    """Whether the first instruction is one that a Dockerfile may begin with."""
    first = next(instructions(text[:65536].splitlines(), "\\"), None)
    return first is not None and (
        first.keyword == "FROM" or (first.keyword == "ARG" and "FROM" in text.upper())
    )


def read_dockerfile(text: str, found: Found, *, first_line: int = 1) -> None:
    """Add the images that a build pulls. `first_line` is the line of the text's beginning in its file."""
    lines = text.splitlines()
    directives = _directives(lines)
    if syntax := directives.get("syntax"):
        found.add(syntax[1], syntax[0] + first_line - 1)
    escape = directives.get("escape", (0, "\\"))[1]
    build = _Build(found)
    for instruction in instructions(lines, escape if escape in {"\\", "`"} else "\\"):
        build.read(msgspec.structs.replace(instruction, line=instruction.line + first_line - 1))


def _directives(lines: Sequence[str]) -> dict[str, tuple[int, str]]:
    """Return the parser directives with their lines. They come before every other line, except for `#!`."""
    directives: dict[str, tuple[int, str]] = {}
    for number, line in enumerate(lines, 1):
        if number == 1 and line.startswith("#!"):
            continue
        name, equals, value = line.strip().removeprefix("#").partition("=")
        name = name.strip().lower()
        if not line.lstrip().startswith("#") or not equals or name not in _DIRECTIVES:
            break
        directives.setdefault(name, (number, value.strip()))
    return directives


def instructions(lines: Sequence[str], escape: str) -> Iterator[Instruction]:
    """Yield each instruction. `escape` at the end of a line continues it; comments in between are left out."""
    at = 0
    places: dict[str, list[int]] | None = None
    while at < len(lines):
        if _is_blank(lines[at]):
            at += 1
            continue
        start, parts = at, []
        while at < len(lines):
            line = lines[at].rstrip()
            at += 1
            if not line.endswith(escape):
                parts.append(line)
                break
            parts.append(line[:-1])
            while at < len(lines) and _is_blank(lines[at]):
                at += 1
        words = "".join(parts).split(None, 1)
        keyword, rest = words[0].upper() if words else "", words[1] if len(words) > 1 else ""
        if keyword == "ONBUILD" and rest:
            keyword, _, rest = rest.partition(" ")
            keyword = keyword.upper()
        if keyword in _WITH_HEREDOCS and "<<" in rest:
            places = _places(lines) if places is None else places
            at = _after_heredocs(places, at, rest)
        if keyword:
            yield Instruction(start + 1, keyword, rest)


def _is_blank(line: str) -> bool:
    stripped = line.lstrip()
    return not stripped or stripped.startswith("#")


def _places(lines: Sequence[str]) -> dict[str, list[int]]:
    """Return the indexes of each line that may end a heredoc: a word, perhaps after tabs."""
    places: dict[str, list[int]] = {}
    for index, line in enumerate(lines):
        if len(line.split(None, 1)) == 1:
            places.setdefault(line, []).append(index)
    return places


def _after_heredocs(places: Mapping[str, Sequence[int]], at: int, rest: str) -> int:
    """Return the index of the line after the heredocs that an instruction opens. One without an end is none."""
    for word in rest.split():
        opening = word.lstrip("0123456789")
        if not opening.startswith("<<"):
            continue
        strips_tabs = opening.startswith("<<-")
        name = opening.removeprefix("<<").removeprefix("-").strip("\"'")
        if not name or "<" in name:
            continue
        tabs = "\t" * _MAX_TABS if strips_tabs else ""
        ends = [
            ends[first]
            for count in range(len(tabs) + 1)
            if (ends := places.get(tabs[:count] + name)) and (first := bisect_left(ends, at)) < len(ends)
        ]
        at = min(ends, default=at - 1) + 1
    return at


class _Build:
    """The state of reading one Dockerfile: its stages, and the arguments before the first of them."""

    def __init__(self, found: Found) -> None:
        self._found = found
        self._arguments: dict[str, str] = {}
        self._stages: set[str] = set()
        self._count = 0

    def read(self, instruction: Instruction) -> None:
        match instruction.keyword:
            case "ARG" if not self._count:
                self._read_arguments(instruction)
            case "FROM":
                self._read_from(instruction)
            case "COPY":
                for flag in _flags(instruction.rest):
                    if flag.startswith("--from="):
                        self._read_stage(flag.removeprefix("--from="), instruction.line)
            case "RUN":
                for flag in _flags(instruction.rest):
                    if flag.startswith("--mount="):
                        for option in flag.removeprefix("--mount=").split(","):
                            name, _, value = option.partition("=")
                            if name.strip().lower() == "from":
                                self._read_stage(value, instruction.line)

    def _read_arguments(self, instruction: Instruction) -> None:
        """Remember the defaults of arguments that FROM may use. One that cannot be resolved has none."""
        try:
            words = shlex.split(instruction.rest)
        except ValueError:
            words = instruction.rest.split()
        for word in words:
            name, equals, value = word.partition("=")
            if equals:
                self._arguments.pop(name, None)
                try:
                    self._arguments[name] = resolve(value, self._arguments)
                except Unresolvable:
                    continue

    def _read_from(self, instruction: Instruction) -> None:
        words = [word for word in instruction.rest.split() if not word.startswith("--")]
        name = words[0].strip("\"'") if words else ""
        if not self._is_stage(name):
            self._found.add(name, instruction.line, self._arguments)
        self._count += 1
        if len(words) > 2 and words[1].upper() == "AS":
            self._stages.add(words[2].lower())

    def _is_stage(self, name: str) -> bool:
        """Whether FROM names an earlier stage, or nothing at all (`scratch`).

        `build-${TARGETARCH}` is a stage if there is one that it can mean.
        """
        anything = self._arguments | {
            argument: "*" for argument in _PLATFORM_ARGUMENTS if argument not in self._arguments
        }
        try:
            pattern = expand(name, anything).lower()
        except Unresolvable:
            return False
        if "*" in pattern:
            return any(fnmatchcase(stage, pattern.replace("[", "[[]")) for stage in self._stages)
        return pattern == "scratch" or pattern in self._stages

    def _read_stage(self, name: str, line: int) -> None:
        """Read the value of `from`: a stage by its name or number, or an image. BuildKit expands no variables in it."""
        name = name.strip("\"'")
        if "$" in name:
            self._found.reject(name, line, "a variable is not allowed here")
        elif not name.isdecimal() and not self._is_stage(name):
            self._found.add(name, line)


def _flags(rest: str) -> Iterator[str]:
    for word in rest.split():
        if not word.startswith("--"):
            return
        yield word
