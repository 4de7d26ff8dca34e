"""A registry in memory with very many tags, each of an image of its own, in a process of its own.

`python -m benchmarks.many_tags --tags 100000`: two of them hold the same. The first line is the address, the last,
on SIGINT or SIGTERM, is how many requests of each kind there were, as JSON.
"""

import argparse
import json
import signal
from collections import Counter

import anyio

from syncer.demo import Answer, MemoryRegistry, Request, Store

REPOSITORY = "many/app"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = b'{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}'
_NAMES = {"manifests": "manifest", "blobs": "blob", "uploads": "upload", "tags": "tags"}


def fill(store: Store, tags: int) -> None:
    """Put so many images, alike but for an annotation, into one repository. Equal for equal `tags`."""
    config = store.put_blob(REPOSITORY, CONFIG)
    document = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": {
            "mediaType": "application/vnd.oci.image.config.v1+json",
            "digest": str(config),
            "size": len(CONFIG),
        },
        "layers": [],
    }
    for number in range(tags):
        raw = json.dumps(document | {"annotations": {"number": str(number)}}).encode()
        store.put_manifest(REPOSITORY, raw, MANIFEST, reference=f"1.{number}")


async def _serve(port: int, tags: int) -> None:
    requests: Counter[str] = Counter()

    async def count(request: Request) -> Answer | None:
        parts = request.path.split("/")
        name = next((_NAMES[part] for part in reversed(parts) if part in _NAMES), "ping")
        requests[f"{request.method} {name}"] += 1
        return None

    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async with MemoryRegistry(port=port, record=0) as registry:
            fill(registry.store, tags)
            registry.before(count)
            print(registry.host, flush=True)
            await anext(aiter(signals))
    print(json.dumps(requests), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tags", type=int, default=100_000, metavar="N", help="(100000)")
    parser.add_argument("--port", type=int, default=0, help="of 127.0.0.1; 0, the default, takes a free one")
    options = parser.parse_args()
    anyio.run(_serve, options.port, options.tags)


if __name__ == "__main__":
    main()
