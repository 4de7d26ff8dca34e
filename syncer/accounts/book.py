"""`AuthBook`: which account to use for a repository, and how to speak to its registry.

The longest key that is equal to a repository or a whole-segment prefix of it wins.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Self

import msgspec

from syncer.accounts.settings import Account, HostSettings, Secret
from syncer.diagnostics import Place, Problem
from syncer.oci.reference import Repository

_DEFAULTS = HostSettings()


class EntryCredentials(msgspec.Struct, frozen=True):
    """What an entry says of who we are. `stated` is whether it says anything, be it an empty name.

    `unset` are the environment variables that it needs and that are not set, `problems` what else is wrong with it.
    """

    username: str = ""
    password: Secret | None = None
    token: Secret | None = None
    stated: bool = False
    unset: tuple[Problem, ...] = ()
    problems: tuple[Problem, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.username or self.password or self.token or self.unset or self.problems)

    def same_as(self, other: "EntryCredentials") -> bool:
        """Whether both say the same, wherever they stand."""
        return (self.username, self.password, self.token) == (other.username, other.password, other.token)

    def account(self, name: str) -> Account | None:
        if self.unset or self.problems or not self:
            return None
        password = None if self.token else self.password or Secret("")
        return Account(name, self.username, password, self.token)

    def secrets(self) -> Iterator[str]:
        for secret in (self.password, self.token):
            if secret is not None and secret.reveal():
                yield secret.reveal()


class AuthEntry(msgspec.Struct, frozen=True):
    """One key of the auth file. `scope` is its one form: `host` or `host/path`, Docker Hub as `docker.io`.

    `problems` are what is wrong with it, but for its credentials. They matter where a rule needs the entry.
    """

    key: str
    scope: str
    place: Place
    credentials: EntryCredentials
    settings: tuple[tuple[str, Any], ...] = ()
    problems: tuple[Problem, ...] = ()

    @property
    def account(self) -> Account | None:
        """None where the entry gives no credentials, or they come from a variable that is not set."""
        return self.credentials.account(self.key)


class UnusableKey(msgspec.Struct, frozen=True):
    """A key of the auth file that can match nothing. `meant` is the repository, or the part of one, it may stand for."""

    meant: str
    problem: Problem


class AuthBook:
    """Who we are, and how to speak, at each registry. `adjust` changes what the entries say of a registry."""

    def __init__(
        self,
        entries: Iterable[AuthEntry] = (),
        *,
        unusable: Iterable[UnusableKey] = (),
        warnings: Iterable[Problem] = (),
        adjust: Callable[[HostSettings], HostSettings] = lambda settings: settings,
    ) -> None:
        self._entries = {entry.scope: entry for entry in entries}
        self._unusable = tuple(unusable)
        self._accounts = {scope: entry.account for scope, entry in self._entries.items()}
        self._settings = {scope: adjust(settings) for scope, settings in self._merged_settings().items()}
        self.warnings = tuple(warnings)
        self._hosts_with_credentials = frozenset(
            scope.partition("/")[0] for scope, entry in self._entries.items() if entry.credentials
        )

    def account_for(self, repository: Repository) -> Account | None:
        """The account of the longest matching key; None means anonymous access.

        Also None where `problems_for` names an unset variable: ask that first, as `load` does.
        """
        entry = self._entry_for(str(repository))
        return None if entry is None else self._accounts[entry.scope]

    def settings_for(self, repository: Repository) -> HostSettings:
        """Each setting from the longest matching key that sets it. Equal settings are one object."""
        entry = self._entry_for(str(repository))
        return _DEFAULTS if entry is None else self._settings[entry.scope]

    def part(self, index: int, count: int) -> Self:
        """The same accounts, with what one of `count` processes may use of the registries' limits."""
        parts = {settings: settings.part(index, count) for settings in self._settings.values()}
        return type(self)(
            self._entries.values(),
            unusable=self._unusable,
            warnings=self.warnings,
            adjust=parts.__getitem__,
        )

    def scarce_connections(self, count: int) -> list[Problem]:
        """The entries that allow fewer connections than there are processes: each needs one."""
        return [
            entry.place.problem(
                f"max_connections is {most}, but each of the {count} shares needs one: {count} in all"
            )
            for entry in self._entries.values()
            if 0 < (most := dict(entry.settings).get("max_connections", 0)) < count
        ]

    def problems_for(self, repositories: Iterable[Repository]) -> list[Problem]:
        """What is wrong with the entries that these repositories need: their credentials, and their settings."""
        names = [str(repository) for repository in repositories]
        credentials = {entry.scope: entry for name in names if (entry := self._entry_for(name))}
        needed = self._needed(names)
        return [
            *(key.problem for key in self._unusable if key.meant in needed),
            *(problem for entry in credentials.values() for problem in entry.credentials.unset),
            *(problem for entry in credentials.values() for problem in entry.credentials.problems),
            *(
                problem
                for entry in self._entries.values()
                if entry.scope in needed
                for problem in entry.problems
            ),
        ]

    def entry_problems(self) -> list[Problem]:
        """What is wrong with entries, whether or not anything needs them."""
        problems = [key.problem for key in self._unusable]
        for entry in self._entries.values():
            problems += (*entry.credentials.problems, *entry.problems)
        return problems

    @staticmethod
    def _needed(names: Iterable[str]) -> frozenset[str]:
        return frozenset(prefix for name in names for prefix in prefixes(name))

    def has_credentials(self, host: str) -> bool:
        """Whether an entry gives credentials for a registry or a part of it, be it by a variable that is not set."""
        return host in self._hosts_with_credentials

    def hosts(self) -> tuple[str, ...]:
        """The registries that have an entry, each once."""
        return tuple(dict.fromkeys(scope.partition("/")[0] for scope in self._entries))

    @property
    def empty(self) -> bool:
        """Whether no entry gives credentials, be it by a variable that is not set."""
        return not self._hosts_with_credentials

    def secrets(self) -> frozenset[str]:
        """The text of every secret, to be masked in logs."""
        passwords = (
            settings.proxy.password.reveal()
            for settings in self._settings.values()
            if settings.proxy is not None and settings.proxy.password is not None
        )
        credentials = (secret for entry in self._entries.values() for secret in entry.credentials.secrets())
        return frozenset(secret for secret in (*credentials, *passwords) if secret)

    def _entry_for(self, name: str) -> AuthEntry | None:
        return next((self._entries[scope] for scope in prefixes(name) if scope in self._entries), None)

    def _merged_settings(self) -> dict[str, HostSettings]:
        one_of_each: dict[HostSettings, HostSettings] = {_DEFAULTS: _DEFAULTS}
        merged = {}
        for scope in self._entries:
            stated: dict[str, Any] = {}
            for shorter in reversed(list(prefixes(scope))):
                if shorter in self._entries:
                    stated.update(self._entries[shorter].settings)
            settings = HostSettings(**stated)
            merged[scope] = one_of_each.setdefault(settings, settings)
        return merged


def prefixes(name: str) -> Iterable[str]:
    """`host/a/b`, `host/a`, `host`."""
    while name:
        yield name
        name = name.rpartition("/")[0]
