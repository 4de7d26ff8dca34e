"""Three registries in memory, `here`, `there` and `elsewhere`, and runs between them."""

from collections.abc import AsyncIterator, Iterator

import pytest

from syncer.demo import MemoryRegistry
from tests.support.backoff import no_backoff  # noqa: F401 - a fixture for all tests here
from tests.support.wire import Net


@pytest.fixture
async def here() -> AsyncIterator[MemoryRegistry]:
    async with MemoryRegistry() as registry:
        yield registry


@pytest.fixture
async def there() -> AsyncIterator[MemoryRegistry]:
    async with MemoryRegistry() as registry:
        yield registry


@pytest.fixture
async def elsewhere() -> AsyncIterator[MemoryRegistry]:
    async with MemoryRegistry() as registry:
        yield registry


@pytest.fixture
def net(here: MemoryRegistry, there: MemoryRegistry, elsewhere: MemoryRegistry) -> Iterator[Net]:
    """Runs rules between the registries: `await net.sync({"here/app": "there/app"})`. Nothing may be left running."""
    net = Net({"here": here, "there": there, "elsewhere": elsewhere})
    yield net
    assert not net.leftovers
