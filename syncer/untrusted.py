"""Sanitizes untrusted text: it becomes one line of limited length, without control characters and known secrets.

Untrusted text comes from registries, token services, proxies and the hosts they redirect to: bodies, headers, URLs and
names. Call `clean` when such text arrives, before it becomes part of an error, an event or a log line. Each object that
holds a secret is registered in `KNOWN` as long as it exists.
"""

import base64
import json
from collections.abc import Callable, Iterable, Iterator
from typing import Protocol
from urllib.parse import quote, quote_plus, unquote, unquote_plus
from weakref import finalize

MASK = "***"
MAX_SEARCHED = 4096
"""Characters. The rest of a longer text is not examined and never shown."""
MAX_SHOWN = 200
"""The default limit of shown characters."""
MIN_INSIDE_WORDS = 4
"""Characters. A shorter secret is masked only if it is a separate word."""

_MIN_PIECE = 6
"""Characters. Shorter base64 fragments would match ordinary text."""
_MAX_ENCODED = 512
"""Characters. Longer secrets are tokens, which are not encoded again."""
_PREFIX = 4
_MIN_BEGINNING = 16
"""Characters. A prefix of this length is masked too, since servers truncate long tokens in messages."""
_BLANKS = frozenset(" \t\n\r\v\f")
# Characters that are invisible although Unicode classifies them as printable: fillers and variation selectors.
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
    """Return untrusted text as one line of at most `limit` characters, without any secret in `KNOWN`."""
    return visible(KNOWN.mask(text, MAX_SEARCHED))[:limit]


def visible(text: str) -> str:
    """Return the text on one line, with single spaces, and escaped by `escaped`."""
    if text.isascii() and text.isprintable() and "  " not in text:
        return text.strip()
    blank = "".join(" " if char in _BLANKS else char for char in text)
    return " ".join(part for part in escaped(blank).split(" ") if part)


def escaped(text: str) -> str:
    """Escape characters that control a terminal, change the text direction or are invisible."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(char if _shows(char) else _number(ord(char)) for char in text)


def _shows(char: str) -> bool:
    return char.isprintable() and char not in _FILLERS


def _number(code: int) -> str:
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


class HoldsSecrets(Protocol):
    """An object that holds secrets, such as an account."""

    def secret_texts(self) -> Iterable[str]:
        """Return every text that must not be shown."""
        ...


class SecretIndex:
    """Finds secrets in a text. The time is proportional to the length of the text, not to the number of secrets."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self._counts: dict[str, int] = {}
        self._buckets: dict[str, tuple[str, ...]] = {}
        self._initials: frozenset[str] = frozenset()
        """The first characters of secrets too short for a bucket."""
        for secret in secrets:
            self._add(secret)

    def hold(self, owner: HoldsSecrets) -> None:
        """Mask the secrets of `owner` as long as that object exists."""
        texts = tuple(owner.secret_texts())
        for text in texts:
            self._add(text)
        finalize(owner, self._remove, texts).atexit = False

    def mask(self, text: str, limit: int | None = None) -> str:
        """Return the first `limit` characters of `text`, with `***` for each secret, plain or encoded."""
        cut = limit is not None and len(text) > limit
        masked = self._masked(text[:limit], cut=cut)
        for decode in _DECODERS if self._counts else ():
            # The secret may be encoded in any way: if decoding reveals one, show the decoded text.
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
        """Return the positions where a secret may begin. This runs for every text, so it must be fast."""
        buckets, initials = self._buckets, self._initials
        if not initials:
            return [at for at in range(len(text)) if text[at : at + _PREFIX] in buckets] if buckets else []
        return [at for at, char in enumerate(text) if char in initials or text[at : at + _PREFIX] in buckets]

    def _length_at(self, text: str, at: int, *, cut: bool) -> int:
        """Return the length of the secret that begins at `at`, or 0."""
        alike = self._buckets.get(text[at : at + _PREFIX], ())
        for secret in alike:
            if text.startswith(secret, at):
                return len(secret)
        if alike:
            # A prefix of a secret is masked too if it is long, or if the text was cut there.
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
        # The longest comes first, since a secret may be part of another one.
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


def _without_entities(text: str) -> str:
    if "&" not in text:
        return text
    from html import unescape

    return unescape(text)


_DECODERS: tuple[Callable[[str], str], ...] = (unquote, unquote_plus, _without_entities, _without_invisible)


def _common(one: str, other: str) -> int:
    """Return the length of the common prefix."""
    return next(
        (at for at, pair in enumerate(zip(one, other, strict=False)) if pair[0] != pair[1]), len(other)
    )


def _is_word(text: str, start: int, end: int) -> bool:
    return not (text[max(0, start - 1) : start].isalnum() or text[end : end + 1].isalnum())


def _spellings(secret: str) -> frozenset[str]:
    """Return the spellings of a secret. For a short secret only the plain one, since others would match ordinary text."""
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
    """Yield the secret as it appears inside a longer base64 text, such as that of `user:secret`.

    The preceding text shifts it by 0, 1 or 2 bytes. The characters at both ends that also encode adjacent bytes are
    omitted.
    """
    for shift in range(3):
        text = encode(bytes(shift) + raw).decode()
        piece = text[-(-shift * 8 // 6) : (shift + len(raw)) * 8 // 6]
        if len(piece) >= _MIN_PIECE:
            yield piece
