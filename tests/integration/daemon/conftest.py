"""A daemon as a process, between real registries."""

import contextlib
import json
import re
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from benchmarks.corpus import FOR_TESTS, write_corpus
from tests.support.browser import Browser, Page
from tests.support.plain_http import NO_AUTHORITIES
from tests.support.processes import Process
from tests.support.program import Program
from tests.support.prometheus import Prometheus, free_port
from tests.support.registries import Registry

PATIENCE = 60.0
_LISTENING = re.compile(r"listening on (http://[\w.:]+)")


def wait_until(condition: Callable[[], Any], *, patience: float = PATIENCE) -> Any:
    """Poll until there is something; fail after `patience` seconds."""
    end = time.monotonic() + patience
    while time.monotonic() < end:
        if found := condition():
            return found
        time.sleep(0.02)
    pytest.fail(f"not within {patience} seconds")


@dataclass
class Served:
    """Starts `syncer serve` in a folder with its files; ends it as a test wants it ended."""

    program: Program
    folder: Path
    options: list[str] = field(default_factory=list)
    process: Process | None = None
    url: str = ""

    @property
    def auth(self) -> Path:
        return self.folder / "auth.json"

    @property
    def images(self) -> Path:
        return self.folder / "images.json"

    def write(self, images: object, *registries: Registry, **settings: Any) -> None:
        """The two files. `settings` are for every registry."""
        entries = {each.host: each.auth_entry | settings for each in registries}
        self.auth.write_text(json.dumps(entries))
        self.images.write_text(json.dumps(images))

    def arguments(self, *more: str) -> list[str]:
        return ["--auth", str(self.auth), "--images", str(self.images), *self.options, *more]

    def start(self, *more: str) -> "Served":
        """Start it, and return when it is ready."""
        self.process = self.program.start("serve", "--listen", "127.0.0.1:0", *self.arguments(*more))
        self.url = wait_until(self._address)
        wait_until(lambda: self.status_of("/readyz") == 200)
        return self

    def _address(self) -> str:
        assert self.process
        assert self.process.poll() is None, self.log
        found = _LISTENING.search(self.log)
        return found[1] if found else ""

    @property
    def log(self) -> str:
        assert self.process
        return self.process.read_stderr()

    def status_of(self, path: str) -> int:
        with contextlib.suppress(httpx.TransportError):
            return httpx.get(self.url + path, timeout=10, trust_env=False, verify=NO_AUTHORITIES).status_code
        return 0

    def get(self, path: str) -> Any:
        answer = httpx.get(self.url + path, timeout=10, trust_env=False, verify=NO_AUTHORITIES)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def text(self, path: str) -> str:
        return httpx.get(self.url + path, timeout=10, trust_env=False, verify=NO_AUTHORITIES).text

    def post(self, path: str, json: object = None, **headers: str) -> httpx.Response:
        return httpx.post(
            self.url + path, json=json, headers=headers, timeout=10, trust_env=False, verify=NO_AUTHORITIES
        )

    @property
    def runs(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.get("/api/v1/runs?limit=500")
        return found

    def run(self) -> dict[str, Any]:
        """One run from its start to its end."""
        run_id = wait_until(self._started)
        return self.ended(run_id)

    def _started(self) -> str:
        answer = self.post("/api/v1/runs")
        return str(answer.json()["id"]) if answer.status_code == 202 else ""

    def ended(self, run_id: str) -> dict[str, Any]:
        """A run, once it is over."""
        found: dict[str, Any] = wait_until(
            lambda: next((run for run in self.runs if run["id"] == run_id and run["outcome"]), None)
        )
        return found

    def copying(self) -> dict[str, Any]:
        """The run in progress, once it has moved something."""

        def moving() -> Any:
            run = self.get("/api/v1/status")["run"]
            return run if run and run["bytes"]["moved"] > 0 else None

        found: dict[str, Any] = wait_until(moving)
        return found

    def signal(self, number: signal.Signals) -> None:
        assert self.process
        self.process.send_signal(number)

    def terminate(self) -> float:
        """SIGTERM. How many seconds it took; it must end well."""
        assert self.process
        begun = time.monotonic()
        self.process.terminate()
        code = self.process.wait(timeout=40)
        assert code == 0, self.log
        return time.monotonic() - begun


def rules(source: Any, target: Registry) -> dict[str, str]:
    host = source.registry.host
    return {f"{host}/{name}": f"{target.host}/mirror/{name}" for name in source.corpus.repositories}


@pytest.fixture
def served(program: Program, tmp_path: Path) -> Served:
    folder = tmp_path / "files"
    folder.mkdir()
    return Served(program, folder)


@pytest.fixture
def prometheus(tmp_path):
    started: list[Prometheus] = []

    def start(**targets):
        started.append(Prometheus(tmp_path / "prometheus", targets))
        return started[-1]

    yield start
    for each in started:
        each.process.end()


@pytest.fixture
def gateway(tmp_path):
    address = f"127.0.0.1:{free_port()}"
    process = Process(
        ["prometheus-pushgateway", f"--web.listen-address={address}", "--log.level=warn"],
        stdout=tmp_path / "gateway.out",
        stderr=tmp_path / "gateway.err",
    )

    def answers():
        try:
            return (
                httpx.get(f"http://{address}/-/ready", trust_env=False, verify=NO_AUTHORITIES).status_code
                == 200
            )
        except httpx.TransportError:
            return False

    wait_until(answers)
    yield address
    process.end()


@pytest.fixture
def copying(served, registry):
    """A daemon between two registries, with a rule that works and a rule that fails."""
    origin, target = registry(), registry()
    corpus = write_corpus(origin.storage, FOR_TESTS)
    name = corpus.repositories[0]
    images: dict[str, object] = {f"{origin.host}/{name}": f"{target.host}/{name}"}
    served.write(images, origin, target)
    served.missing = images | {f"{origin.host}/missing:1": f"{target.host}/missing"}
    return served


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    started = Browser()
    yield started
    started.close()


@pytest.fixture
def page(browser) -> Iterator[Page]:
    opened = browser.page()
    yield opened
    opened.close()


@pytest.fixture
def slow(served, source, registry):
    """A daemon whose runs go on for ten seconds, or until somebody stops them."""
    target = registry()
    served.write(rules(source, target), source.registry, target, bandwidth="300KiB")
    served.options = ["--proc", "1"]
    return served
