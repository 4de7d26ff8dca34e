"""What the auth file says of an account and of a registry, as data. Secrets never print."""

from typing import Protocol

import msgspec
from msgspec.structs import replace

from syncer.rules.attestations import Attestations


class Secret:
    """A password or token: prints as `***` whatever is done to it; `reveal` gives the text."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

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


class Account(msgspec.Struct, frozen=True):
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


class AccountProvider(Protocol):
    """Knows an account that changes, such as one whose password lasts for hours."""

    async def account(self, *, refused: Account | None = None) -> Account | None:
        """The account to use now; None means anonymous access. `refused` is one that the registry does not take."""
        ...


class HostSettings(msgspec.Struct, frozen=True):
    """How to speak to a registry. `bandwidth` is in bytes per second; zero means no limit.

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
