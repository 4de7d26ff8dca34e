"""Three registries in memory, `source`, `destination` and `elsewhere`, and runs between them."""

from collections.abc import AsyncIterator, Iterator

import pytest

from syncer.demo import MemoryRegistry
from tests.support.backoff import no_backoff  # noqa: F401 - a fixture for all tests here
from tests.support.relay_paths import relay_path  # noqa: F401 - a fixture
from tests.support.wire import Net


@pytest.fixture
async def source() -> AsyncIterator[MemoryRegistry]:
    async with MemoryRegistry() as registry:
        yield registry


@pytest.fixture
async def destination() -> AsyncIterator[MemoryRegistry]:
    async with MemoryRegistry() as registry:
        yield registry


@pytest.fixture
async def elsewhere() -> AsyncIterator[MemoryRegistry]:
    async with MemoryRegistry() as registry:
        yield registry


@pytest.fixture
def net(source: MemoryRegistry, destination: MemoryRegistry, elsewhere: MemoryRegistry) -> Iterator[Net]:
    """Runs rules between the registries: `await net.sync({"source/app": "destination/app"})`. Nothing may be left running."""
    net = Net({"source": source, "destination": destination, "elsewhere": elsewhere})
    yield net
    assert not net.leftovers
