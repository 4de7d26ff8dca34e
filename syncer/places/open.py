"""Opens repositories by name: at registries, and in image layouts.

Repositories at registries share one transport, one address per registry, and one client and limits per account.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from typing import TYPE_CHECKING

import msgspec

from syncer.accounts.settings import Account, HostSettings
from syncer.events import ConcurrencyChanged
from syncer.http.address import Address
from syncer.http.client import RegistryClient
from syncer.http.internal import AllowedHosts
from syncer.http.limits import HostLimits
from syncer.http.standing import Standing
from syncer.http.transport import Transport
from syncer.observers import Observer
from syncer.oci.reference import Repository
from syncer.places.content import Destination, ListsRepositories, Source
from syncer.places.registry.capabilities import Capabilities
from syncer.places.registry.destination import RemoteDestination
from syncer.places.registry.harbor import CreatedProjects, MissingProjects, PlannedProjects, Projects
from syncer.places.registry.remote import RemoteRepository

if TYPE_CHECKING:
    from syncer.places.layout.open import Layouts
    from syncer.places.registry.mirrors import MirrorBackoff
    from syncer.places.registry.push_times import PushTimes

MAX_OPEN = 5_000
"""Repositories that are kept open. A run of whole projects has many more, each for a short time."""


class PlaceDirectory:
    """Opens repositories and caches them.

    `account_for` and `settings_for` return the account and settings for a repository. `connections` is the maximum
    number of concurrent requests per account; the settings of a registry may lower it. `allowed` are the internal hosts
    that public registries may redirect to. In a `dry_run`, destinations are not written to. `layouts` opens image layouts.
    """

    def __init__(
        self,
        *,
        account_for: Callable[[Repository], Account | None],
        settings_for: Callable[[Repository], HostSettings],
        transport: Transport,
        observer: Observer,
        connections: int,
        allowed: AllowedHosts | None = None,
        dry_run: bool = False,
        layouts: "Layouts | None" = None,
    ) -> None:
        self._account_for = account_for
        self._settings_for = settings_for
        self._transport = transport
        self._observer = observer
        self._connections = connections
        self._allowed = allowed or AllowedHosts()
        self._addresses: dict[tuple[str, HostSettings], Address] = {}
        self._limits: dict[str, HostLimits] = {}
        self._limits_by_host: dict[str, list[HostLimits]] = {}
        self._on_capacity: Callable[[str], None] = lambda _name: None
        self._clients: dict[tuple[str, HostSettings, Account | None], RegistryClient] = {}
        self._anonymous_clients: dict[tuple[str, HostSettings], RegistryClient] = {}
        self._named = lru_cache(MAX_OPEN)(self._client)
        self._sources = lru_cache(MAX_OPEN)(self._source)
        self._destinations = lru_cache(MAX_OPEN)(self._destination)
        self._limits_for = lru_cache(MAX_OPEN)(self._limits_used_by)
        self._dry_run = dry_run
        self._given_layouts = layouts
        self._own_layouts: Layouts | None = None
        self._resting: MirrorBackoff | None = None
        self._capabilities: dict[str, Capabilities] = {}
        self._projects: dict[tuple[RegistryClient, bool], Projects] = {}
        self._lists: dict[RegistryClient, ListsRepositories] = {}
        self._standings: dict[tuple[str, Account], Standing] = {}

    def source(self, name: Repository) -> Source:
        return self._sources(name)

    def _source(self, name: Repository) -> Source:
        if name.layout is not None:
            return self._layouts.source(name)
        registry = RemoteRepository(
            self.client(name),
            name,
            capabilities=self._capabilities_of(name.host),
            push_times=partial(self._push_times, name),
        )
        mirrors = [Repository(host, name.path) for host in self._settings_for(name).mirrors]
        if not mirrors:
            return registry
        repositories = [
            RemoteRepository(
                self.client(mirror), mirror, retry=False, capabilities=self._capabilities_of(mirror.host)
            )
            for mirror in mirrors
        ]
        from syncer.places.registry.mirrors import MirrorBackoff, MirroredSource

        self._resting = self._resting or MirrorBackoff()
        return MirroredSource(registry, repositories, self._resting)

    def _push_times(self, name: Repository) -> "PushTimes":
        from syncer.places.registry.push_times import PushTimes, api_host

        return PushTimes(
            name,
            client=self.client(name),
            anonymous=lambda: self._anonymous(Repository(api_host(name.host), name.path)),
            capabilities=self._capabilities_of(name.host),
        )

    @property
    def _layouts(self) -> "Layouts":
        if self._given_layouts is not None:
            return self._given_layouts
        if self._own_layouts is None:
            from syncer.places.layout.open import Layouts

            self._own_layouts = Layouts()
        return self._own_layouts

    def close(self) -> None:
        """Close the layouts that this object has opened."""
        if self._own_layouts is not None:
            self._own_layouts.close()

    def _anonymous(self, name: Repository) -> RegistryClient:
        """Return a client that sends neither credentials nor tokens, for the public API of a vendor."""
        settings = self._settings_for(name)
        key = (name.host, settings)
        if key not in self._anonymous_clients:
            self._anonymous_clients[key] = RegistryClient(
                self._addresses.setdefault(key, Address(name.host, settings, self._allowed)),
                None,
                transport=self._transport,
                limits=self._limits_of(name.host, None, settings),
                observer=self._observer,
            )
        return self._anonymous_clients[key]

    def destination(self, name: Repository) -> Destination:
        return self._destinations(name)

    def _destination(self, name: Repository) -> Destination:
        if name.layout is not None:
            layout = self._layouts.destination(name)
            return self._kept(layout)
        client, projects = self.client(name), self._projects_for(name)
        # A dry run requests no push scope.
        destination = RemoteDestination(
            client,
            name,
            writable=not self._dry_run,
            capabilities=self._capabilities_of(name.host),
            projects=projects,
        )
        return self._kept(destination)

    def _kept(self, destination: Destination) -> Destination:
        """Return the destination, or for a dry run one that is not written to."""
        if not self._dry_run:
            return destination
        from syncer.places.dry_run import DryRunDestination

        return DryRunDestination(destination)

    def listing(self, prefix: Repository) -> ListsRepositories:
        """Return what lists the repositories of a layout, or of a registry for the account that `prefix` has."""
        if prefix.layout is not None:
            return self._layouts.source(Repository(prefix.host, ""))
        from syncer.places.registry.catalog import RegistryRepositories

        client = self.client(prefix)
        return self._lists.setdefault(client, RegistryRepositories(client, self.client))

    def _projects_for(self, name: Repository) -> Projects:
        client, create = self.client(name), self._settings_for(name).create
        if (client, create) not in self._projects:
            if not create:
                made: Projects = MissingProjects(client)
            elif self._dry_run:
                made = PlannedProjects(client, self._observer)
            else:
                made = CreatedProjects(client, self._observer)
            self._projects[client, create] = made
        return self._projects[client, create]

    def _capabilities_of(self, host: str) -> Capabilities:
        return self._capabilities.setdefault(host, Capabilities())

    def wait_for(self, name: Repository) -> tuple[str, float | None]:
        limits = self._limits_for(name)
        if limits is None:
            return name.host, None
        return limits.name, None if limits.ready else limits.paused

    def _limits_used_by(self, name: Repository) -> HostLimits | None:
        """Return the limits of the account that a repository uses. A layout has none."""
        return self.client(name).limits if name.layout is None else None

    def recovery(self) -> float:
        return max((limits.down for limits in self._limits.values()), default=0.0)

    def on_capacity(self, on_retry: Callable[[str], None]) -> None:
        for limits in self._limits.values():
            limits.on_capacity = on_retry
        self._on_capacity = on_retry

    def _limits_of(self, host: str, account: Account | None, settings: HostSettings) -> HostLimits:
        """Return the limits of one account at one registry. Registries apply rate limits per account."""
        name = f"{host} as {account.name if account else 'anonymous'}"
        if name not in self._limits:
            limits = self._limits[name] = HostLimits(self._connections, settings, name=name)
            limits.on_capacity = self._on_capacity
            of_host = self._limits_by_host.setdefault(host, [])
            of_host.append(limits)
            limits.resized = lambda: self._tell_concurrency(host, of_host)
            limits.resized()
        return self._limits[name]

    def _standing_of(self, host: str, account: Account | None) -> Standing | None:
        """Return the login state of a user at a registry. Entries for the same user share it: failed logins count per user."""
        if account is None:
            return None
        return self._standings.setdefault((host, msgspec.structs.replace(account, name="")), Standing())

    def _tell_concurrency(self, host: str, of_host: Sequence[HostLimits]) -> None:
        self._observer.notify(ConcurrencyChanged(host, sum(limits.window for limits in of_host)))

    def client(self, name: Repository) -> RegistryClient:
        """Return the client for a repository's registry, settings and account."""
        return self._named(name)

    def _client(self, name: Repository) -> RegistryClient:
        settings = self._settings_for(name)
        account = self._account_for(name)
        key = (name.host, settings, account)
        if key not in self._clients:
            address = self._addresses.setdefault(
                (name.host, settings), Address(name.host, settings, self._allowed)
            )
            limits = self._limits_of(name.host, account, settings)
            self._clients[key] = RegistryClient(
                address,
                account,
                transport=self._transport,
                limits=limits,
                observer=self._observer,
                standing=self._standing_of(name.host, account),
            )
        return self._clients[key]
