"""Finds the account for a repository: in the auth file, else in the logins of docker, podman and skopeo."""

import base64
import os
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from msgspec.structs import replace

from syncer.accounts.book import AuthBook
from syncer.accounts.logins import Logins, read_logins
from syncer.accounts.settings import Account, Secret
from syncer.diagnostics import Problem
from syncer.oci.reference import Repository

if TYPE_CHECKING:
    from syncer.accounts.helpers import HelperAccount


class Credentials:
    """The accounts from the auth file and from the login files of other tools.

    The login files are used for registries without credentials in `book`. They are read once, in the constructor;
    `warnings` are the problems with them. `home` defaults to `HOME` of `environment`.
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
        """Return the account for a repository; None means anonymous access. Equal accounts may share a client.

        An account from a credential helper has a `provider`, which runs the helper when credentials are needed.
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
        """Return the text of every secret known so far, for masking in logs."""
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

    def _known(self, repository: Repository) -> Iterator["Account | HelperAccount"]:
        """Yield the helpers and accounts to try, in order. The first stored account is the last one."""
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

    def _helper(self, name: str, host: str, *, required: bool) -> "HelperAccount":
        key = (name, host, required)
        if key not in self._helpers:
            from syncer.accounts.helpers import HelperAccount

            self._helpers[key] = HelperAccount(
                name, host, required=required, environment=self._environment, clock=self._clock
            )
        return self._helpers[key]


class _InTurn(msgspec.Struct, frozen=True):
    """An `AccountProvider` that returns the first account that one of its sources has."""

    known: "tuple[Account | HelperAccount, ...]"

    async def account(self, *, refused: Account | None = None) -> Account | None:
        for each in self.known:
            found = each if isinstance(each, Account) else await each.account(refused=refused)
            if found is not None:
                return found
        return None


def _files(environment: Mapping[str, str], home: Path | None) -> Iterator[tuple[Path, bool]]:
    """Yield the login files in order of precedence, and whether the user named the file in `REGISTRY_AUTH_FILE`."""
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
    """Convert image-syncer's user name `_oauth2_` for Google to the form that Google's registries accept.

    The password is the base64 of a service account's JSON key, which image-syncer exchanges for an OAuth token. The
    registries also accept the key itself as the password of the user `_json_key`.
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
