"""Descriptors: what one piece of content is, its digest and its size (image-spec, descriptor.md)."""

import msgspec

from syncer.oci.digest import Digest

MAX_SIZE = 2**53
"""Larger sizes are no sizes (JSON numbers end there)."""


class Platform(
    msgspec.Struct, frozen=True, rename={"os_version": "os.version", "os_features": "os.features"}
):
    """Where an image runs (image-spec, image-index.md). Empty strings where nothing is said."""

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

    `size` is in bytes, -1 where it is not known. `urls` is only set on foreign layers, which are fetched elsewhere.
    """

    media_type: str
    digest: Digest
    size: int
    platform: Platform | None = None
    artifact_type: str = ""
    urls: tuple[str, ...] = ()
    annotations: tuple[tuple[str, str], ...] = ()
