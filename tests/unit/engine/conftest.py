"""Three registries in memory, `here`, `there` and `elsewhere`, and runs between them."""

from collections.abc import AsyncIterator, Iterator

import pytest

from syncer.demo import MemoryRegistry
from syncer.http import retry
from syncer.places.registry import upload
from tests.support.wire import Net


@pytest.fixture(autouse=True)
def no_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests are tried again at once: how long to wait is tested elsewhere."""
    monkeypatch.setattr(retry, "_backoff", lambda _state: 0.0)
    monkeypatch.setattr(upload, "pause", lambda _fruitless: 0.0)


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
