"""What a repository holds: the manifests that its tags name, and the parts of its indexes."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import TypeVar

from syncer.errors import RegistryError
from syncer.oci import media_types
from syncer.oci.descriptor import Descriptor
from syncer.oci.digest import Digest
from syncer.places.content import Destination

CONCURRENT = 8
MAX_DEPTH = 4
"""Levels of indexes of indexes."""

Descriptors = Mapping[str, Descriptor]
"""The manifests of a repository by tag."""

T = TypeVar("T")
R = TypeVar("R")


async def resolve_all(destination: Destination, tags: Iterable[str]) -> Descriptors:
    """Return what tags name. Tags that do not exist are left out. Raises `RegistryError`."""
    found = await _each(tags, destination.resolve_certainly)
    return {tag: descriptor for tag, descriptor in found.items() if descriptor is not None}


async def children_of(
    destination: Destination, roots: Iterable[Descriptor], digests: Iterable[Digest]
) -> frozenset[Digest]:
    """Return the digests of all manifests in indexes: in `roots`, and in those that `digests` name. Raises `RegistryError`."""

    async def children(digest: Digest) -> tuple[Descriptor, ...]:
        try:
            return (await destination.fetch_manifest(digest)).children
        except RegistryError as error:
            if error.status == 404:
                return ()  # it has no parts that could be lost
            raise

    found: set[Digest] = set()
    pending = {each.digest for each in roots if _may_be_index(each)} | set(digests)
    for _ in range(MAX_DEPTH):
        if not pending:
            break
        parts = [part for parts in (await _each(pending, children)).values() for part in parts]
        pending = {part.digest for part in parts if _may_be_index(part) and part.digest not in found}
        found.update(part.digest for part in parts)
    return frozenset(found)


def _may_be_index(descriptor: Descriptor) -> bool:
    return descriptor.media_type in media_types.INDEXES or not media_types.may_be_manifest(
        descriptor.media_type
    )


async def _each(items: Iterable[T], ask: Callable[[T], Awaitable[R]]) -> dict[T, R]:
    """Return the answer for each item, with several questions at once. Raises the first `RegistryError`."""
    found: dict[T, R] = {}
    errors: list[RegistryError] = []
    pending = iter(items)

    async def work() -> None:
        for item in pending:
            if errors:
                return
            try:
                found[item] = await ask(item)
            except RegistryError as error:
                # Not raised in here: a task group would wrap it.
                errors.append(error)

    async with asyncio.TaskGroup() as group:
        for _ in range(CONCURRENT):
            group.create_task(work())
    if errors:
        raise errors[0]
    return found
