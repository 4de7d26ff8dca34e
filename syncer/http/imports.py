"""httpx and aiohttp, imported without the parts that this program never uses: half of its start-up otherwise.

httpx brings its command line, and with it rich and pygments; aiohttp reads the system's certificates twice for TLS
contexts of its own, where `syncer.http.address` makes them when the first https URL is met.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any


@contextmanager
def _without_certificates() -> Iterator[None]:
    """TLS contexts made in here trust nobody: should one ever be used, it refuses."""
    names = ("SSL_CERT_FILE", "SSL_CERT_DIR")
    kept = {name: os.environ[name] for name in names if name in os.environ}
    os.environ.update(dict.fromkeys(names, os.devnull))
    try:
        yield
    finally:
        for name in names:
            del os.environ[name]
        os.environ.update(kept)


def _no_command_line(*_args: Any) -> None:
    raise SystemExit("httpx's command line is not available inside image-syncer")


if "httpx" not in sys.modules:
    command_line = ModuleType("httpx._main")
    command_line.main = _no_command_line  # type: ignore[attr-defined]
    sys.modules["httpx._main"] = command_line
import httpx

with _without_certificates():
    import aiohttp

__all__ = ["aiohttp", "httpx"]
