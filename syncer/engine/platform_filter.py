"""Platform filters: which entries of an index are kept, and whether a single image is (image-spec, image-index.md).

Only an index that loses entries is serialised anew, and always in the same way, so that its digest can be told
again; everything else keeps its bytes.
"""

import json
from collections.abc import Sequence

import msgspec

from syncer.engine.relay import Download
from syncer.oci.descriptor import Descriptor, Platform
from syncer.oci.manifest import Manifest, parse_manifest
from syncer.places.content import Source
from syncer.rules.platforms import PlatformFilter

ATTESTED = "vnd.docker.reference.digest"
"""The annotation by which an attestation names the image that it belongs to."""
_MAX_CONFIG = 4 * 1024 * 1024


class _Config(msgspec.Struct, rename={"os_version": "os.version"}):
    os: str = ""
    architecture: str = ""
    variant: str = ""
    os_version: str = ""


def kept_children(index: Manifest, wanted: PlatformFilter) -> Sequence[Descriptor]:
    """The entries that stay: those of a wanted or unknown platform, and the attestations of these."""
    attested = {child.digest: dict(child.annotations).get(ATTESTED) for child in index.children}
    images = {
        child.digest
        for child in index.children
        if not attested[child.digest] and wanted.matches(child.platform)
    }
    return [
        child
        for child in index.children
        if (attested[child.digest] in images if attested[child.digest] else child.digest in images)
    ]


def filter_index(index: Manifest, wanted: PlatformFilter) -> Manifest | None:
    """The index with the wanted entries only: the same where none is dropped, None where none is left."""
    kept = kept_children(index, wanted)
    if len(kept) == len(index.children):
        return index
    if not kept:
        return None
    dropped = {child.digest for child in index.children} - {child.digest for child in kept}
    document = json.loads(index.raw)
    document["manifests"] = [entry for entry in document["manifests"] if entry["digest"] not in dropped]
    raw = json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()
    return parse_manifest(raw, index.media_type)


async def fetch_config(image: Manifest, source: Source) -> bytes:
    """The content of an image's config; none for what is no image. Raises `RegistryError`."""
    config = image.config
    if config is None:
        return b""
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
