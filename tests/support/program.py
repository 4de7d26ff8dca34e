"""Runs the program as users do: as a process in a clean environment."""

import itertools
import os
import re
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
        done = subprocess.run(
            self._command(arguments),
            env=self._environment(env),
            cwd=cwd or self.folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        _assert_nothing_told(arguments, done.stdout + done.stderr, cwd or self.folder)
        return done

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


_TOLD = (
    "--log",
    "--report",
    "--metrics-file",
    "--output-success-images",
    "--output-failed-images",
)
_SECRET = re.compile(r"""["']?(?:password|token)["']?\s*:\s*(?:"((?:[^"\\]|\\.)+)"|'([^']+)'|([^\s,}]+))""")
_SHORTEST = 6


def _assert_nothing_told(arguments: tuple[str | Path, ...], text: str, folder: Path) -> None:
    """Whatever a test is about: no secret of its files is in what the program said or wrote."""
    given = {
        str(option): folder / str(value)
        for option, value in itertools.pairwise(arguments)
        if str(option).startswith("--")
    }
    secrets: set[str] = set()
    for option in ("--auth", "--config"):
        if option in given and given[option].is_file():
            written = given[option].read_text(errors="replace")
            found = (next(filter(None, match)) for match in _SECRET.findall(written))
            secrets |= {secret for secret in found if len(secret) >= _SHORTEST and "$" not in secret}
    written_files = [given[option] for option in _TOLD if option in given and given[option].is_file()]
    told = "\n".join([text, *(path.read_text(errors="replace") for path in written_files)])
    # Not shown in the message: the failure itself would tell.
    assert not any(secret in told for secret in secrets), "a secret of the auth file was told"
