"""Text of strangers, made safe to show: bounded, on one line, without control characters, and without known secrets.

Strangers are registries, token services, proxies and the hosts that they lead to: answers, headers, redirects, names.
`clean` is called where such a text comes in, before it becomes part of an error, an event or a log line. Whoever holds
a secret is in `KNOWN` for as long as it lives.
"""

import base64
import json
from collections.abc import Callable, Iterable, Iterator
from html import unescape
from typing import Protocol
from urllib.parse import quote, quote_plus, unquote, unquote_plus
from weakref import finalize

MASK = "***"
MAX_SEARCHED = 4096
"""Characters of a text that are looked at; what comes after them is never shown."""
MAX_SHOWN = 200
"""Characters of one text that are shown, unless the caller says otherwise."""
MIN_INSIDE_WORDS = 4
"""Characters. A shorter secret is masked only where it is a word of its own."""

_MIN_PIECE = 6
"""Characters. Shorter pieces of base64 would be found in any text."""
_MAX_ENCODED = 512
"""Characters. Longer secrets are tokens, which nobody encodes once more."""
_PREFIX = 4
_MIN_BEGINNING = 16
"""Characters. Servers cut long tokens when they quote them."""
_BLANKS = frozenset(" \t\n\r\v\f")
# Characters that show nothing although Unicode calls them printable: fillers and variation selectors.
_FILLERS = frozenset(
    map(
        chr,
        (
            *(0x34F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x2800, 0x3164, 0xFFA0),
            *range(0x180B, 0x1810),
            *range(0xFE00, 0xFE10),
            *range(0xE0100, 0xE01F0),
        ),
    )
)


def clean(text: str, limit: int = MAX_SHOWN) -> str:
    """A stranger's text as it may be shown: one line of at most `limit` characters, without any secret in `KNOWN`."""
    return visible(KNOWN.mask(text, MAX_SEARCHED))[:limit]


def visible(text: str) -> str:
    """The same on one line, with single blanks, and escapes as of `escaped`."""
    if text.isascii() and text.isprintable() and "  " not in text:
        return text.strip()
    blank = "".join(" " if char in _BLANKS else char for char in text)
    return " ".join(part for part in escaped(blank).split(" ") if part)


def escaped(text: str) -> str:
    """A text whose characters that steer a terminal, change its direction or show nothing are told by their numbers."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(char if _shows(char) else _number(ord(char)) for char in text)


def _shows(char: str) -> bool:
    return char.isprintable() and char not in _FILLERS


def _number(code: int) -> str:
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


class HoldsSecrets(Protocol):
    """A secret, or an account that has some."""

    def secret_texts(self) -> Iterable[str]:
        """Every text that is not to be shown."""
        ...


class SecretIndex:
    """Secrets, found in a text in time that grows with the text alone, however many there are."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self._counts: dict[str, int] = {}
        self._buckets: dict[str, tuple[str, ...]] = {}
        self._initials: frozenset[str] = frozenset()
        """The first characters of secrets too short for a bucket."""
        for secret in secrets:
            self._add(secret)

    def hold(self, owner: HoldsSecrets) -> None:
        """Mask what `owner` has, for as long as it lives."""
        texts = tuple(owner.secret_texts())
        for text in texts:
            self._add(text)
        finalize(owner, self._remove, texts).atexit = False

    def mask(self, text: str, limit: int | None = None) -> str:
        """The first `limit` characters of `text` with `***` for each secret, also in its encodings."""
        cut = limit is not None and len(text) > limit
        masked = self._masked(text[:limit], cut=cut)
        for decode in _DECODERS if self._counts else ():
            # However a stranger has encoded a secret: where decoding brings one to light, the decoded text is shown.
            decoded = decode(masked)
            if decoded != masked and (found := self._masked(decoded, cut=cut)) != decoded:
                masked = found
        return masked

    def _masked(self, text: str, *, cut: bool) -> str:
        parts: list[str] = []
        start = 0
        for at in self._candidates(text):
            if at >= start and (length := self._length_at(text, at, cut=cut)):
                parts += text[start:at], MASK
                start = at + length
        return "".join((*parts, text[start:])) if parts else text

    def _candidates(self, text: str) -> list[int]:
        """Where a secret may begin. Every text passes here, so it is quick."""
        buckets, initials = self._buckets, self._initials
        if not initials:
            return [at for at in range(len(text)) if text[at : at + _PREFIX] in buckets] if buckets else []
        return [at for at, char in enumerate(text) if char in initials or text[at : at + _PREFIX] in buckets]

    def _length_at(self, text: str, at: int, *, cut: bool) -> int:
        """How long the secret is that begins there; 0 for none."""
        alike = self._buckets.get(text[at : at + _PREFIX], ())
        for secret in alike:
            if text.startswith(secret, at):
                return len(secret)
        if alike:
            # The beginning of a secret is as good as the whole where it is long, or where the text was cut.
            common = max(_common(secret, text[at : at + len(secret)]) for secret in alike)
            if common >= _MIN_BEGINNING or (cut and at + common == len(text)):
                return common
        for size in range(1, MIN_INSIDE_WORDS):
            piece = text[at : at + size]
            if piece in self._counts and _is_word(text, at, at + size):
                return len(piece)
        return 0

    def _add(self, secret: str) -> None:
        for spelling in _spellings(secret):
            count = self._counts[spelling] = self._counts.get(spelling, 0) + 1
            if count == 1:
                self._index(spelling)

    def _index(self, spelling: str) -> None:
        if len(spelling) < MIN_INSIDE_WORDS:
            self._initials |= {spelling[0]}
            return
        prefix = spelling[:_PREFIX]
        # The longest first: a secret may be a part of another one.
        self._buckets[prefix] = tuple(
            sorted((*self._buckets.get(prefix, ()), spelling), key=len, reverse=True)
        )

    def _remove(self, secrets: Iterable[str]) -> None:
        for spelling in (spelling for secret in secrets for spelling in _spellings(secret)):
            self._counts[spelling] -= 1
            if not self._counts[spelling]:
                del self._counts[spelling]
                self._unindex(spelling)

    def _unindex(self, spelling: str) -> None:
        if len(spelling) < MIN_INSIDE_WORDS:
            self._initials = frozenset(each[0] for each in self._counts if len(each) < MIN_INSIDE_WORDS)
            return
        prefix = spelling[:_PREFIX]
        left = tuple(each for each in self._buckets[prefix] if each != spelling)
        if left:
            self._buckets[prefix] = left
        else:
            del self._buckets[prefix]


KNOWN = SecretIndex()
"""The secrets of this process."""


def _without_invisible(text: str) -> str:
    return text if text.isascii() and text.isprintable() else "".join(filter(_shows, text))


_DECODERS: tuple[Callable[[str], str], ...] = (unquote, unquote_plus, unescape, _without_invisible)


def _common(one: str, other: str) -> int:
    """How many characters at the beginning are the same."""
    return next(
        (at for at, pair in enumerate(zip(one, other, strict=False)) if pair[0] != pair[1]), len(other)
    )


def _is_word(text: str, start: int, end: int) -> bool:
    return not (text[max(0, start - 1) : start].isalnum() or text[end : end + 1].isalnum())


def _spellings(secret: str) -> frozenset[str]:
    """How a secret may be written. The other spellings of a short one would be found in any text."""
    if len(secret) < MIN_INSIDE_WORDS:
        return frozenset({secret} - {""})
    return frozenset(_encodings(secret)) - {""}


def _encodings(secret: str) -> Iterator[str]:
    yield secret
    yield repr(secret)[1:-1]
    yield json.dumps(secret)[1:-1]
    yield json.dumps(secret, ensure_ascii=False)[1:-1]
    for quoted in (quote(secret, safe="", errors="replace"), quote(secret, errors="replace")):
        yield quoted
        yield quoted.replace("%", "%25")
        parts = quoted.split("%")
        yield "%".join([parts[0], *(part[:2].lower() + part[2:] for part in parts[1:])])
    yield quote_plus(secret, errors="replace")
    if len(secret) > _MAX_ENCODED:
        return
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
        if len(piece) >= _MIN_PIECE:
            yield piece
