"""The program as its users run it: a process of its own, in a clean environment."""

import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.processes import Process

_KEPT = ("PATH", "LANG", "LC_ALL", "TMPDIR", "COVERAGE_PROCESS_START")


@dataclass
class Program:
    """Starts `syncer` with `folder` as home and working directory: no Docker or podman login is in reach."""

    folder: Path
    started: list[Process] = field(default_factory=list)

    def run(
        self,
        *arguments: str | Path,
        env: Mapping[str, str] | None = None,
        timeout: float = 120,
        cwd: Path | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run it to its end. A timeout, in seconds, kills it and raises."""
        return subprocess.run(
            self._command(arguments),
            env=self._environment(env),
            cwd=cwd or self.folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    def start(
        self, *arguments: str | Path, env: Mapping[str, str] | None = None, cwd: Path | None = None
    ) -> Process:
        """Start it and return. Its output goes to files, see `Process`; `close` ends it."""
        number = len(self.started)
        process = Process(
            self._command(arguments),
            stdout=self.folder / f"syncer-{number}.out",
            stderr=self.folder / f"syncer-{number}.err",
            env=self._environment(env),
            cwd=cwd or self.folder,
        )
        self.started.append(process)
        return process

    def close(self) -> None:
        for process in self.started:
            process.end()

    def _command(self, arguments: tuple[str | Path, ...]) -> list[str]:
        return [sys.executable, "-m", "syncer", *map(str, arguments)]

    def _environment(self, added: Mapping[str, str] | None) -> dict[str, str]:
        kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
        return kept | {"HOME": str(self.folder), "PYTHONUNBUFFERED": "1"} | dict(added or {})
