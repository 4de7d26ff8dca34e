"""Filters of an index: which entries are kept, and whether a single image is (image-spec, image-index.md).

Only an index that loses entries is serialised anew, and always in the same way, so that its digest can be told
again; everything else keeps its bytes.
"""

import json
from collections.abc import Sequence

import msgspec

from syncer.oci.attestations import attested_digest, is_attestation
from syncer.oci.descriptor import Descriptor, Platform
from syncer.oci.digest import Digest
from syncer.oci.manifest import Manifest, parse_manifest
from syncer.places.content import Source
from syncer.rules.attestations import Attestations
from syncer.rules.platforms import EVERY_PLATFORM, PlatformFilter

_MAX_CONFIG = 4 * 1024 * 1024


class _Config(msgspec.Struct, rename={"os_version": "os.version"}):
    os: str = ""
    architecture: str = ""
    variant: str = ""
    os_version: str = ""


class IndexFilter(msgspec.Struct, frozen=True):
    """Which entries of an index stay: the wanted platforms, what is of unknown platform, and attestations of these."""

    platforms: PlatformFilter = EVERY_PLATFORM
    keeps_attestations: bool = True

    @classmethod
    def of(cls, platforms: PlatformFilter, attestations: Attestations) -> "IndexFilter":
        """The filter of a rule with these platforms for a destination with this setting."""
        keeps = attestations is Attestations.KEEP or (attestations is Attestations.AUTO and not platforms)
        return cls(platforms, keeps)

    def __bool__(self) -> bool:
        """Whether it can drop anything at all."""
        return bool(self.platforms) or not self.keeps_attestations

    def __str__(self) -> str:
        """The same text for the same filter, for `BlobCache.filtered`."""
        return f"{self.platforms}{'' if self.keeps_attestations else ' without attestations'}".strip()

    def kept(self, index: Manifest) -> Sequence[Descriptor]:
        """The entries that stay, in their order."""
        images = {
            child.digest
            for child in index.children
            if not is_attestation(child) and self.platforms.matches(child.platform)
        }
        return [
            child
            for child in index.children
            if (self._keeps(child, images) if is_attestation(child) else child.digest in images)
        ]

    def _keeps(self, attestation: Descriptor, images: set[Digest]) -> bool:
        if not self.keeps_attestations:
            return False
        attested = attested_digest(attestation)
        return not self.platforms or attested is None or attested in images

    def apply(self, index: Manifest) -> Manifest | None:
        """The index with these entries only: the same where none is dropped, None where none is left."""
        kept = self.kept(index)
        if len(kept) == len(index.children):
            return index
        if not kept:
            return None
        dropped = {child.digest for child in index.children} - {child.digest for child in kept}
        document = json.loads(index.raw)
        document["manifests"] = [entry for entry in document["manifests"] if entry["digest"] not in dropped]
        raw = json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()
        return parse_manifest(raw, index.media_type)


WITHOUT_ATTESTATIONS = IndexFilter(keeps_attestations=False)


def entry_name(entry: Descriptor) -> str:
    """What an entry of an index is called in logs and reports: by its platform."""
    return "attestation" if is_attestation(entry) else str(entry.platform or "unknown")


async def fetch_config(image: Manifest, source: Source) -> bytes:
    """The content of an image's config; none for what is no image. Raises `RegistryError`."""
    config = image.config
    if config is None:
        return b""
    from syncer.engine.download import Download

    async with Download(source, config, lambda _nbytes: None) as download:
        if config.size < 0:
            # The registry tells the size where the manifest does not.
            await download.open()
        return await download.whole() if 0 < download.blob.size <= _MAX_CONFIG else b""


def platform_in(config: bytes) -> Platform | None:
    """The platform that a config names, if it is one."""
    try:
        stated = msgspec.json.decode(config, type=_Config)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    return Platform(stated.os, stated.architecture, stated.variant, stated.os_version) if stated.os else None
