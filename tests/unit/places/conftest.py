"""An in-memory registry, and a directory that opens its repositories."""

from collections.abc import AsyncIterator, Callable

import pytest

from syncer.accounts.settings import Account, HostSettings, Secret
from syncer.demo import MemoryRegistry
from syncer.http.wire import ConnectionPool
from syncer.observers import Observer
from syncer.oci.reference import Repository
from syncer.places.open import PlaceDirectory
from tests.support.backoff import no_backoff  # noqa: F401 - a fixture for all tests here

Open = Callable[..., PlaceDirectory]


@pytest.fixture
async def memory() -> AsyncIterator[MemoryRegistry]:
    async with MemoryRegistry() as registry:
        yield registry


@pytest.fixture
async def directory() -> AsyncIterator[Open]:
    """`directory(dry_run=…, accounts={"path": "user"})` creates a directory that uses plain HTTP."""
    async with ConnectionPool() as transport:

        def open_(*, dry_run: bool = False, accounts: dict[str, str] | None = None) -> PlaceDirectory:
            def account_for(name: Repository) -> Account | None:
                user = (accounts or {}).get(name.path)
                return Account(user, user, Secret("password")) if user else None

            return PlaceDirectory(
                account_for=account_for,
                settings_for=lambda _name: HostSettings(plain_http=True),
                transport=transport,
                observer=Observer(),
                connections=4,
                dry_run=dry_run,
            )

        yield open_
