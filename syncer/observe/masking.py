"""Masks secrets in the log: known secrets, and text that looks like one.

This is a second safeguard for log lines. Untrusted text is sanitized before: see `syncer.untrusted`.
"""

import re
from collections.abc import Callable, Iterable

from syncer.untrusted import MASK, SecretIndex

# Quantifiers are bounded, so that the time is linear in the length of the text.
_NAMES = (
    r"(?:[a-z0-9]{1,32}[_-]){0,4}"
    r"(?:token|password|passwd|secret|signature|sig|credential|identitytoken|refreshtoken)"
)
_SHAPES: tuple[tuple[re.Pattern[str], str], ...] = (
    # A header with its value, in any format.
    (
        re.compile(
            r"""(?i)\b((?:proxy-)?authorization["']?\s{0,8}[:=,]\s{0,8}(?:b(?=["']))?["']?)"""
            r"""(?:[a-z]{1,32}\s{1,8})?[^\s"',;]{1,8192}"""
        ),
        rf"\1{MASK}",
    ),
    # An authentication scheme with its credentials, but not a challenge or an ordinary sentence.
    (
        re.compile(
            r"(?i)\b(bearer|basic)(\s{1,8})"
            r"(?!realm=|(?:auth|authentication|authorization|challenge|credentials|tokens?)(?![\w~+/=-]|\.\w))"
            r"[\w.~+/=-]{1,8192}"
        ),
        rf"\1\2{MASK}",
    ),
    # Values in queries, forms and JSON.
    (re.compile(rf"""(?i)(?<![a-z0-9])({_NAMES}=)[^&\s"'<>]{{1,8192}}"""), rf"\1{MASK}"),
    (
        re.compile(
            rf"""(?i)(["']{_NAMES}["']\s{{0,8}}:\s{{0,8}})(?:"(?:[^"\\]|\\.){{0,8192}}"|'[^']{{0,8192}}')"""
        ),
        rf'\1"{MASK}"',
    ),
    # The password of a URL.
    (re.compile(r"(://[^\s/:@]{0,256}:)[^\s/@]{1,1024}@"), rf"\1{MASK}@"),
)


def masker(secrets: Iterable[str]) -> Callable[[str], str]:
    """Return a function that replaces each secret in a text, and each value that looks like one, with `***`."""
    known = SecretIndex(secrets)

    def mask(text: str) -> str:
        text = known.mask(text)
        for shape, replacement in _SHAPES:
            text = shape.sub(replacement, text)
        return text

    return mask
