"""Imports httpx without its command line, which imports rich and pygments: a third of the startup time."""

import sys
from types import ModuleType
from typing import Any


def _no_command_line(*_args: Any) -> None:
    raise SystemExit("httpx's command line is not available inside image-syncer")


if "httpx" not in sys.modules:
    command_line = ModuleType("httpx._main")
    command_line.main = _no_command_line  # type: ignore[attr-defined]
    sys.modules["httpx._main"] = command_line
import httpx

__all__ = ["httpx"]
