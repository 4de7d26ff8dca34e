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
from benchmarks.processes import ROOT, Helper, helper
from tests.support.judge import whole_storage
from tests.support.registries import Registry

CHANGED = 0.05
MEMORY = Path("/dev/shm")  # a disk would be what is measured
SPARE = 2 * 1024**3
"""Bytes that stay free, for everyone else on the machine."""
_PREFIX = "syncer-bench-"


class NoRoom(Exception):
    """Neither memory nor the disk has room for what a case writes."""


@dataclass
class Scratch:
    """A folder in memory, and one on the disk for what does not fit. Content is made once for all cases."""

    memory: Path
    disk: Path
    made: dict[tuple[CorpusSpec | BigBlobs, Path], tuple[Path, Corpus]] = field(default_factory=dict)

    def folder_for(self, nbytes: int) -> Path:
        """One of the two with room for so many bytes. Raises `NoRoom`."""
        in_memory = min(shutil.disk_usage(self.memory).free, _available_memory())
        if in_memory > nbytes + SPARE:
            return self.memory
        if shutil.disk_usage(self.disk).free > nbytes + SPARE:
            return self.disk
        raise NoRoom(f"no room for {nbytes / 1e9:.1f} GB, neither in {MEMORY} nor in {ROOT}")

    def storage_of(self, content: CorpusSpec | BigBlobs, parent: Path) -> tuple[Path, Corpus]:
        """A docker-registry's storage with this content, not to be written to."""
        if (content, parent) not in self.made:
            storage = parent / f"content-{len(self.made)}"
            if isinstance(content, BigBlobs):
                corpus = write_big_blobs(storage, content)
            else:
                if content.change:
                    copy_storage(self.storage_of(replace(content, change=0.0), parent)[0], storage)
                corpus = write_corpus(storage, content)
            self.made[content, parent] = storage, corpus
        return self.made[content, parent]


@contextmanager
def scratch() -> Iterator[Scratch]:
    """Gone when the block ends; folders of benchmarks that were killed go too."""
    on_disk = ROOT / ".cache"
    on_disk.mkdir(exist_ok=True)
    memory = MEMORY if MEMORY.is_dir() else on_disk
    with ExitStack() as stack:

        def folder_in(parent: Path) -> Path:
            _remove_leftovers(parent)
            folder = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-", dir=parent))
            stack.callback(shutil.rmtree, folder)
            return folder

        yield Scratch(folder_in(memory), folder_in(on_disk))


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
    parent = room.folder_for(
        2 * content.images * content.nbytes if isinstance(content, BigBlobs) else 1 << 30
    )
    before = None
    if case.before == "everything":
        before = room.storage_of(content, parent)[0]
    elif case.before == "an older state":
        assert isinstance(content, CorpusSpec)
        before = room.storage_of(content, parent)[0]
        content = replace(content, change=max(CHANGED, 1 / content.images))
    storage, corpus = room.storage_of(content, parent)
    folder = Path(tempfile.mkdtemp(prefix=f"{case.name}-", dir=parent))
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


def _remove_leftovers(parent: Path) -> None:
    for folder in parent.glob(f"{_PREFIX}*-*"):
        if not Path("/proc", folder.name.removeprefix(_PREFIX).partition("-")[0]).exists():
            shutil.rmtree(folder, ignore_errors=True)
