"""A registry in memory and a few images: for `syncer demo` and for tests.

registry.py   MemoryRegistry, with hooks and a record of requests for tests
server.py     its HTTP               handlers.py, uploads.py   the distribution specification
store.py      what it holds          command.py                what `syncer demo` shows
manifests.py  what a registry checks of a manifest
images.py     making images
"""

from syncer.demo.images import seed
from syncer.demo.messages import Answer, Recorded, Request
from syncer.demo.registry import DropConnection, MemoryRegistry, PortInUse
from syncer.demo.store import Store

__all__ = [
    "Answer",
    "DropConnection",
    "MemoryRegistry",
    "PortInUse",
    "Recorded",
    "Request",
    "Store",
    "seed",
]
