"""Descriptors: media type, digest and size of content (image-spec, descriptor.md)."""

import msgspec

from syncer.oci.digest import Digest

MAX_SIZE = 2**53
"""The largest valid size in bytes: larger integers are not exact in every JSON parser."""


class Platform(
    msgspec.Struct, frozen=True, rename={"os_version": "os.version", "os_features": "os.features"}
):
    """The platform of an image (image-spec, image-index.md). A missing field is an empty string."""

    os: str = ""
    architecture: str = ""
    variant: str = ""
    os_version: str = ""
    os_features: tuple[str, ...] = ()

    def __str__(self) -> str:
        name = "/".join(part for part in (self.os, self.architecture, self.variant) if part)
        return f"{name}:{self.os_version}" if self.os_version else name


class Descriptor(msgspec.Struct, frozen=True):
    """One blob or manifest that a manifest refers to.

    `size` is in bytes, -1 if it is not known. `urls` is only set on foreign layers, which are fetched from those URLs.
    """

    media_type: str
    digest: Digest
    size: int
    platform: Platform | None = None
    artifact_type: str = ""
    urls: tuple[str, ...] = ()
    annotations: tuple[tuple[str, str], ...] = ()
