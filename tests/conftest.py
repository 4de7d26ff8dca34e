"""Fixtures that all tests share: registries, images in them, and the program as a process."""

import os
import shutil
import sys
import tempfile
import uuid
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import groupby
from pathlib import Path

import pytest
import trustme

from benchmarks.corpus import FOR_TESTS, FULL, CorpusSpec, write_corpus
from tests.support.program import Program
from tests.support.registries import Registry, Source

# Each worker would compile all tests again where the environment keeps Python from writing down the result.
sys.dont_write_bytecode = False

# What needs the tools of scripts/interop, which sets this variable.
collect_ignore = [] if "INTEROP_BIN" in os.environ else ["interop"]

_UNIT_TESTS = Path(__file__).parent / "unit"
_MEMORY = Path("/dev/shm")  # the registries' storage: a disk would be what is measured
_ROOM = 4 << 30


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let each worker of xdist start with tests that take long, and end with unit tests.

    Each worker gets a part of the list, and takes tests from the end of another's part when its own is done.
    """
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    units = deque(item for item in items if _UNIT_TESTS in item.path.parents)
    modules = groupby(
        (item for item in items if _UNIT_TESTS not in item.path.parents), lambda item: item.path
    )
    parts: list[list[pytest.Item]] = [[] for _ in range(workers)]
    for number, (_, tests) in enumerate(modules):
        parts[number % workers] += tests
    left = len(items)
    for number, part in enumerate(parts):
        # As xdist divides the list.
        size = left // (workers - number)
        left -= size
        part += [units.popleft() for _ in range(min(size - len(part), len(units)))]
    items[:] = [item for part in parts for item in part] + list(units)


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Async tests run on asyncio, as the program does."""
    return "asyncio"


@pytest.fixture(scope="session")
def scratch() -> Iterator[Path]:
    """A folder for what is large, in memory where there is room. Gone when the tests end."""
    in_memory = _MEMORY.is_dir() and shutil.disk_usage(_MEMORY).free > _ROOM
    parent = _MEMORY if in_memory else Path(tempfile.gettempdir())
    _remove_leftovers(parent)
    folder = Path(tempfile.mkdtemp(prefix=f"syncer-tests-{os.getpid()}-", dir=parent))
    yield folder
    shutil.rmtree(folder)


def _remove_leftovers(parent: Path) -> None:
    """Of runs that were killed: their folders are named after processes that are gone."""
    for folder in parent.glob("syncer-tests-*-*"):
        if not Path("/proc", folder.name.split("-")[2]).exists():
            shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def ca() -> trustme.CA:
    """Signs the certificates of registries with TLS. No system trusts it."""
    return trustme.CA()


@pytest.fixture
def registry(scratch: Path, ca: trustme.CA) -> Iterator[Callable[..., Registry]]:
    """Starts registries: `registry()`, `registry(auth="htpasswd")`, `registry(auth="token", tls=True)`.

    Further arguments are those of `Registry`, such as `delete`, `read_only`, and `storage`, a folder that outlives it.
    """
    with ExitStack() as stack:

        def start(*, tls: bool = False, storage: Path | None = None, **options) -> Registry:
            folder = Path(tempfile.mkdtemp(prefix="registry-", dir=scratch))
            stack.callback(shutil.rmtree, folder)
            started = Registry(
                folder=folder, storage=storage or folder / "storage", tls=ca if tls else None, **options
            )
            stack.callback(started.close)
            started.start()
            return started

        yield start


@pytest.fixture(scope="session")
def shared_registry(scratch: Path) -> Iterator[Registry]:
    """An anonymous registry for tests that keep to a repository of their own: see `repository_name`."""
    yield from _running(Registry(folder=scratch / "shared", storage=scratch / "shared/storage"))


@pytest.fixture
def repository_name() -> str:
    """A repository name that no other test uses."""
    return f"test/{uuid.uuid4().hex[:12]}"


@pytest.fixture(scope="session")
def source(scratch: Path) -> Iterator[Source]:
    """A registry with 12 images of all kinds, 3 MB."""
    yield from _filled(scratch / "source", FOR_TESTS)


@pytest.fixture(scope="session")
def full_source(scratch: Path) -> Iterator[Source]:
    """A registry with the corpus of the measurements: 60 images, 300 MB. Made in four seconds."""
    yield from _filled(scratch / "full-source", FULL)


def _filled(folder: Path, spec: CorpusSpec) -> Iterator[Source]:
    corpus = write_corpus(folder / "storage", spec)
    registry = Registry(folder=folder, storage=folder / "storage")
    for running in _running(registry):
        yield Source(running, corpus)


def _running(registry: Registry) -> Iterator[Registry]:
    try:
        registry.start()
        yield registry
    finally:
        registry.close()


@pytest.fixture
def program(tmp_path: Path) -> Iterator[Program]:
    """The program in a clean environment, with the test's folder as home: `program.run`, `program.start`."""
    made = Program(tmp_path)
    yield made
    made.close()


@pytest.fixture
def run_syncer(program: Program):
    """`run_syncer(*arguments, env=…, timeout=…)` runs the program to its end."""
    return program.run


@pytest.fixture
def start_syncer(program: Program):
    """`start_syncer(*arguments, env=…)` starts it and returns the process, which ends with the test."""
    return program.start
