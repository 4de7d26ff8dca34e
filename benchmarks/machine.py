"""What the figures depend on: the machine, and the versions of everything that took part."""

import asyncio
import os
import platform
import re
import subprocess
import tempfile
import time
from hashlib import sha256
from pathlib import Path

import httptools

from benchmarks.processes import ROOT
from syncer import __version__
from tests.support.registries import Registry

_SAMPLE = bytes(1024 * 1024)
_READ_SIZE = 64 * 1024


def facts() -> dict[str, str]:
    """By name, in the order to show them."""
    return {
        "date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "machine": f"{_cpu_model()}, {os.cpu_count()} cores, {_memory_gb():.0f} GB, Linux {platform.release()}",
        "load before": f"{os.getloadavg()[0]:.2f}",
        "sha256 on one core": f"{sha256_rate() / 1e9:.2f} GB/s",
        "a HEAD over asyncio's streams alone": f"{1e3 * request_seconds():.2f} ms of CPU",
        "syncer": f"{__version__}, commit {_commit()}",
        "Python": platform.python_version(),
        "docker-registry": _version("docker-registry", "--version"),
        "skopeo": _version("skopeo", "--version"),
    }


def sha256_rate(nbytes: int = 512 * 1024 * 1024) -> float:
    """Bytes a second: tells machines apart, and how busy this one is."""
    hashed = sha256()
    started = time.perf_counter()
    for _ in range(nbytes // len(_SAMPLE)):
        hashed.update(_SAMPLE)
    return nbytes / (time.perf_counter() - started)


def request_seconds(count: int = 3000, width: int = 16) -> float:
    """CPU seconds of this process for one HEAD at a docker-registry, `width` at once: tells machines apart.

    With nothing of ours in it, so that it stays what it is while the program changes.
    """
    with tempfile.TemporaryDirectory() as folder:
        registry = Registry(Path(folder), Path(folder) / "storage")
        registry.start()
        try:
            asyncio.run(_ask(registry.host, width, width))
            started = time.process_time()
            asyncio.run(_ask(registry.host, count, width))
            return (time.process_time() - started) / count
        finally:
            registry.close()


async def _ask(netloc: str, count: int, width: int) -> None:
    host, _, port = netloc.partition(":")
    request = f"HEAD /v2/ HTTP/1.1\r\nHost: {netloc}\r\n\r\n".encode()
    left = iter(range(count))

    async def work() -> None:
        reader, writer = await asyncio.open_connection(host, int(port))
        for _ in left:
            writer.write(request)
            answer = _Answer()
            parser = httptools.HttpResponseParser(answer)
            while not answer.complete:
                parser.feed_data(await reader.read(_READ_SIZE))
        writer.close()
        await writer.wait_closed()

    await asyncio.gather(*(work() for _ in range(width)))


class _Answer:
    """To a HEAD there is nothing but headers, and the parser cannot know."""

    complete = False

    def on_headers_complete(self) -> None:
        self.complete = True


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
