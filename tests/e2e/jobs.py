"""Helpers for tests of whole runs: the files of a job, and the progress of a run."""

import json
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from benchmarks.corpus import Corpus, CorpusSpec
from tests.support.judge import whole_storage
from tests.support.processes import Process
from tests.support.registries import Registry, Request

T = TypeVar("T")

FEW = CorpusSpec(
    images=3, repositories=2, bases=1, kinds=("oci-index", "docker"), smallest=100, largest=9_000, seed="few"
)
"""Three images in two repositories, for tests that are not about bytes."""
PATIENCE = 60.0
"""Seconds to wait for an event before the test fails."""


@dataclass
class JobFiles:
    """Writes the two files of a job into a folder: `files(rules, source, destination)` gives the arguments."""

    folder: Path
    written: int = field(default=0)

    def __call__(
        self, rules: Mapping[str, Any], *registries: Registry, auth: Mapping[str, Any] | None = None
    ) -> list[str]:
        """`auth` has entries that go before those of the registries."""
        self.written += 1
        entries = {each.host: each.auth_entry for each in registries} | dict(auth or {})
        auth_file = self.folder / f"auth-{self.written}.json"
        images_file = self.folder / f"images-{self.written}.json"
        auth_file.write_text(json.dumps(entries))
        images_file.write_text(json.dumps(rules))
        return ["--auth", str(auth_file), "--images", str(images_file)]


def names(corpus: Corpus) -> list[tuple[str, str]]:
    """Pairs for the judge, where images keep their names."""
    return [(image.name, image.name) for image in corpus.images]


def slowed(registry: Registry, bandwidth: str) -> dict[str, Any]:
    """Return an auth entry with a bandwidth limit, so that the run takes long enough to be observed."""
    return {registry.host: {**registry.auth_entry, "bandwidth": bandwidth}}


def last_line(text: str) -> str:
    return text.rstrip("\n").rpartition("\n")[2]


def lines_with(level: str, text: str) -> list[str]:
    return [line for line in text.splitlines() if f" {level.upper()} " in line]


def read_json(path: Path) -> Any:
    return json.loads(path.read_text())


def gets(requests: Iterable[Request], endpoint: str) -> Counter[str]:
    """How often each digest or tag was fetched."""
    return Counter(
        request.reference for request in requests if (request.method, request.endpoint) == ("GET", endpoint)
    )


def methods(requests: Iterable[Request]) -> set[str]:
    return {request.method for request in requests}


def tags(storage: Path) -> dict[str, str]:
    """The digest of each tag at a docker-registry. With `whole_storage`, as good as the judge, and faster."""
    repositories = storage / "docker/registry/v2/repositories"

    def look() -> dict[str, str]:
        links = repositories.glob("**/_manifests/tags/*/current/link")
        return {
            f"{link.parents[4].relative_to(repositories)}:{link.parents[1].name}": link.read_text()
            for link in links
        }

    return _in_spite_of_uploads(look)


def stored_blobs(storage: Path) -> int:
    """Blobs and manifests that a docker-registry has."""
    return sum(1 for _ in storage.glob("docker/registry/v2/blobs/sha256/*/*/data"))


def whole_now(storage: Path) -> int:
    """`whole_storage` beside a registry at work: an upload may be put away while its folder is being looked into."""
    return _in_spite_of_uploads(lambda: whole_storage(storage))


def _in_spite_of_uploads(look: Callable[[], T]) -> T:
    for _ in range(1000):
        with suppress(FileNotFoundError):
            return look()
    raise AssertionError("the registry does not come to rest")


def wait_for(condition: Callable[[], bool], process: Process) -> None:
    """Wait until `condition` holds. Fails if the process ends first."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert process.poll() is None, f"ended before: {process.read_stderr()}"
        assert time.monotonic() < deadline, f"nothing happens: {process.read_stderr()}"
        time.sleep(0.005)


def watch(process: Process, storage: Path, until: Callable[[], bool]) -> None:
    """Check continuously that each tag is complete, until `until` holds or the process ends."""
    deadline = time.monotonic() + PATIENCE
    while process.poll() is None and not until():
        whole_now(storage)
        assert time.monotonic() < deadline, f"nothing happens: {process.read_stderr()}"
        time.sleep(0.01)
