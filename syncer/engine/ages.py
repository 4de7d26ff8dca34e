"""Finds out how old images are: when their tags were pushed, when they were created, or when they were first seen."""

import asyncio
from collections.abc import Collection, Mapping
from datetime import UTC, datetime

import msgspec

from syncer.errors import Attempt, Kind, RegistryError
from syncer.oci.attestations import is_attestation
from syncer.oci.descriptor import Descriptor
from syncer.oci.digest import Digest
from syncer.places.content import KnowsPushTimes, Source

MAX_CONFIG_SIZE = 8 * 1024 * 1024
"""Bytes. Larger configs are not read for their time."""
MAX_DEPTH = 3
"""Indexes within indexes that are followed to an image."""
CONCURRENT = 8
"""Tags whose images are read at the same time."""
EARLIEST = datetime(1980, 1, 1, tzinfo=UTC).timestamp()
"""Reproducible builds set earlier times, which say nothing about the age."""

_NO_IMAGE = frozenset({Kind.NOT_FOUND, Kind.UNSUPPORTED, Kind.INVALID, Kind.TOO_LARGE})
"""Errors of content that is no readable image: its age counts from when it was first seen."""


class KnownTime(msgspec.Struct, frozen=True):
    """What is known of an image, in seconds since the epoch. `created` is None if the image does not tell."""

    created: float | None
    first_seen: float


class ImageTimes:
    """Times of images, by digest. This class keeps none."""

    @property
    def kept(self) -> bool:
        """Whether times are kept between runs."""
        return False

    def recall(self, digest: Digest) -> KnownTime | None:  # noqa: ARG002
        """Return what was recorded of an image."""
        return None

    def record(self, digest: Digest, known: KnownTime) -> None:
        """Keep what is known of an image that was not recorded before."""


class ReadOnlyImageTimes(ImageTimes):
    """Read-only view of kept times: a dry run must not record anything."""

    def __init__(self, times: ImageTimes) -> None:
        self._times = times

    @property
    def kept(self) -> bool:
        return self._times.kept

    def recall(self, digest: Digest) -> KnownTime | None:
        return self._times.recall(digest)


class _Config(msgspec.Struct):
    created: str | None = None


async def tag_times(
    source: Source, tags: Collection[str], times: ImageTimes, now: float
) -> Mapping[str, float]:
    """Return the times of `tags`, in seconds since the epoch. A tag that does not exist any more is left out.

    Raises `RegistryError` if the time of an image cannot be determined.
    """
    found: dict[str, float] = {}
    if isinstance(source, KnowsPushTimes):
        found.update(await source.push_times(tags))
    remaining = [tag for tag in dict.fromkeys(tags) if tag not in found]
    errors: list[RegistryError] = []
    limiter = asyncio.Semaphore(CONCURRENT)

    async def find(tag: str) -> None:
        async with limiter:
            if errors:
                return
            try:
                if (time := await _image_time(source, tag, times, now)) is not None:
                    found[tag] = time
            except RegistryError as error:
                # Not raised in here: a task group would wrap it.
                errors.append(error)

    async with asyncio.TaskGroup() as group:
        for tag in remaining:
            group.create_task(find(tag))
    if errors:
        raise errors[0]
    return found


async def _image_time(source: Source, tag: str, times: ImageTimes, now: float) -> float | None:
    """Return the time of one image; None if the tag does not exist. Raises `RegistryError`."""
    descriptor = await source.resolve(tag)
    if descriptor is None:
        return None
    digest = descriptor.digest
    known = times.recall(digest)
    if known is None:
        known = KnownTime(await _created(source, digest, tag), now)
        times.record(digest, known)
    if known.created is not None:
        return known.created
    if not times.kept:
        raise RegistryError(
            Kind.INVALID,
            f"the age of {source.name}:{tag} is unknown: the registry does not tell when it was pushed, and the image"
            " does not tell when it was created",
            attempt=Attempt(source.name.host),
            permanent=True,
            advice="use --state-dir, so that the age counts from when the image was first seen",
        )
    return known.first_seen


async def _created(source: Source, digest: Digest, tag: str) -> float | None:
    """Return the time that an image names in its config; None if it names none. Raises `RegistryError`."""
    try:
        content = await _config(source, digest, tag)
    except RegistryError as error:
        if error.kind in _NO_IMAGE:
            return None
        raise
    if content is None:
        return None
    try:
        written = msgspec.json.decode(content, type=_Config).created
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    return parse_time(written)


async def _config(source: Source, digest: Digest, tag: str) -> bytes | None:
    """Return the config of an image, or of the first image of an index; None if there is none. Raises `RegistryError`."""
    manifest = await source.fetch_manifest(str(digest), tag=tag)
    for _ in range(MAX_DEPTH):
        if not manifest.is_index:
            break
        child = next((each for each in manifest.children if not is_attestation(each)), None)
        if child is None:
            break
        manifest = await source.fetch_manifest(str(child.digest))
    return await _small_blob(source, manifest.config) if manifest.config else None


async def _small_blob(source: Source, blob: Descriptor) -> bytes | None:
    """Return a verified blob; None if it is too large. Raises `RegistryError`."""
    if blob.size > MAX_CONFIG_SIZE:
        return None
    content = bytearray()
    async with source.fetch_blob(blob) as body:
        async for chunk in body.chunks:
            content += chunk
            if len(content) > MAX_CONFIG_SIZE:
                return None
    if Digest.of(bytes(content), blob.digest.algorithm) != blob.digest:
        raise RegistryError(
            Kind.DIGEST_MISMATCH,
            f"the config {blob.digest} of {source.name} has other bytes than its digest says",
            attempt=Attempt(source.name.host, "GET", "blob", f"blob {blob.digest} of {source.name}"),
        )
    return bytes(content)


def parse_time(text: str | None) -> float | None:
    """Return a time (RFC 3339) in seconds since the epoch; None if it is missing, invalid or before 1980."""
    if not text:
        return None
    try:
        read = datetime.fromisoformat(text[:64])
        time = read.replace(tzinfo=read.tzinfo or UTC).timestamp()
    except (ValueError, OverflowError):
        return None
    return time if time >= EARLIEST else None
