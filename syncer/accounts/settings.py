"""What the auth file says of an account and of a registry, as data. Secrets never print."""

import base64
from collections.abc import Iterator
from typing import Protocol

import msgspec
from msgspec.structs import replace

from syncer import untrusted
from syncer.rules.attestations import Attestations

API_PATHS = frozenset({"", "v1", "v2"})
"""What stands behind the host in a registry's address, as docker writes it."""


class Secret:
    """A password or token: prints as `***` whatever is done to it; `reveal` gives the text.

    While it lives, texts of strangers that repeat it are masked.
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
        raise TypeError("a secret is not to be pickled")


class Account(msgspec.Struct, frozen=True, weakref=True):
    """Who we are at a registry.

    `name` is the key of the auth entry, for logs and metrics. Either `username` and `password`, or an
    `identity_token` as `docker login` stores it (token specification, "oauth"), or a `registry_token` that is
    shown to the registry as it is, or a `provider` that knows these when they are needed.
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
        """What stands for user name and password in the `Authorization` header (RFC 7617)."""
        assert self.password is not None
        yield base64.b64encode(
            f"{self.username}:{self.password.reveal()}".encode(errors="surrogatepass")
        ).decode()


class AccountProvider(Protocol):
    """Knows an account that changes, such as one whose password lasts for hours."""

    async def account(self, *, refused: Account | None = None) -> Account | None:
        """The account to use now; None means anonymous access. `refused` is one that the registry does not take."""
        ...


class Proxy(msgspec.Struct, frozen=True):
    """Where a proxy is, and who we are there. `DIRECT` is none at all."""

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
    """How to speak to a registry. `bandwidth` is in bytes per second; zero means no limit.

    `proxy` is None where the environment decides. `read_timeout` is how many seconds the registry may be silent before
    it answers for a blob or a manifest; zero means the default.
    `attestations` is for rules with this destination that do not say it themselves.
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

    def part(self, index: int, count: int) -> "HostSettings":
        """What one of `count` processes may use of these limits; `index`, from 0, says which. Never nothing at all."""
        connections, more = divmod(self.max_connections, count)
        return replace(
            self,
            max_connections=max(1, connections + (index < more)) if self.max_connections else 0,
            requests_per_second=self.requests_per_second / count,
            bandwidth=max(1, self.bandwidth // count) if self.bandwidth else 0,
        )
