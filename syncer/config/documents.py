"""Files as the user gave them: read by their ending, with places for errors; and references to the environment."""

import re
from collections.abc import Mapping
from pathlib import Path

from syncer.config.json_reader import read_json
from syncer.config.nodes import Node
from syncer.diagnostics import ConfigError, Findings, Place, Problem
from syncer.files import read_bytes, why
from syncer.lazy_pattern import lazy_pattern

__all__ = ["MAX_FILE_SIZE", "ConfigError", "Findings", "Problem", "expand", "read_document", "variable_named"]

MAX_FILE_SIZE = 32 * 1024 * 1024
"""Bytes; room for more than 100,000 rules."""

_NAME = r"[A-Za-z_][A-Za-z0-9_]*"
_REFERENCE = lazy_pattern(rf"\$(?:({_NAME})|\{{({_NAME})\}})", re.ASCII)


class RefusedVariable(KeyError):
    """A variable that may not be used. `reason` says why, and never holds its value."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(name)
        self.reason = reason


def read_document(path: Path, root: str, findings: Findings) -> Node | None:
    """Read a file as JSON or YAML; `root` is the path of its top in messages, as `images`.

    What cannot be read goes to `findings`, and None is returned.
    """
    try:
        content = read_bytes(path, MAX_FILE_SIZE)
    except (OSError, ValueError) as error:
        findings.problems.append(Problem(str(path), "", f"cannot be read: {why(error)}"))
        return None
    text = decoded(content, str(path), findings)
    return None if text is None else parse_document(text, path, root, findings)


def parse_document(text: str, path: Path, root: str, findings: Findings) -> Node | None:
    """Parse the text of a file as JSON or YAML, by the ending of `path` or else by its first character."""
    file = str(path)
    if not text.strip():
        findings.problems.append(_empty(file))
        return None
    if _is_json(path, text):
        return read_json(text, file, root, findings)
    from syncer.config.yaml_reader import read_yaml  # most files are JSON, and yaml takes 40 ms

    problems = len(findings.problems)
    node = read_yaml(text, file, root, findings)
    if node is None and len(findings.problems) == problems:
        findings.problems.append(_empty(file))
    return node


def _is_json(path: Path, text: str) -> bool:
    match path.suffix.lower():
        case ".json":
            return True
        case ".yaml" | ".yml":
            return False
    return text.lstrip().startswith(("{", "["))


def decoded(content: bytes, file: str, findings: Findings) -> str | None:
    """Return the text of a file in UTF-8. If it is none, a problem goes to `findings`."""
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = 1 + content.count(b"\n", 0, error.start)
        column = error.start - content.rfind(b"\n", 0, error.start)
        utf16 = " (it looks like UTF-16)" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else ""
        findings.problems.append(Problem(file, f"{line}:{column}", f"expected UTF-8 text{utf16}"))
        return None


def _empty(file: str) -> Problem:
    return Problem(file, "", "expected a mapping, found an empty file ({} says that there is nothing)")


def variable_named(text: str) -> str | None:
    """The NAME in a text that is nothing but `$NAME` or `${NAME}`; None for any other text."""
    match = _REFERENCE.fullmatch(text) if text.startswith("$") else None
    return match and (match.group(1) or match.group(2))


def expand(text: str, environment: Mapping[str, str], place: Place) -> str:
    """Put in the environment's values for each `$NAME` and `${NAME}`.

    Raises `Unexpected` if one is not set, or is refused by a `RuleVariables`. No message shows a value.
    """
    if "$" not in text:
        return text
    unset: list[str] = []
    refused: dict[str, str] = {}

    def value(match: re.Match[str]) -> str:
        name = match.group(1) or match.group(2)
        try:
            return environment[name]
        except RefusedVariable as error:
            refused[name] = error.reason
        except KeyError:
            unset.append(name)
        return ""

    expanded = _REFERENCE.sub(value, text)
    if refused:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in refused.items())
        raise place.unexpected(f"a rule may not use this environment variable: {reasons}")
    if unset:
        names = ", ".join(dict.fromkeys(unset))
        raise place.unexpected(f"expected the environment variable {names} to be set")
    return expanded
