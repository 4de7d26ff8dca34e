"""What the figures depend on: the machine, and the versions of everything that took part."""

import json
import os
import platform
import re
import subprocess
import time
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path

from benchmarks.cases import PEERS
from benchmarks.contenders import PYTHON, TOOLS
from benchmarks.processes import ROOT
from syncer import __version__

_SAMPLE = bytes(1024 * 1024)
_ASK_PYTHON = "import json, platform, sysconfig; print(json.dumps([platform.python_version(), sysconfig.get_config_vars()]))"


def facts() -> dict[str, str]:
    """By name, in the order to show them."""
    return {
        "date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "machine": f"{_cpu_model()}, {os.cpu_count()} cores, {_memory_gb():.0f} GB, Linux {platform.release()}",
        "load before": f"{os.getloadavg()[0]:.2f}",
        "sha256 on one core": f"{sha256_rate() / 1e9:.2f} GB/s",
        "syncer": f"{__version__}, commit {_commit()}",
        "Python": _python(),
        "docker-registry": _version("docker-registry", "--version"),
        "skopeo": _version("skopeo", "--version"),
    } | {peer.name: _version(str(TOOLS / peer.program), "version") for peer in PEERS}


def has_pgo(built_with: Mapping[str, object]) -> bool:
    """Whether an interpreter was built with profile-guided optimization, by its `sysconfig.get_config_vars()`.

    `configure --enable-optimizations` is in `CONFIG_ARGS`. Debian runs `make profile-opt` without it, and removes
    `-fprofile-use` from the variables afterwards (`debian/rules` of its packages); other builds keep it, used or not.
    """
    if "--enable-optimizations" in str(built_with.get("CONFIG_ARGS", "")):
        return True
    return built_with.get("PGO_PROF_USE_FLAG") == ""


def sha256_rate(nbytes: int = 512 * 1024 * 1024) -> float:
    """Bytes a second: tells machines apart, and how busy this one is."""
    hashed = sha256()
    started = time.perf_counter()
    for _ in range(nbytes // len(_SAMPLE)):
        hashed.update(_SAMPLE)
    return nbytes / (time.perf_counter() - started)


def _cpu_model() -> str:
    found = re.search(r"^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return found[1] if found else platform.machine()


def _memory_gb() -> float:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9


def _commit() -> str:
    commit = _said("git", "-C", str(ROOT), "rev-parse", "--short", "HEAD") or "unknown"
    changed = _said("git", "-C", str(ROOT), "status", "--porcelain", "--", "syncer")
    return f"{commit} with changes" if changed else commit


def _python() -> str:
    version, built_with = json.loads(_said(PYTHON, "-c", _ASK_PYTHON))
    return f"{version}, built {'with' if has_pgo(built_with) else 'without'} PGO"


def _version(*command: str) -> str:
    found = re.search(r"\d+\.\S+", _said(*command))
    return found[0] if found else "not installed"


def _said(*command: str) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    except OSError:
        return ""
