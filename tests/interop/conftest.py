"""Fixtures of the tests beside other tools: `scripts/interop` builds those and says where they are."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from benchmarks.stores import Pushed
from tests.e2e.jobs import JobFiles
from tests.interop.images import ImageSet
from tests.interop.registries import TOOLS, running
from tests.support.judge import Judged


@dataclass(frozen=True, slots=True)
class Holding:
    """A registry with an `ImageSet`, whose digests are `digests`, by tag. Tests only read from it."""

    registry: Judged
    digests: dict[str, str]


@pytest.fixture
def tool(tmp_path: Path) -> Callable[..., str]:
    """`tool("crane", "digest", …)` runs it with the test's folder as home, and returns what it wrote."""

    def run(name: str, *arguments: str | Path) -> str:
        path = TOOLS / name if (TOOLS / name).exists() else name
        done = subprocess.run(
            [path, *arguments],
            cwd=tmp_path,
            env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), "COSIGN_PASSWORD": ""},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{name} {' '.join(map(str, arguments))}: {done.stderr}{done.stdout}"
        return done.stdout.strip()

    return run


@pytest.fixture(scope="session")
def holding(
    scratch: Path,
) -> Iterator[Callable[[str], Holding]]:
    """`holding(kind)` is a registry of that kind with an image of each kind."""
    made: dict[str, Holding] = {}
    with ExitStack() as stack:

        def get(kind: str) -> Holding:
            if kind not in made:
                registry = stack.enter_context(running(kind, scratch / f"holding-{kind}"))
                with registry.client() as client:
                    images = ImageSet(Pushed(client))
                    images.push()
                made[kind] = Holding(registry, images.digests)
            return made[kind]

        yield get


@pytest.fixture
def start_registry(scratch: Path) -> Iterator[Callable[[str], Judged]]:
    """`start_registry(kind)` starts an empty one of `KINDS`, for this test."""
    with ExitStack() as stack:

        def start(kind: str) -> Judged:
            folder = Path(tempfile.mkdtemp(prefix=f"{kind}-", dir=scratch))
            stack.callback(shutil.rmtree, folder)
            return stack.enter_context(running(kind, folder))

        yield start


@pytest.fixture
def files(tmp_path: Path) -> JobFiles:
    """`files(rules, auth=…)` writes auth and images file and gives the arguments that name them."""
    return JobFiles(tmp_path)
