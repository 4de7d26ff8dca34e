"""Keeps secrets out of the log: those that are known, and what looks like one.

A second net for our own lines and the libraries'. Texts of strangers are clean already: see `syncer.untrusted`.
"""

import re
from collections.abc import Callable, Iterable

from syncer.untrusted import MASK, SecretIndex

# Quantifiers have bounds: no text, however long, may take more than time that grows with its length.
_NAMES = (
    r"(?:[a-z0-9]{1,32}[_-]){0,4}"
    r"(?:token|password|passwd|secret|signature|sig|credential|identitytoken|refreshtoken)"
)
_SHAPES: tuple[tuple[re.Pattern[str], str], ...] = (
    # A header with its value, in whatever way it was printed.
    (
        re.compile(
            r"""(?i)\b((?:proxy-)?authorization["']?\s{0,8}[:=,]\s{0,8}(?:b(?=["']))?["']?)"""
            r"""(?:[a-z]{1,32}\s{1,8})?[^\s"',;]{1,8192}"""
        ),
        rf"\1{MASK}",
    ),
    # A scheme and its credentials; not the challenge, and not the words of a sentence.
    (
        re.compile(
            r"(?i)\b(bearer|basic)(\s{1,8})"
            r"(?!realm=|(?:auth|authentication|authorization|challenge|credentials|tokens?)(?![\w~+/=-]|\.\w))"
            r"[\w.~+/=-]{1,8192}"
        ),
        rf"\1\2{MASK}",
    ),
    # Values of queries and forms, and of JSON.
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
    """A function that puts `***` for every secret in a text, and for what stands where secrets stand."""
    known = SecretIndex(secrets)

    def mask(text: str) -> str:
        text = known.mask(text)
        for shape, replacement in _SHAPES:
            text = shape.sub(replacement, text)
        return text

    return mask
