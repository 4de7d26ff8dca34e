"""Keeps secrets out of whatever is shown: known secrets in all their spellings, and what looks like one."""

import base64
import json
import re
from collections.abc import Callable, Iterable, Iterator
from urllib.parse import quote, quote_plus

MASK = "***"

_NAMES = (
    r"(?:[a-z0-9]+[_-])*(?:token|password|passwd|secret|signature|sig|credential|identitytoken|refreshtoken)"
)
_SHAPES: tuple[tuple[re.Pattern[str], str], ...] = (
    # A header with its value, in whatever way it was printed.
    (
        re.compile(
            r"""(?i)\b((?:proxy-)?authorization["']?\s*[:=,]\s*(?:b(?=["']))?["']?)(?:[a-z]+\s+)?[^\s"',;]+"""
        ),
        rf"\1{MASK}",
    ),
    # A scheme and its credentials; not the challenge, and not the words of a sentence.
    (
        re.compile(
            r"(?i)\b(bearer|basic)(\s+)"
            r"(?!realm=|(?:auth|authentication|authorization|challenge|credentials|tokens?)(?![\w~+/=-]|\.\w))"
            r"[\w.~+/=-]+"
        ),
        rf"\1\2{MASK}",
    ),
    # Values of queries and forms, and of JSON.
    (re.compile(rf"""(?i)(?<![a-z0-9])({_NAMES}=)[^&\s"'<>]+"""), rf"\1{MASK}"),
    (re.compile(rf"""(?i)(["']{_NAMES}["']\s*:\s*)(?:"(?:[^"\\]|\\.)*"|'[^']*')"""), rf'\1"{MASK}"'),
    # The password of a URL.
    (re.compile(r"(://[^\s/:@]*:)[^\s/@]+@"), rf"\1{MASK}@"),
)
_LEAST_PIECE = 6
"""Characters. Shorter pieces of base64 would be found in any text."""


def masker(secrets: Iterable[str]) -> Callable[[str], str]:
    """A function that puts `***` for every secret in a text, and for what stands where secrets stand."""
    spellings = {spelling for secret in secrets if secret for spelling in _spellings(secret)}
    # The longest first: a secret may be a part of another one.
    ordered = sorted(spellings, key=lambda text: (-len(text), text))
    known = re.compile("|".join(map(re.escape, ordered))) if ordered else None

    def mask(text: str) -> str:
        if known is not None:
            text = known.sub(MASK, text)
        for shape, replacement in _SHAPES:
            text = shape.sub(replacement, text)
        return text

    return mask


def _spellings(secret: str) -> Iterator[str]:
    yield secret
    yield repr(secret)[1:-1]
    yield json.dumps(secret)[1:-1]
    yield json.dumps(secret, ensure_ascii=False)[1:-1]
    for quoted in (quote(secret, safe="", errors="replace"), quote(secret, errors="replace")):
        yield quoted
        yield re.sub("%[0-9A-F]{2}", lambda match: match[0].lower(), quoted)
    yield quote_plus(secret, errors="replace")
    raw = secret.encode(errors="surrogatepass")
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        yield encode(raw).decode()
        yield encode(raw).decode().rstrip("=")
        yield from _within_base64(raw, encode)


def _within_base64(raw: bytes, encode: Callable[[bytes], bytes]) -> Iterator[str]:
    """How the secret looks inside of a longer base64 text, such as that of `user:secret`.

    What comes before shifts it by 0, 1 or 2 bytes; the characters at its ends that it shares with its
    neighbours are left out.
    """
    for shift in range(3):
        text = encode(bytes(shift) + raw).decode()
        piece = text[-(-shift * 8 // 6) : (shift + len(raw)) * 8 // 6]
        if len(piece) >= _LEAST_PIECE:
            yield piece
