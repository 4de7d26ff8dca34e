"""For a repository: the account of our auth file; where that has none for its registry, Docker's, podman's or skopeo's; or nobody's."""

import base64
import os
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import msgspec
from msgspec.structs import replace

from syncer.accounts.book import AuthBook
from syncer.accounts.helpers import HelperAccount
from syncer.accounts.logins import Logins, read_logins
from syncer.accounts.settings import Account, Secret
from syncer.diagnostics import Problem
from syncer.oci.reference import Repository


class Credentials:
    """Who we are at each registry.

    The other tools' files hold for the registries for which no entry of the `book` has credentials. They are read
    once, here; `warnings` tells what could not be used of them. Without `home`, that of the `environment` is meant.
    """

    def __init__(
        self,
        book: AuthBook,
        *,
        environment: Mapping[str, str] = os.environ,
        home: Path | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._book = book
        self._environment = environment
        self._clock = clock
        self._helpers: dict[tuple[str, str, bool], HelperAccount] = {}
        self._keys: dict[Account, Account] = {}
        warnings: list[Problem] = []
        self._logins: list[Logins] = []
        if home is None and environment.get("HOME"):
            home = Path(environment["HOME"])
        for path, named in _files(environment, home):
            logins = read_logins(path, warnings, missing_ok=not named)
            if logins is not None:
                self._logins.append(logins)
        self.warnings = tuple(warnings)

    def account_for(self, repository: Repository) -> Account | None:
        """The account for a repository; None means anonymous access. Equal accounts may share a client.

        An account that only a helper program knows has a `provider`, which asks when a registry wants to know.
        """
        if self._book.has_credentials(repository.host):
            return self._as_taken(self._book.account_for(repository), repository.host)
        known = tuple(self._known(repository))
        if not known:
            return None
        first = known[0]
        if isinstance(first, Account):
            return first
        return Account(first.name, provider=_InTurn(known))

    def secrets(self) -> frozenset[str]:
        """The text of every secret known so far, to be masked in logs."""
        accounts = [account for logins in self._logins for account in logins.accounts.values()]
        accounts += self._keys.values()
        accounts += [helper.known for helper in self._helpers.values() if helper.known is not None]
        found = {
            secret.reveal()
            for account in accounts
            for secret in (account.password, account.identity_token, account.registry_token)
            if secret is not None
        }
        return self._book.secrets() | frozenset(found - {""})

    def _known(self, repository: Repository) -> Iterator[Account | HelperAccount]:
        """All who may know, in order, up to one who knows for sure."""
        for logins in self._logins:
            if name := logins.helper_for(repository.host):
                yield self._helper(name, repository.host, required=repository.host in logins.helpers)
            account = self._as_taken(logins.account_for(str(repository)), repository.host)
            if account is not None:
                yield account
                return

    def _as_taken(self, account: Account | None, host: str) -> Account | None:
        if (
            account is None
            or account.username != "_oauth2_"
            or account.password is None
            or not _is_google(host)
        ):
            return account
        if account not in self._keys:
            self._keys[account] = _as_google_key(account, account.password)
        return self._keys[account]

    def _helper(self, name: str, host: str, *, required: bool) -> HelperAccount:
        key = (name, host, required)
        if key not in self._helpers:
            self._helpers[key] = HelperAccount(
                name, host, required=required, environment=self._environment, clock=self._clock
            )
        return self._helpers[key]


class _InTurn(msgspec.Struct, frozen=True):
    """An `AccountProvider` that asks one after the other until one knows."""

    known: tuple[Account | HelperAccount, ...]

    async def account(self, *, refused: Account | None = None) -> Account | None:
        for each in self.known:
            found = each if isinstance(each, Account) else await each.account(refused=refused)
            if found is not None:
                return found
        return None


def _files(environment: Mapping[str, str], home: Path | None) -> Iterator[tuple[Path, bool]]:
    """The files in the order in which they are asked, and whether the user named this very file."""
    if folder := environment.get("DOCKER_CONFIG"):
        yield Path(folder, "config.json"), False
    elif home is not None:
        yield home / ".docker/config.json", False
    if named := environment.get("REGISTRY_AUTH_FILE"):
        yield Path(named), True
        return
    if folder := environment.get("XDG_RUNTIME_DIR"):
        yield Path(folder, "containers/auth.json"), False
    if folder := environment.get("XDG_CONFIG_HOME"):
        yield Path(folder, "containers/auth.json"), False
    elif home is not None:
        yield home / ".config/containers/auth.json", False


def _as_google_key(account: Account, password: Secret) -> Account:
    """For image-syncer's user name `_oauth2_` at Google: the same key in the form that Google's registries take.

    The password is base64 of a service account's JSON key, which image-syncer trades for a token at Google's
    sign-in. The registries take the key itself, from the user `_json_key`.
    """
    try:
        key = base64.b64decode(password.reveal()).decode()
    except ValueError:
        return account
    return (
        replace(account, username="_json_key", password=Secret(key)) if key.lstrip()[:1] == "{" else account
    )


def _is_google(host: str) -> bool:
    return host == "gcr.io" or host.endswith((".gcr.io", ".pkg.dev"))
