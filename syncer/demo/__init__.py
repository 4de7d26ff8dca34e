"""A registry in memory and a few images: for `syncer demo` and for tests.

registry.py   MemoryRegistry, with hooks and a record of requests for tests
server.py     HTTP server            handlers.py, uploads.py   the distribution specification
store.py      content                command.py                the command `syncer demo`
manifests.py  validation of pushed manifests
images.py     creation of images
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
