"""Data types for accounts and registry settings. Secrets are never printed."""

import base64
from collections.abc import Iterator
from typing import Protocol

import msgspec
from msgspec.structs import replace

from syncer import untrusted
from syncer.rules.attestations import Attestations

API_PATHS = frozenset({"", "v1", "v2"})
"""The paths after the host in a registry address as docker writes it."""


class Secret:
    """A password or token. It is always printed as `***`; `reveal` returns the text.

    While the object exists, the text is masked in messages from registries and other servers.
    """

    __slots__ = ("__weakref__", "_text")

    def __init__(self, text: str) -> None:
        self._text = text
        untrusted.KNOWN.hold(self)

    def secret_texts(self) -> tuple[str, ...]:
        return (self._text,)

    def reveal(self) -> str:
        return self._text

    def __repr__(self) -> str:
        return "***"

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return format("***", spec)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._text == self._text

    def __hash__(self) -> int:
        return hash(self._text)

    def __reduce__(self) -> tuple[type, tuple[str]]:
        raise TypeError("a secret cannot be pickled")


class Account(msgspec.Struct, frozen=True, weakref=True):
    """An account at a registry.

    `name` is the key of the auth entry, for logs and metrics. An account has either a `username` and `password`, or an
    `identity_token` from `docker login` (distribution, spec/auth/oauth), or a `registry_token` that is sent as the
    bearer token, or a `provider` that returns an account on demand.
    """

    name: str
    username: str = ""
    password: Secret | None = None
    identity_token: Secret | None = None
    registry_token: Secret | None = None
    provider: "AccountProvider | None" = None

    def __post_init__(self) -> None:
        if self.username and self.password is not None:
            untrusted.KNOWN.hold(self)

    def secret_texts(self) -> Iterator[str]:
        """Yield the encoded user name and password of the `Authorization` header (RFC 7617)."""
        assert self.password is not None
        yield base64.b64encode(
            f"{self.username}:{self.password.reveal()}".encode(errors="surrogatepass")
        ).decode()


class AccountProvider(Protocol):
    """Returns an account that changes, such as one with a short-lived password."""

    async def account(self, *, refused: Account | None = None) -> Account | None:
        """Return the account to use; None means anonymous access. `refused` is an account that the registry rejected."""
        ...


class Proxy(msgspec.Struct, frozen=True):
    """The address and credentials of a proxy. `DIRECT` means no proxy."""

    scheme: str
    host: str = ""
    port: int = 0
    username: str | None = None
    password: Secret | None = None

    @property
    def is_direct(self) -> bool:
        """Whether this is no proxy at all."""
        return self.scheme == "none"

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return "none" if self.is_direct else f"{self.scheme}://{host}:{self.port}"

    @property
    def is_socks(self) -> bool:
        return self.scheme.startswith("socks")


DIRECT = Proxy("none")


class HostSettings(msgspec.Struct, frozen=True):
    """Settings for a registry. `bandwidth` is in bytes per second; zero means no limit.

    If `proxy` is None, the environment decides. `read_timeout` is the time in seconds to wait for the response to a
    blob or manifest request; zero means the default. `attestations` applies to rules with this destination that do not
    set it. `events_from` are other host names under which events of this registry arrive.
    """

    insecure: bool = False
    plain_http: bool = False
    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None
    mirrors: tuple[str, ...] = ()
    max_connections: int = 0
    requests_per_second: float = 0.0
    bandwidth: int = 0
    create: bool = False
    proxy: Proxy | None = None
    read_timeout: float = 0.0
    attestations: Attestations | None = None
    events_from: tuple[str, ...] = ()

    def part(self, index: int, count: int) -> "HostSettings":
        """Return the part of these limits for process `index` (from 0) of `count`. Each limit is at least 1 unit."""
        connections, more = divmod(self.max_connections, count)
        return replace(
            self,
            max_connections=max(1, connections + (index < more)) if self.max_connections else 0,
            requests_per_second=self.requests_per_second / count,
            bandwidth=max(1, self.bandwidth // count) if self.bandwidth else 0,
        )
