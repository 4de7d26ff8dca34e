"""Regular expressions that meet texts of strangers: none may take time that grows faster than the text."""

import importlib
import pkgutil
import re
from re import _constants as opcodes  # type: ignore[attr-defined]
from re import _parser as parser  # type: ignore[attr-defined]

import pytest

import syncer
from syncer.lazy_pattern import LazyPattern

PATTERN = (re.Pattern, LazyPattern)
USERS_OWN = (
    "syncer.cli",
    "syncer.config",
    "syncer.demo",
    "syncer.diagnostics",
    "syncer.rules",
)
"""Modules whose patterns meet what the user wrote, or the demo's own requests."""

HARMLESS = {
    "syncer.accounts.helpers._NAME": "a name of the user's",
    "syncer.observe.causes._WORD": "messages of 1,000 characters at most; one class, so no step back",
    "syncer.observe.causes._DIGEST": "messages of 1,000 characters at most; one class, so no step back",
    "syncer.http.challenge._PARAMETER": "headers of 8,192 characters; matched from where the last one ended",
    "syncer.http.challenge._SCHEME": "headers of 8,192 characters; matched from where the last one ended",
    "syncer.http.connection._TARGET": "one class, matched whole",
    "syncer.observe.merging._BYTE": "messages of our own",
    "syncer.observe.report._NUMBER": "tags of 128 characters",
    "syncer.http.quota._QUOTA": "matched from the start of a header",
    "syncer.observe.progress.bars._LOG_LEVEL": "lines of our own log, matched from their beginning",
    "syncer.observe.progress.bars._LOG_TIME": "lines of our own log, matched from their beginning",
    "syncer.observe.progress.layout._ATTEMPT": "messages of 1,000 characters at most",
    "syncer.oci.digest._FORM": "one class behind a word, matched whole",
    "syncer.oci.reference._HOST": "matched whole, and each character fits in one place only",
    "syncer.oci.reference._PATH": "matched whole, and each character fits in one place only",
    "syncer.places.registry.advice._ECR": "matched whole against a host",
    "syncer.places.registry.advice._GOOGLE": "matched whole against a host",
}
"""Patterns with a quantifier that has no bound, and why that is harmless."""


def patterns():
    for module in pkgutil.walk_packages(syncer.__path__, "syncer."):
        if module.name == "syncer.__main__" or module.name.endswith(".__main__"):
            continue
        loaded = importlib.import_module(module.name)
        for name, value in vars(loaded).items():
            found = [value] if isinstance(value, PATTERN) else []
            if isinstance(value, tuple):
                for entry in value:
                    parts = entry if isinstance(entry, tuple) else [getattr(entry, "words", None)]
                    found += [part for part in parts if isinstance(part, PATTERN)]
            for pattern in found:
                yield f"{module.name}.{name}", pattern


FOUND = [(name, pattern) for name, pattern in patterns() if not name.startswith(USERS_OWN)]


def steps(tree) -> float:
    """How many ways there are to go on from one place, at most; infinite where a quantifier has no bound."""
    total = 1.0
    for opcode, argument in tree:
        if opcode in {opcodes.MAX_REPEAT, opcodes.MIN_REPEAT, opcodes.POSSESSIVE_REPEAT}:
            least, most, inner = argument
            bound = float("inf") if most is opcodes.MAXREPEAT else float(most)
            total *= max(1.0, (bound - least + 1) * steps(inner))
        elif opcode is opcodes.SUBPATTERN:
            total *= steps(argument[-1])
        elif opcode is opcodes.BRANCH:
            total *= sum(steps(branch) for branch in argument[1])
    return total


def is_one_class(tree) -> bool:
    """Whether that is a run of characters of one class and nothing else, such as `[^;,]*`: it never goes back."""
    (opcode, argument), *others = tree
    return (
        not others
        and opcode is opcodes.MAX_REPEAT
        and [inner for inner, _ in argument[2]] in ([opcodes.IN], [opcodes.NOT_LITERAL], [opcodes.LITERAL])
    )


def test_all_patterns_are_found():
    assert {
        "syncer.http.failures._TITLE",
        "syncer.observe.masking._SHAPES",
        "syncer.http.registry_words.SAID",
    } <= {name for name, _ in FOUND}


@pytest.mark.parametrize(("name", "pattern"), FOUND)
def test_a_pattern_for_texts_of_strangers_has_bounds(name, pattern):
    tree = parser.parse(pattern.pattern, pattern.flags)
    assert name in HARMLESS or is_one_class(tree) or steps(tree) < float("inf")


def test_a_pattern_without_a_bound_is_found():
    assert steps(parser.parse(r"<title[^>]*>", 0)) == float("inf")
    assert steps(parser.parse(r"(?:a{1,9}b){0,9}", 0)) < float("inf")
    assert is_one_class(parser.parse(r"[^;,]*", 0))
    assert not is_one_class(parser.parse(r"(?:a*b)*", 0))
