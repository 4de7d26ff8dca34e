"""Lists of repositories without a run: `async with Lists(host).at(Repository(host, "team")) as listing`."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from syncer.accounts.settings import Account, HostSettings, Secret
from syncer.http.wire import ConnectionPool
from syncer.observers import Observer
from syncer.oci.reference import Repository
from syncer.places.content import RepositoryListing
from syncer.places.open import PlaceDirectory


class Lists:
    """Speaks to a registry at `host` without TLS."""

    def __init__(self, host: str) -> None:
        self._host = host

    @asynccontextmanager
    async def at(
        self, prefix: Repository, *, username: str = "", password: str = ""
    ) -> AsyncIterator[RepositoryListing]:
        """The list of repositories below `prefix`, for an account there."""
        account = Account(prefix.host, username, Secret(password)) if username else None
        async with ConnectionPool(8.0) as transport:
            directory = PlaceDirectory(
                account_for=lambda name: account if name.host == prefix.host else None,
                settings_for=lambda name: HostSettings(plain_http=name.host == self._host),
                transport=transport,
                observer=Observer(),
                connections=4,
            )
            yield await directory.listing(prefix).listing(prefix.path)
