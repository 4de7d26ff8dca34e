"""Content digests, such as `sha256:…`.

hashlib is imported when something is hashed. It loads all algorithms of OpenSSL, and a run that copies nothing needs none.
"""

import re
from typing import Protocol, Self

from syncer.lazy_pattern import lazy_pattern

_HEX_LENGTH = {"sha256": 64, "sha384": 96, "sha512": 128}
ALGORITHMS = tuple(_HEX_LENGTH)
_FORM = lazy_pattern(r"(sha256|sha384|sha512):([0-9a-f]+)", re.ASCII)


class InvalidDigest(ValueError):
    """Text that is not a digest with a supported algorithm."""


class Hasher(Protocol):
    """The methods of a `hashlib` object that a download needs."""

    def update(self, data: bytes | memoryview, /) -> None: ...
    def hexdigest(self) -> str: ...


class Digest(str):
    """A validated digest: the algorithm, a colon, lower-case hex (image-spec, descriptor.md#digests).

    It is a `str`, so that it can be used in URLs and JSON. Create digests with `parse` or `of`.
    """

    __slots__ = ()

    @classmethod
    def parse(cls, text: object) -> Self:
        """Validate text from outside. Raise `InvalidDigest` if it is not a digest."""
        if isinstance(text, str) and (match := _FORM.fullmatch(text)):
            algorithm, value = match.groups()
            if len(value) == _HEX_LENGTH[algorithm]:
                return cls(text)
        shown = str(text)[:100]
        raise InvalidDigest(
            f"invalid digest {shown!r}: expected sha256, sha384 or sha512, a colon and lower-case hex"
        )

    @classmethod
    def of(cls, content: bytes, algorithm: str = "sha256") -> Self:
        """Return the digest of `content`."""
        import hashlib

        return cls(f"{algorithm}:{hashlib.new(algorithm, content).hexdigest()}")

    @property
    def algorithm(self) -> str:
        return self.partition(":")[0]

    @property
    def hex(self) -> str:
        return self.partition(":")[2]

    def hasher(self) -> Hasher:
        """Return a new hash object for this digest's algorithm."""
        import hashlib

        return hashlib.new(self.algorithm)

    def matches(self, hasher: Hasher) -> bool:
        """Return whether the data in `hasher` has this digest."""
        return hasher.hexdigest() == self.hex
