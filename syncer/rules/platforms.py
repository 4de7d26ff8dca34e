"""Parses platforms as users write them (`linux/arm64/v8`, `windows:10.0.x`, `arm64:v8`), and filters images by them."""

import re
from collections.abc import Iterable
from typing import Self

import msgspec

from syncer.lazy_pattern import lazy_pattern
from syncer.oci.descriptor import Platform

_PART = lazy_pattern(r"[a-z0-9][a-z0-9._-]{0,63}", re.ASCII)
_VERSION = lazy_pattern(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", re.ASCII)
_UNKNOWN = frozenset({"", "unknown"})
_ARCHITECTURES = {"x86_64": "amd64", "x86-64": "amd64", "aarch64": "arm64", "i386": "386", "i686": "386"}
# The default variants: an index may omit them (containerd's platforms package does the same).
_USUAL_VARIANTS = {"amd64": "v1", "arm": "v7", "arm64": "v8"}


class InvalidPlatform(ValueError):
    """Text that is not a valid platform."""


class PlatformPattern(msgspec.Struct, frozen=True):
    """Conditions on a platform. An empty field matches every value. `os_version` is a dotted prefix."""

    os: str = ""
    architecture: str = ""
    variant: str = ""
    os_version: str = ""

    def matches(self, platform: Platform) -> bool:
        """Return whether the platform matches. A field that the platform omits matches every pattern."""
        architecture = _ARCHITECTURES.get(platform.architecture, platform.architecture)
        variant = platform.variant or _USUAL_VARIANTS.get(architecture, "")
        return (
            _agrees(self.os, platform.os)
            and _agrees(self.architecture, architecture)
            and self.variant in ("", variant)
            and (not platform.os_version or _begins(platform.os_version, self.os_version))
        )

    def __str__(self) -> str:
        return str(Platform(self.os or "*", self.architecture, self.variant, self.os_version))


def _agrees(wanted: str, stated: str) -> bool:
    return not wanted or stated in _UNKNOWN or wanted == stated


def _begins(version: str, prefix: str) -> bool:
    return not prefix or version == prefix or version.startswith(f"{prefix}.")


class PlatformFilter(msgspec.Struct, frozen=True):
    """Selects platforms: at least one pattern of each group must match. Without groups, every platform matches."""

    groups: tuple[tuple[PlatformPattern, ...], ...] = ()

    @classmethod
    def of(cls, *, os: Iterable[str] = (), arch: Iterable[str] = (), platforms: Iterable[str] = ()) -> Self:
        """Create a filter from the texts of `--os`, `--arch` and a rule's `platforms`. Raises `InvalidPlatform`."""
        groups = (
            tuple(parse_os(text) for text in os),
            tuple(parse_arch(text) for text in arch),
            tuple(parse_platform(text) for text in platforms),
        )
        return cls(tuple(group for group in groups if group))

    def __bool__(self) -> bool:
        """Return whether the filter excludes any platform."""
        return bool(self.groups)

    def __str__(self) -> str:
        """Return a text that does not depend on the order in which the filter was written."""
        return " & ".join(sorted(",".join(sorted(map(str, group))) for group in self.groups))

    def __and__(self, other: "PlatformFilter") -> "PlatformFilter":
        """Return a filter that matches the platforms that both filters match."""
        return PlatformFilter((*self.groups, *(group for group in other.groups if group not in self.groups)))

    def matches(self, platform: Platform | None) -> bool:
        """Return whether to keep an image for this platform. An image without a platform is kept."""
        if platform is None or (platform.os in _UNKNOWN and platform.architecture in _UNKNOWN):
            return True
        return all(any(pattern.matches(platform) for pattern in group) for group in self.groups)


EVERY_PLATFORM = PlatformFilter()


def parse_platform(text: str) -> PlatformPattern:
    """Parse `linux/amd64`, `linux/arm64/v8`, `windows/amd64:10.0.17763`. Raises `InvalidPlatform`."""
    name, colon, version = text.strip().partition(":")
    parts = name.lower().split("/")
    if len(parts) not in (2, 3) or not all(map(_PART.fullmatch, parts)) or (colon and not _version(version)):
        raise InvalidPlatform(
            f"expected os/architecture[/variant][:version], as linux/arm64/v8, found {text[:80]!r}"
        )
    os, architecture, variant = (*parts, "")[:3]
    architecture = _ARCHITECTURES.get(architecture, architecture)
    return PlatformPattern(os, architecture, variant, _version(version))


def parse_os(text: str) -> PlatformPattern:
    """Parse `linux`, `windows:10.0.x`. Raises `InvalidPlatform`."""
    os, colon, version = text.strip().partition(":")
    if not _PART.fullmatch(os.lower()) or (colon and not _version(version)):
        raise InvalidPlatform(
            f"expected an operating system[:version], as windows:10.0.x, found {text[:80]!r}"
        )
    return PlatformPattern(os=os.lower(), os_version=_version(version))


def parse_arch(text: str) -> PlatformPattern:
    """Parse `amd64`, `arm64:v8`, `arm/v7`. Raises `InvalidPlatform`."""
    architecture, mark, variant = text.strip().lower().replace("/", ":").partition(":")
    if not _PART.fullmatch(architecture) or (mark and not _PART.fullmatch(variant)):
        raise InvalidPlatform(f"expected an architecture[:variant], as arm64:v8, found {text[:80]!r}")
    return PlatformPattern(architecture=_ARCHITECTURES.get(architecture, architecture), variant=variant)


def _version(text: str) -> str:
    """Return the dotted prefix of a version pattern (`10.0` for `10.0.x` and `10.0.*`), or "" if it is not one."""
    prefix = re.sub(r"(?:\.[xX*])+$", "", text)
    return prefix if _VERSION.fullmatch(prefix) else ""
