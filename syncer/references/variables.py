"""Expands variables in the syntax that compose files, Dockerfiles and Flux share: `${NAME:-default}`."""

from collections.abc import Mapping

MAX_TEXT = 4096
"""Characters of a text before and after its expansion. A reference has less than 500."""
MAX_DEPTH = 16
"""Levels of `${A:-${B:-…}}`."""
_OPERATORS = (":-", ":=", ":+", ":?", "-", "=", "+", "?")


class Unresolvable(ValueError):
    """A text whose value is only known when it is used. The message says why."""


def expand(text: str, values: Mapping[str, str], *, depth: int = 0) -> str:
    """Return `text` with the value of each variable: of `values`, or else its default. `$$` is a dollar sign.

    Raises `Unresolvable` for a variable without either.
    """
    if len(text) > MAX_TEXT or depth > MAX_DEPTH:
        raise Unresolvable("too long, or nested too deep")
    parts: list[str] = []
    at = 0
    while (dollar := text.find("$", at)) >= 0:
        value, end = _variable(text, dollar + 1, values, depth)
        parts += (text[at:dollar], value)
        at = end
    expanded = "".join((*parts, text[at:]))
    if len(expanded) > MAX_TEXT:
        raise Unresolvable("too long")
    return expanded


def _variable(text: str, start: int, values: Mapping[str, str], depth: int) -> tuple[str, int]:
    """Return the value of the variable whose dollar sign is before `start`, and the position after it."""
    match text[start : start + 1]:
        case "$":
            return "$", start + 1
        case "{":
            end = _closing(text, start)
            return _braced(text[start + 1 : end], values, depth), end + 1
    end = _name_end(text, start)
    if end == start:
        raise Unresolvable("it contains a dollar sign that names no variable")
    return _value(text[start:end], values), end


def _closing(text: str, start: int) -> int:
    """Return the position of the brace that closes the one at `start`."""
    depth = 0
    for position in range(start, len(text)):
        if text[position] == "{":
            depth += 1
        elif text[position] == "}":
            depth -= 1
            if not depth:
                return position
    raise Unresolvable("a brace is not closed")


def _braced(inner: str, values: Mapping[str, str], depth: int) -> str:
    end = _name_end(inner, 0)
    name, rest = inner[:end], inner[end:]
    if not name:
        raise Unresolvable("it contains a variable without a name")
    operator = next((each for each in _OPERATORS if rest.startswith(each)), "")
    if rest and not operator:
        raise Unresolvable(f"variable {name} has a modifier that is not supported: {rest[:20]}")
    word = rest[len(operator) :]
    is_set = bool(values.get(name)) if operator.startswith(":") else name in values
    match operator[-1:]:
        case "-" | "=":
            return values[name] if is_set else expand(word, values, depth=depth + 1)
        case "+":
            return expand(word, values, depth=depth + 1) if is_set else ""
        case "?" if not is_set:
            raise Unresolvable(f"variable {name} has no default")
    return _value(name, values)


def _value(name: str, values: Mapping[str, str]) -> str:
    try:
        return values[name]
    except KeyError:
        raise Unresolvable(f"variable {name} has no default") from None


def _name_end(text: str, start: int) -> int:
    end = start
    while end < len(text) and (text[end] == "_" or (text[end].isascii() and text[end].isalnum())):
        end += 1
    return end
