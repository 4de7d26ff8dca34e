"""The registries that images are copied between, by kind."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.announced import crane_registry, demo_registry
from tests.support.judge import Judged
from tests.support.registries import Registry

TOOLS = Path(os.environ["INTEROP_BIN"])
KINDS = ("docker-registry", "distribution", "crane", "demo")
"""Registries: docker-registry 2.8 of Debian's, its successor from Go's proxy, the one in crane, the demo's own."""


@contextmanager
def running(kind: str, folder: Path) -> Iterator[Judged]:
    """An empty registry of one of `KINDS`, up while the block runs."""
    if kind == "crane":
        with crane_registry(TOOLS / "crane", folder) as registry:
            yield registry
    elif kind == "demo":
        with demo_registry(folder) as registry:
            yield registry
    else:
        program = TOOLS / "registry" if kind == "distribution" else "docker-registry"
        distribution = Registry(folder=folder, storage=folder / "storage", program=program)
        try:
            distribution.start()
            yield distribution
        finally:
            distribution.close()
