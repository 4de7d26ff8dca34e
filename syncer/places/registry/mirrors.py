"""A source with mirrors: tags are resolved by the registry, and content is fetched from the first mirror that has it.

If a mirror fails, it is skipped and not used again until its backoff ends. If the registry is unreachable, a mirror
resolves the tag, and `is_authoritative` returns False for it.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import TypeVar

from msgspec.structs import replace

from syncer.errors import Kind, RegistryError, source_not_found
from syncer.oci.descriptor import Descriptor
from syncer.oci.digest import Digest
from syncer.oci.manifest import Manifest
from syncer.oci.reference import Repository
from syncer.places.content import BlobBody, KnowsPushTimes, ListsReferrers, Source

ANSWER_SECONDS = 20.0
"""How long a mirror may take to start a response."""
FIRST_BACKOFF = 30.0
MAX_BACKOFF = 600.0

_OF_ONE_REPOSITORY = frozenset({401, 403, 404})

T = TypeVar("T")
_log = logging.getLogger(__name__)


def _is_unreachable(error: RegistryError) -> bool:
    """Return whether a registry is unreachable: it times out, refuses connections, or its name does not resolve.

    A response with any status, 5xx included, comes from the registry. An untrusted certificate may belong to another
    server, so mirrors do not replace it.
    """
    return error.status is None and error.kind in {Kind.TIMEOUT, Kind.CONNECTION}


class MirrorBackoff:
    """The mirrors that are not used after a failure. The backoff doubles each time, up to `MAX_BACKOFF` seconds."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._failures: dict[str, int] = {}
        self._until: dict[str, float] = {}

    def rests(self, name: Repository) -> bool:
        now = self._clock()
        return any(self._until.get(key, 0.0) > now for key in (name.host, str(name)))

    def failed(self, name: Repository, *, one_repository: bool = False) -> None:
        """Record a failure of the mirror's host, or of `name` alone if `one_repository` is set."""
        key = str(name) if one_repository else name.host
        count = self._failures[key] = self._failures.get(key, 0) + 1
        self._until[key] = self._clock() + min(MAX_BACKOFF, FIRST_BACKOFF * 2.0 ** (min(count, 20) - 1))

    def worked(self, name: Repository) -> None:
        for key in (name.host, str(name)):
            self._failures.pop(key, None)
            self._until.pop(key, None)


class MirroredSource(Source, ListsReferrers):
    """One repository at a registry and at its mirrors, in the order to try them."""

    def __init__(self, registry: Source, mirrors: Sequence[Source], resting: MirrorBackoff) -> None:
        self.name = registry.name
        self.mount_group = registry.mount_group
        self._registry = registry
        self._mirrors = tuple(mirrors)
        self._resting = resting
        self._unverified: set[str] = set()
        self._listed_by_mirror = False
        self._wrong: set[tuple[Repository, Digest]] = set()

    def is_authoritative(self, target: str) -> bool:
        return target not in self._unverified

    async def tags(self) -> AsyncIterator[list[str]]:
        begun = False
        try:
            async for page in self._registry.tags():
                begun = True
                yield page
        except RegistryError as error:
            if begun or not _is_unreachable(error):
                raise
            unreachable = error
        else:
            return
        for mirror in self._awake():
            if (pages := await self._ask(mirror, _all_pages(mirror))) is not None:
                self._listed_by_mirror = True
                for page in pages:
                    yield page
                return
        raise unreachable

    def listing_doubt(self) -> str:
        if self._listed_by_mirror:
            return "a mirror listed them"
        return self._registry.listing_doubt()

    async def push_times(self, tags: Collection[str]) -> Mapping[str, float]:
        # A mirror knows only when it got the tags.
        return await self._registry.push_times(tags) if isinstance(self._registry, KnowsPushTimes) else {}

    @property
    def lists_by_tag_only(self) -> bool:
        return isinstance(self._registry, ListsReferrers) and self._registry.lists_by_tag_only

    async def referrers(self, subject: Digest, *, tagged: bool | None = None) -> Sequence[Descriptor]:
        """Return what the registry itself lists: a mirror's list may be older, or empty."""
        if isinstance(self._registry, ListsReferrers):
            return await self._registry.referrers(subject, tagged=tagged)
        return ()

    async def resolve(self, target: str) -> Descriptor | None:
        # HEAD requests do not count against Docker Hub's pull limit, so the registry itself resolves the tag.
        unreachable = None
        if not self._resting.rests(self.name):
            try:
                return await self._resolve_at_registry(target)
            except RegistryError as error:
                if not _is_unreachable(error):
                    raise
                unreachable = error
                self._resting.failed(self.name)
        for mirror in self._awake():
            if (found := await self._ask(mirror, mirror.resolve(target))) is not None:
                if found.digest != target:
                    self._unverified.add(target)
                return found
        if unreachable is not None:
            raise unreachable
        return await self._resolve_at_registry(target)

    async def _resolve_at_registry(self, target: str) -> Descriptor | None:
        found = await self._registry.resolve(target)
        self._resting.worked(self.name)
        self._unverified.discard(target)
        return found

    async def fetch_manifest(self, target: str, *, tag: str | None = None) -> Manifest:
        digest = target
        if ":" not in target:
            found = await self.resolve(target)
            if found is None:
                raise source_not_found(f"{self.name}:{target}", self.name.host)
            digest, tag = found.digest, target
        for mirror in self._awake():
            if (manifest := await self._ask(mirror, mirror.fetch_manifest(digest))) is not None:
                return manifest
        return await self._registry.fetch_manifest(digest, tag=tag)

    @asynccontextmanager
    async def fetch_blob(
        self, blob: Descriptor, *, offset: int = 0, length: int | None = None
    ) -> AsyncIterator[BlobBody]:
        async with AsyncExitStack() as stack:
            body = None
            for mirror in self._awake():
                if (mirror.name, blob.digest) not in self._wrong:
                    body = await self._from_mirror(
                        mirror, blob, mirror.fetch_blob(blob, offset=offset, length=length), stack
                    )
                if body is not None:
                    break
            if body is None:
                body = await stack.enter_async_context(
                    self._registry.fetch_blob(blob, offset=offset, length=length)
                )
            yield body

    async def has_blob(self, digest: Digest, *, size: int = -1) -> bool:
        try:
            return await self._registry.has_blob(digest, size=size)
        except RegistryError as error:
            if _is_unreachable(error):
                for mirror in self._awake():
                    if (found := await self._ask(mirror, mirror.has_blob(digest, size=size))) is not None:
                        return found
            raise

    async def _from_mirror(
        self,
        mirror: Source,
        blob: Descriptor,
        opening: AbstractAsyncContextManager[BlobBody],
        stack: AsyncExitStack,
    ) -> BlobBody | None:
        async with AsyncExitStack() as trial:
            body = await self._ask(mirror, trial.enter_async_context(opening))
            if body is None:
                return None
            if body.size not in {blob.size, -1} and blob.size >= 0:
                wrong = f"blob {blob.digest} has {body.size} bytes instead of {blob.size}"
                self._pass_over(mirror, RegistryError(Kind.DIGEST_MISMATCH, wrong))
                return None
            stack.push_async_exit(trial.pop_all())
            return replace(
                body,
                chunks=self._watched(mirror, body.chunks),
                reject=lambda: self._reject(mirror, blob.digest),
            )

    def _reject(self, mirror: Source, digest: Digest) -> bool:
        self._wrong.add((mirror.name, digest))
        self._resting.failed(mirror.name)
        return True

    async def _watched(self, mirror: Source, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        try:
            async for chunk in chunks:
                yield chunk
        except RegistryError as error:
            self._pass_over(mirror, error)
            raise

    def _awake(self) -> Iterator[Source]:
        return (mirror for mirror in self._mirrors if not self._resting.rests(mirror.name))

    async def _ask(self, mirror: Source, answer: Awaitable[T]) -> T | None:
        """Return the result from a mirror; None if it fails or times out. A mirror's failure never fails the task."""
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                answered = await answer
        except TimeoutError:
            self._pass_over(mirror, RegistryError(Kind.TIMEOUT, "no response in time"))
            return None
        except RegistryError as error:
            self._pass_over(mirror, error)
            return None
        self._resting.worked(mirror.name)
        return answered

    def _pass_over(self, mirror: Source, error: RegistryError) -> None:
        _log.debug("Mirror %s of %s failed and is skipped: %s", mirror.name, self.name.host, error)
        self._resting.failed(mirror.name, one_repository=error.status in _OF_ONE_REPOSITORY)


async def _all_pages(source: Source) -> list[list[str]]:
    return [page async for page in source.tags()]
