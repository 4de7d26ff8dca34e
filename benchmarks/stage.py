"""Where a copy is measured: two docker-registries with the right content, and the ways to them."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import trustme

from benchmarks.big_blobs import BigBlobs, write_big_blobs
from benchmarks.cases import CopyCase, Line
from benchmarks.corpus import Corpus, CorpusSpec, write_corpus
from benchmarks.processes import Helper, helper
from tests.support.judge import whole_storage
from tests.support.registries import Registry

CHANGED = 0.05
MEMORY = Path("/dev/shm")  # a disk would be what is measured
SPARE = 2 * 1024**3
"""Bytes that stay free, for everyone else on the machine."""


class NoRoom(Exception):
    """There is no room for what a case writes."""


@dataclass
class Scratch:
    """A folder for all cases. Content is made once."""

    folder: Path
    made: dict[CorpusSpec | BigBlobs, tuple[Path, Corpus]] = field(default_factory=dict)

    def check_room(self, nbytes: int) -> None:
        """Raises `NoRoom` if less than so many bytes, and some to spare, are free."""
        free = min(shutil.disk_usage(self.folder).free, _available_memory())
        if free < nbytes + SPARE:
            raise NoRoom(
                f"{nbytes / 1e9:.1f} GB are needed in {self.folder.parent}, {free / 1e9:.1f} are free"
            )

    def storage_of(self, content: CorpusSpec | BigBlobs) -> tuple[Path, Corpus]:
        """A docker-registry's storage with this content, not to be written to."""
        if content not in self.made:
            storage = self.folder / f"content-{len(self.made)}"
            if isinstance(content, BigBlobs):
                corpus = write_big_blobs(storage, content)
            else:
                if content.change:
                    copy_storage(self.storage_of(replace(content, change=0.0))[0], storage)
                corpus = write_corpus(storage, content)
            self.made[content] = storage, corpus
        return self.made[content]


@contextmanager
def scratch() -> Iterator[Scratch]:
    """A folder in memory where there is one, gone when the block ends."""
    with tempfile.TemporaryDirectory(
        prefix="syncer-bench-", dir=MEMORY if MEMORY.is_dir() else None
    ) as folder:
        yield Scratch(Path(folder))


@dataclass
class Stage:
    """Both registries of a case. `reset` brings the destination to what it has before a run."""

    folder: Path
    corpus: Corpus
    source: Registry
    destination: Registry
    before: Path | None
    case: CopyCase

    def reset(self) -> None:
        self.destination.stop()
        shutil.rmtree(self.destination.storage, ignore_errors=True)
        if self.before is None:
            self.destination.storage.mkdir()
        else:
            copy_storage(self.before, self.destination.storage)
        self.destination.start()

    @contextmanager
    def paths(self) -> Iterator["Paths"]:
        """The addresses to use for one run. Logs begin anew."""
        network = self.case.network
        with ExitStack() as stack:
            source = stack.enter_context(_path(network.source, self.source, self.folder))
            destination = stack.enter_context(_path(network.destination, self.destination, self.folder))
            for registry in (self.source, self.destination):
                registry.clear_access_log()
            yield Paths(source, destination, self.source.host, self.destination.host)

    @property
    def sizes(self) -> dict[str, int]:
        """Bytes of each blob and manifest by digest, and of those with a tag by that too."""
        manifests = self.corpus.manifests
        tagged = {image.name: manifests[image.digest] for image in self.corpus.images}
        return self.corpus.blobs | manifests | tagged

    def problem(self) -> str:
        """What is wrong with the copy: nothing, if every tag names the right manifest and all below it is there."""
        storage = self.destination.storage
        for image in self.corpus.images:
            link = (
                storage
                / "docker/registry/v2/repositories"
                / image.repository
                / "_manifests/tags"
                / image.tag
                / "current/link"
            )
            found = link.read_text() if link.exists() else "nothing"
            if found != image.digest:
                return f"wrong copy: {image.name} is {found}, not {image.digest}"
        try:
            whole_storage(storage)
        except AssertionError as error:
            return f"wrong copy: {error}".replace("\n", " / ")[:500]
        return ""


@dataclass
class Paths:
    """How a run reaches the registries: through proxies, or straight."""

    source_proxy: Helper | None
    destination_proxy: Helper | None
    source_host: str
    destination_host: str

    @property
    def source(self) -> str:
        return self.source_proxy.host if self.source_proxy else self.source_host

    @property
    def destination(self) -> str:
        return self.destination_proxy.host if self.destination_proxy else self.destination_host

    @property
    def open_at_once(self) -> tuple[int, int] | None:
        """After the block of `paths`: the most connections to source and destination."""
        if self.source_proxy is None or self.destination_proxy is None:
            return None
        return self.source_proxy.told["most_open"], self.destination_proxy.told["most_open"]


@contextmanager
def stage(case: CopyCase, room: Scratch, ca: trustme.CA) -> Iterator[Stage]:
    """Start the registries of a case, filled. Raises `NoRoom`."""
    content = case.content
    # The layers of big blobs are holes until a registry reads them: count them twice.
    room.check_room(2 * content.images * content.nbytes if isinstance(content, BigBlobs) else 1 << 30)
    before = None if case.before == "nothing" else room.storage_of(content)[0]
    if case.before == "an older state":
        assert isinstance(content, CorpusSpec)
        content = replace(content, change=max(CHANGED, 1 / content.images))
    storage, corpus = room.storage_of(content)
    folder = Path(tempfile.mkdtemp(prefix=f"{case.name}-", dir=room.folder))
    tls = ca if case.tls else None
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, folder)
        source = Registry(folder / "source", storage, tls=tls)
        destination = Registry(folder / "destination", folder / "destination/storage", tls=tls)
        for registry in (source, destination):
            stack.callback(registry.close)
        source.start()
        yield Stage(folder, corpus, source, destination, before, case)


def copy_storage(source: Path, target: Path) -> None:
    """Copy a docker-registry's storage. Blobs, which are never written to, are linked; links to them are not."""
    shutil.copytree(source, target, dirs_exist_ok=True, copy_function=_link_or_copy)


def _link_or_copy(old: str, new: str) -> None:
    if Path(old).name == "data":
        os.link(old, new)
    else:
        shutil.copyfile(old, new)


@contextmanager
def _path(line: Line | None, registry: Registry, folder: Path) -> Iterator[Helper | None]:
    if line is None:
        yield None
        return
    options = ["--to", registry.host, "--rtt-ms", str(line.rtt_ms)]
    options += ["--mbit", str(line.mbit), "--shared-mbit", str(line.shared_mbit)]
    with helper("benchmarks.wan_proxy", *options, folder=folder) as proxy:
        yield proxy


def _available_memory() -> int:
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return 0
