"""The auth file: which account to use for a repository, and how to speak to its registry.

The longest key that is equal to a repository or a whole-segment prefix of it wins. Secrets stay in `Secret`;
no message holds one.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from syncer.accounts.book import AuthBook, AuthEntry, prefixes
from syncer.config import nodes
from syncer.config.auth_fields import SETTINGS, read_credentials
from syncer.config.nodes import Entry, Node
from syncer.diagnostics import Findings, Unexpected, shown
from syncer.oci.reference import InvalidReference, canonical_host, is_host, is_path

_CREDENTIALS = ("username", "password", "password_file", "token", "token_file")
_SCHEMES = {"http": ' and say "plain_http": true', "https": ""}


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
    for shorter in prefixes(entry.scope.rpartition("/")[0]):
        if shorter in entries and entries[shorter].credentials:
            message = f"has no credentials, so access is anonymous here: those of {shown(entries[shorter].key)} are not used"
            findings.warnings.append(entry.place.problem(message))
            return
