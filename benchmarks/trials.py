"""One run of one contender in one case, measured and checked."""

import shutil
import socket
import threading
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from benchmarks.cases import Contender, CopyCase, StartCase, TagsCase
from benchmarks.contenders import copy_programs, syncer_command
from benchmarks.counting import Traffic, count
from benchmarks.many_tags import REPOSITORY
from benchmarks.processes import Helper, Usage, helper, run_measured, run_together
from benchmarks.results import Measurement
from benchmarks.stage import Stage

PYTHON_LIMIT = 3600.0
"""Seconds for our own program: only a hang takes so long."""
_REFUSED = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


def measure_copy(case: CopyCase, contender: Contender, stage: Stage, *, limit: float) -> Measurement:
    """Reset the destination, run, and check the copy. `limit` is in seconds, for other programs than ours."""
    stage.reset()
    folder = stage.folder / "program"
    shutil.rmtree(folder, ignore_errors=True)
    with stage.paths() as paths:
        programs = copy_programs(
            contender,
            folder,
            stage.corpus.repositories,
            paths.source,
            paths.destination,
            ca_file=stage.source.ca_file if case.tls else None,
        )
        usage = run_together(programs, limit=_limit(contender, limit))
        traffic = count(
            stage.source.access_log(all_agents=True),
            stage.destination.access_log(all_agents=True),
            stage.sizes,
        )
    return _measurement(usage, traffic, paths.open_at_once, usage.problem or stage.problem())


def measure_tags(case: TagsCase, contender: Contender, folder: Path) -> Measurement:
    """Two registries in memory with the same tags. It counts if both were asked for each, and nothing was sent."""
    with ExitStack() as stack:
        source, destination = (
            stack.enter_context(helper("benchmarks.many_tags", "--tags", str(case.tags), folder=folder))
            for _ in range(2)
        )
        program = folder / "program"
        program.mkdir(exist_ok=True)
        command = syncer_command(
            program,
            {f"{source.host}/{REPOSITORY}": f"{destination.host}/{REPOSITORY}"},
            {each.host: {"plain_http": True} for each in (source, destination)},
            proc=contender.proc,
        )
        usage = run_measured(command, program, limit=PYTHON_LIMIT)
    traffic = Traffic(source.told, destination.told, 0, 0, None, 0)
    return _measurement(usage, traffic, None, usage.problem or _tags_problem(case, source, destination))


def measure_start(case: StartCase, contender: Contender, folder: Path) -> Measurement:
    """Until the program ends, or until it has sent something. What comes of the request does not matter."""
    if case.until == "version":
        program = ["skopeo"] if contender.program == "skopeo" else syncer_command(folder, {}, {}, proc=1)[:3]
        return _measurement(run_measured([*program, "--version"], folder / "program", limit=60))
    with _Listener() as listener:
        if contender.program == "skopeo":
            command = ["skopeo", "inspect", "--tls-verify=false", f"docker://{listener.host}/some/app:1"]
        else:
            images = {f"{listener.host}/some/app:1": f"{listener.host}/other/app"}
            command = syncer_command(folder, images, {listener.host: {"plain_http": True}}, proc=1)
            command += ["--retries", "0"]
        usage = run_measured(command, folder / "program", limit=60)
    problem = "" if listener.first else f"no request came: {usage.said}"
    seconds = listener.first - usage.started if listener.first else usage.seconds
    return Measurement(seconds, usage.cpu_seconds, usage.peak_bytes, problem=problem)


@dataclass
class _Listener:
    """Listens on a free port and refuses whatever comes. `first` is when the first bytes came, as monotonic time."""

    first: float = 0.0
    host: str = ""
    _socket: socket.socket = field(default_factory=socket.socket)

    def __enter__(self) -> Self:
        self._socket.bind(("127.0.0.1", 0))
        self._socket.listen(16)
        self.host = f"127.0.0.1:{self._socket.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        # Wakes the thread: closing alone would not.
        self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._socket.close()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            with connection:
                connection.settimeout(10)
                try:
                    if connection.recv(65536):
                        self.first = self.first or time.monotonic()
                    connection.sendall(_REFUSED)
                except OSError:
                    continue


def _measurement(
    usage: Usage,
    traffic: Traffic | None = None,
    open_at_once: tuple[int, int] | None = None,
    problem: str | None = None,
) -> Measurement:
    return Measurement(
        usage.seconds,
        usage.cpu_seconds,
        usage.peak_bytes,
        traffic,
        open_at_once,
        usage.problem if problem is None else problem,
        usage.timed_out,
    )


def _limit(contender: Contender, limit: float) -> float:
    return PYTHON_LIMIT if contender.program == "syncer" else limit


def _tags_problem(case: TagsCase, source: Helper, destination: Helper) -> str:
    for name, told in (("source", source.told), ("destination", destination.told)):
        if told.get("HEAD manifest", 0) + told.get("GET manifest", 0) < case.tags:
            return f"the {name} was not asked for every tag: {dict(told)}"
        if any(kind.startswith(("PUT", "POST")) for kind in told):
            return f"something was written to the {name}: {dict(told)}"
    return ""
