"""Fixtures for tests that run the whole program."""

from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.corpus import Corpus, CorpusSpec, push_corpus
from tests.e2e.jobs import FEW, JobFiles
from tests.support.registries import Registry


@pytest.fixture
def files(tmp_path: Path) -> JobFiles:
    """`files(rules, source, destination)` writes auth and images file and gives the arguments that name them."""
    return JobFiles(tmp_path)


@pytest.fixture
def fill() -> Callable[..., Corpus]:
    """`fill(registry)` pushes a few images into a registry."""

    def push(registry: Registry, spec: CorpusSpec = FEW) -> Corpus:
        with registry.client() as client:
            return push_corpus(client, spec)

    return push
