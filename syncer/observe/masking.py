"""Masks secrets in the log: known secrets, and text that looks like one.

This is a second safeguard for log lines. Untrusted text is sanitized before: see `syncer.untrusted`.
"""

import re
from collections.abc import Callable, Iterable

from syncer.lazy_pattern import lazy_pattern
from syncer.untrusted import MASK, SecretIndex

# Quantifiers are bounded, so that the time is linear in the length of the text.
_NAMES = (
    r"(?:[a-z0-9]{1,32}[_-]){0,4}"
    r"(?:token|password|passwd|secret|signature|sig|credential|identitytoken|refreshtoken)"
)
_SHAPES: tuple[tuple[re.Pattern[str], str, tuple[str, ...]], ...] = (
    # A header with its value, in any format.
    (
        lazy_pattern(
            r"""(?i)\b((?:proxy-)?authorization["']?\s{0,8}[:=,]\s{0,8}(?:b(?=["']))?["']?)"""
            r"""(?:[a-z]{1,32}\s{1,8})?[^\s"',;]{1,8192}"""
        ),
        rf"\1{MASK}",
        ("authorization",),
    ),
    # An authentication scheme with its credentials, but not a challenge or an ordinary sentence.
    (
        lazy_pattern(
            r"(?i)\b(bearer|basic)(\s{1,8})"
            r"(?!realm=|(?:auth|authentication|authorization|challenge|credentials|tokens?)(?![\w~+/=-]|\.\w))"
            r"[\w.~+/=-]{1,8192}"
        ),
        rf"\1\2{MASK}",
        ("bearer", "basic"),
    ),
    # Values in queries, forms and JSON.
    (lazy_pattern(rf"""(?i)(?<![a-z0-9])({_NAMES}=)[^&\s"'<>]{{1,8192}}"""), rf"\1{MASK}", ("=",)),
    (
        lazy_pattern(
            rf"""(?i)(["']{_NAMES}["']\s{{0,8}}:\s{{0,8}})(?:"(?:[^"\\]|\\.){{0,8192}}"|'[^']{{0,8192}}')"""
        ),
        rf'\1"{MASK}"',
        ('"', "'"),
    ),
    # The password of a URL.
    (lazy_pattern(r"(://[^\s/:@]{0,256}:)[^\s/@]{1,1024}@"), rf"\1{MASK}@", ("://",)),
)
"""Expressions, their replacements, and texts of which one is in every match: most lines have none."""


def masker(secrets: Iterable[str]) -> Callable[[str], str]:
    """Return a function that replaces each secret in a text, and each value that looks like one, with `***`."""
    known = SecretIndex(secrets)

    def mask(text: str) -> str:
        text = known.mask(text)
        # Some characters beyond ASCII are equal to a letter where case is ignored, but not in lower case.
        lowered = text.lower() if text.isascii() else None
        for shape, replacement, needed in _SHAPES:
            if lowered is None or any(each in lowered for each in needed):
                text = shape.sub(replacement, text)
        return text

    return mask
