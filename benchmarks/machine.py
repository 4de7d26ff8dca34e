"""What the figures depend on: the machine, and the versions of everything that took part."""

import os
import platform
import re
import subprocess
import time
from hashlib import sha256
from pathlib import Path

from benchmarks.cases import PEERS
from benchmarks.contenders import TOOLS
from benchmarks.processes import ROOT
from syncer import __version__

_SAMPLE = bytes(1024 * 1024)


def facts() -> dict[str, str]:
    """By name, in the order to show them."""
    return {
        "date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "machine": f"{_cpu_model()}, {os.cpu_count()} cores, {_memory_gb():.0f} GB, Linux {platform.release()}",
        "load before": f"{os.getloadavg()[0]:.2f}",
        "sha256 on one core": f"{sha256_rate() / 1e9:.2f} GB/s",
        "syncer": f"{__version__}, commit {_commit()}",
        "Python": platform.python_version(),
        "docker-registry": _version("docker-registry", "--version"),
        "skopeo": _version("skopeo", "--version"),
    } | {peer.name: _version(str(TOOLS / peer.program), "version") for peer in PEERS}


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


def _version(*command: str) -> str:
    found = re.search(r"\d+\.\S+", _said(*command))
    return found[0] if found else "not installed"


def _said(*command: str) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    except OSError:
        return ""
