"""Registries behind proxies that inject faults.

`here` (source) and `there` (destination) are in-memory registries behind scripted proxies. `docker` is a real
docker-registry behind one.
"""

from collections.abc import AsyncIterator, Callable, Iterator

import pytest

from syncer.demo import MemoryRegistry
from tests.support.backoff import no_backoff  # noqa: F401 - a fixture for all tests here
from tests.support.faults import Faults
from tests.support.registries import Registry
from tests.support.relay_paths import relay_path  # noqa: F401 - a fixture
from tests.support.wire import Net


@pytest.fixture
async def source() -> AsyncIterator[MemoryRegistry]:
    async with MemoryRegistry() as registry:
        yield registry


@pytest.fixture
async def target() -> AsyncIterator[MemoryRegistry]:
    async with MemoryRegistry() as registry:
        yield registry


@pytest.fixture
async def here(source: MemoryRegistry) -> AsyncIterator[Faults]:
    async with Faults(source.host) as faults:
        yield faults


@pytest.fixture
async def there(target: MemoryRegistry) -> AsyncIterator[Faults]:
    async with Faults(target.host) as faults:
        yield faults


@pytest.fixture
async def docker(shared_registry: Registry) -> AsyncIterator[Faults]:
    """A proxy for a real docker-registry. Tests share the registry, so each uses its own `repository_name`."""
    async with Faults(shared_registry.host) as faults:
        yield faults


_OF_SERVERS = ("Faults.", "_Exchange.", "HostileRegistry.", "BaseSelectorEventLoop._accept")
"""The task group of the servers that tests start."""


@pytest.fixture
def net(here: Faults, there: Faults, docker: Faults) -> Iterator[Net]:
    """`await net.sync({"here/app": "there/app"})`. Fails if a task is left running."""
    made = Net({"here": here, "there": there, "docker": docker})  # type: ignore[dict-item]
    yield made
    assert not [name for name in made.leftovers if not name.startswith(_OF_SERVERS)]


@pytest.fixture
def holds(target: MemoryRegistry) -> Callable[[bytes], bool]:
    """Return whether `app` has a blob with the content."""
    return lambda content: content in target.store.blobs("app").values()
