"""The auth file: which account to use for a repository, and how to speak to its registry.

The longest key that is equal to a repository or a whole-segment prefix of it wins. Secrets stay in `Secret`;
no message holds one.
"""

from collections.abc import Iterable, Mapping
from copy import copy
from pathlib import Path
from typing import Any, Self

import msgspec

from syncer.config import nodes
from syncer.config.auth_fields import SETTINGS, Credentials, read_credentials
from syncer.config.nodes import Entry, Findings, Node, Place, Problem, Unexpected, shown
from syncer.config.settings import Account, HostSettings
from syncer.oci.reference import InvalidReference, Repository, canonical_host, is_host, is_path

_CREDENTIALS = ("username", "password", "password_file", "token", "token_file")
_DEFAULTS = HostSettings()
_SCHEMES = {"http": ' and say "plain_http": true', "https": ""}


class AuthEntry(msgspec.Struct, frozen=True):
    """One key of the auth file. `scope` is its one form: `host` or `host/path`, Docker Hub as `docker.io`."""

    key: str
    scope: str
    place: Place
    credentials: Credentials
    settings: tuple[tuple[str, Any], ...] = ()

    @property
    def account(self) -> Account | None:
        """None where the entry gives no credentials, or they come from a variable that is not set."""
        return self.credentials.account(self.key)


class AuthBook:
    """Who we are, and how to speak, at each registry."""

    def __init__(self, entries: Iterable[AuthEntry] = (), *, warnings: Iterable[Problem] = ()) -> None:
        self._entries = {entry.scope: entry for entry in entries}
        self._accounts = {scope: entry.account for scope, entry in self._entries.items()}
        self._settings = self._merged_settings()
        self.warnings = tuple(warnings)

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
        book = copy(self)
        book._settings = {scope: parts[settings] for scope, settings in self._settings.items()}  # noqa: SLF001
        return book

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
        """The environment variables that the entries for these repositories need and that are not set."""
        needed = {
            entry.scope: entry for repository in repositories if (entry := self._entry_for(str(repository)))
        }
        return [problem for entry in needed.values() for problem in entry.credentials.unset]

    def hosts(self) -> tuple[str, ...]:
        """The registries that have an entry, each once."""
        return tuple(dict.fromkeys(scope.partition("/")[0] for scope in self._entries))

    @property
    def empty(self) -> bool:
        """Whether no entry gives credentials, be it by a variable that is not set."""
        return not any(entry.credentials for entry in self._entries.values())

    def secrets(self) -> frozenset[str]:
        """The text of every secret, to be masked in logs."""
        return frozenset(secret for entry in self._entries.values() for secret in entry.credentials.secrets())

    def _entry_for(self, name: str) -> AuthEntry | None:
        return next((self._entries[scope] for scope in _prefixes(name) if scope in self._entries), None)

    def _merged_settings(self) -> dict[str, HostSettings]:
        one_of_each: dict[HostSettings, HostSettings] = {_DEFAULTS: _DEFAULTS}
        merged = {}
        for scope in self._entries:
            stated: dict[str, Any] = {}
            for shorter in reversed(list(_prefixes(scope))):
                if shorter in self._entries:
                    stated.update(self._entries[shorter].settings)
            settings = HostSettings(**stated)
            merged[scope] = one_of_each.setdefault(settings, settings)
        return merged


def _prefixes(name: str) -> Iterable[str]:
    """`host/a/b`, `host/a`, `host`."""
    while name:
        yield name
        name = name.rpartition("/")[0]


def parse_auth(
    node: Node, *, folder: Path, environment: Mapping[str, str] | None, findings: Findings
) -> AuthBook:
    """Read the tree of an auth file. Problems and warnings go to `findings`.

    `folder` is where relative paths start. Without an `environment` all values are literal.
    """
    warnings = len(findings.warnings)
    entries: dict[str, AuthEntry] = {}
    try:
        document = nodes.mapping_of(node, "a mapping of registries to accounts")
    except Unexpected as unexpected:
        findings.problems.append(unexpected.problem)
        return AuthBook()
    for item in document:
        if item.key == "$schema":
            continue
        entry = _read_entry(item, folder, environment, findings)
        if entry is None:
            continue
        other = entries.setdefault(entry.scope, entry)
        if other.settings != entry.settings or not other.credentials.same_as(entry.credentials):
            message = f"means the same registry as the key {shown(other.key)} in line {other.place.line}"
            findings.problems.append(entry.place.problem(message))
    for entry in entries.values():
        _warn_of_hidden_credentials(entry, entries, findings)
    return AuthBook(entries.values(), warnings=findings.warnings[warnings:])


def _read_entry(
    item: Entry, folder: Path, environment: Mapping[str, str] | None, findings: Findings
) -> AuthEntry | None:
    scope = ""
    try:
        scope = _scope(item)
        node = nodes.mapping_of(item.value, "a mapping with username, password and so on")
    except Unexpected as unexpected:
        findings.problems.append(unexpected.problem)
        return None
    settings: list[tuple[str, Any]] = []
    for entry in node:
        if entry.key in SETTINGS:
            try:
                settings.append((entry.key, SETTINGS[entry.key](entry.value, folder)))
            except Unexpected as unexpected:
                findings.problems.append(unexpected.problem)
        elif entry.key not in _CREDENTIALS:
            findings.warnings.append(entry.place.problem(_unknown(entry.key)))
    if node.get("key_file") and not node.get("cert_file"):
        findings.problems.append(node.place.problem("expected cert_file beside key_file, found none"))
    credentials = read_credentials(node, folder, environment, findings)
    return AuthEntry(item.key, scope, item.place, credentials, tuple(sorted(settings)))


def _scope(item: Entry) -> str:
    scheme, mark, _ = item.key.partition("://")
    if mark:
        hint = _SCHEMES.get(scheme.lower(), "")
        raise item.place.unexpected(
            f"expected registry[/namespace], found an address: drop {shown(scheme + mark)}{hint}"
        )
    if item.key == "auths":
        raise item.place.unexpected(
            "this looks like Docker's config.json; it is used by itself where no auth file has credentials"
        )
    first, _, path = item.key.rstrip("/").partition("/")
    expected = "expected registry[/namespace]"
    if not is_host(first):
        raise item.place.unexpected(
            f"{expected}, found {shown(item.key)}: a registry has a dot, a port or is localhost (Docker Hub: docker.io)"
        )
    try:
        host = canonical_host(first)
    except InvalidReference as error:
        raise item.place.unexpected(f"{expected}: {error}") from None
    if path and not is_path(path):
        raise item.place.unexpected(f"{expected} in lower case, without tag, found {shown(item.key)}")
    return f"{host}/{path}" if path else host


def _unknown(key: str) -> str:
    from difflib import get_close_matches  # noqa: PLC0415 - only a mistake needs it

    known = (*_CREDENTIALS, *SETTINGS)
    close = get_close_matches(key[:40].lower(), known, 1, 0.7)
    hint = f"did you mean {close[0]}?" if close else f"known are {', '.join(known)}"
    return f"unknown key, ignored; {hint}"


def _warn_of_hidden_credentials(
    entry: AuthEntry, entries: Mapping[str, AuthEntry], findings: Findings
) -> None:
    """An entry of settings alone makes access anonymous below it, which its writer may not have meant."""
    if entry.credentials.stated:
        return
    for shorter in _prefixes(entry.scope.rpartition("/")[0]):
        if shorter in entries and entries[shorter].credentials:
            message = f"has no credentials, so access is anonymous here: those of {shown(entries[shorter].key)} are not used"
            findings.warnings.append(entry.place.problem(message))
            return
