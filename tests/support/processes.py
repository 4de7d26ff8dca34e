"""Processes that end with the tests: immediately, by pid, and also if pytest is killed."""

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path


class Process(subprocess.Popen[str]):
    """A process whose output goes to files: a pipe that nobody reads would stop it.

    It must be started from the main thread: the kernel kills it when the thread that started it ends.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        stdout: Path,
        stderr: Path,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> None:
        self.stdout_path = stdout
        self.stderr_path = stderr
        with stdout.open("a") as out, stderr.open("a") as err:
            super().__init__(
                ["setpriv", "--pdeathsig", "KILL", *command],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                env=env,
                cwd=cwd,
                text=True,
                start_new_session=True,  # Ctrl-C is for pytest, which then ends us in order
            )

    def read_stdout(self) -> str:
        return self.stdout_path.read_text()

    def read_stderr(self) -> str:
        return self.stderr_path.read_text()

    def end(self) -> None:
        """Kill it if it still runs, and wait until it is gone."""
        self.kill()
        self.wait()
