"""Digests: `sha256:…` as text that has been checked."""

import hashlib
import re
from typing import Protocol, Self

_HEX_LENGTH = {"sha256": 64, "sha384": 96, "sha512": 128}
_FORM = re.compile(r"(sha256|sha384|sha512):([0-9a-f]+)", re.ASCII)


class InvalidDigest(ValueError):
    """Text that is not a digest of an algorithm we can compute."""


class Hasher(Protocol):
    """The part of a `hashlib` object that relaying needs."""

    def update(self, data: bytes, /) -> None: ...
    def hexdigest(self) -> str: ...


class Digest(str):
    """A checked digest: the algorithm, a colon, lower-case hex (image-spec, descriptor.md#digests).

    It is a `str`, so it goes into URLs and JSON as it is. Make one with `parse` or `of`.
    """

    __slots__ = ()

    @classmethod
    def parse(cls, text: object) -> Self:
        """Check a stranger's text. Raises `InvalidDigest`."""
        if isinstance(text, str) and (match := _FORM.fullmatch(text)):
            algorithm, value = match.groups()
            if len(value) == _HEX_LENGTH[algorithm]:
                return cls(text)
        shown = str(text)[:100]
        raise InvalidDigest(f"not a digest (sha256, sha384 or sha512, a colon, lower-case hex): {shown!r}")

    @classmethod
    def of(cls, content: bytes, algorithm: str = "sha256") -> Self:
        """The digest of bytes in memory."""
        return cls(f"{algorithm}:{hashlib.new(algorithm, content).hexdigest()}")

    @property
    def algorithm(self) -> str:
        return self.partition(":")[0]

    @property
    def hex(self) -> str:
        return self.partition(":")[2]

    def hasher(self) -> Hasher:
        """A fresh hash object of this digest's algorithm."""
        return hashlib.new(self.algorithm)

    def matches(self, hasher: Hasher) -> bool:
        """Whether what went through `hasher` has this digest."""
        return hasher.hexdigest() == self.hex
