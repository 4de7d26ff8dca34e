"""The command `syncer demo`: runs two registries, a seeded source and an empty destination."""

import shutil
import signal
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager

import anyio
import click

from syncer.demo.images import seed
from syncer.demo.registry import MemoryRegistry
from syncer.demo.store import Store, StoredManifest, unique_blobs

SOURCE_PORT = 5001
DESTINATION_PORT = 5002
STOP = (signal.SIGINT, signal.SIGTERM)

_NEXT = """\
source       http://{source}    with a few images of two platforms each
destination  http://{destination}    empty

Try, in another terminal:

    {program} sync --auth examples/auth.json --images examples/images.json
    curl -s http://{destination}/v2/mirror/alpine/tags/list

Press Ctrl-C to stop. Nothing is kept.
"""


@asynccontextmanager
async def demo_registries(
    source_port: int = 0, destination_port: int = 0
) -> AsyncIterator[tuple[MemoryRegistry, MemoryRegistry]]:
    """Run both registries during the block. Raises `PortInUse`."""
    async with (
        MemoryRegistry(port=source_port) as source,
        MemoryRegistry(port=destination_port) as destination,
    ):
        seed(source.store)
        yield source, destination


async def serve(
    *,
    source_port: int = SOURCE_PORT,
    destination_port: int = DESTINATION_PORT,
    say: Callable[[str], object] = click.echo,
) -> None:
    """Run both registries until SIGINT or SIGTERM, and print commands to try. Raises `PortInUse`."""
    with anyio.open_signal_receiver(*STOP) as signals:
        async with demo_registries(source_port, destination_port) as (source, destination):
            # A checkout has the program in its virtual environment only.
            program = "syncer" if shutil.which("syncer") else sys.argv[0]
            say(_NEXT.format(source=source.host, destination=destination.host, program=program))
            await anext(aiter(signals))


def describe(registry: MemoryRegistry) -> list[str]:
    """Return the content of a registry as lines of text: tags with digests and platforms, then the totals."""
    store = registry.store
    names = store.repositories()
    blobs = unique_blobs(store, names)
    lines = [f"{registry.host}: {_count(len(names), 'repository', 'repositories')}"]
    for name in names:
        tags = list(_tags(store, name))
        width = max((len(tag) for tag, _ in tags), default=0)
        lines.append(f"  {name}")
        lines += [f"    {tag:<{width}}  {stored.digest[:19]}  {_kind(stored)}" for tag, stored in tags]
        untagged = sum(len(store.referrers(name, stored.digest)) for _, stored in tags)
        if untagged:
            lines.append(f"    and {_count(untagged, 'referrer')} of these")
    size = sum(map(len, blobs.values()))
    lines.append(f"  {_count(len(blobs), 'blob')}, {size / 1e6:.1f} MB")
    return lines


def _tags(store: Store, name: str) -> Iterator[tuple[str, StoredManifest]]:
    for tag in store.tags(name):
        stored = store.manifest(name, tag)
        assert stored is not None
        yield tag, stored


def _kind(stored: StoredManifest) -> str:
    """Return the platforms of an index. The platform of a single image is not in its manifest."""
    children = stored.manifest.children
    platforms = [
        str(child.platform) for child in children if child.platform and child.platform.os != "unknown"
    ]
    attestations = len(children) - len(platforms)
    parts = [", ".join(platforms)] if platforms else ["one image" if not children else ""]
    if attestations:
        parts.append(_count(attestations, "attestation"))
    return ", ".join(filter(None, parts))


def _count(number: int, one: str, many: str = "") -> str:
    return f"{number} {one if number == 1 else many or one + 's'}"
