"""The auth file: which account to use for a repository, and how to speak to its registry.

The longest key that is equal to a repository or a whole-segment prefix of it wins. Secrets stay in `Secret`;
no message holds one.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from syncer.accounts.book import AuthBook, AuthEntry, EntryCredentials, UnusableKey, prefixes
from syncer.accounts.settings import API_PATHS
from syncer.config import nodes
from syncer.config.auth_fields import SETTINGS, read_credentials
from syncer.config.nodes import Entry, Node
from syncer.diagnostics import Findings, Problem, Unexpected, shown
from syncer.oci.reference import DOCKER_HUB, InvalidReference, canonical_host, is_host, is_path

_CREDENTIALS = ("username", "password", "password_file", "token", "token_file")
_KNOWN = (*_CREDENTIALS, *SETTINGS)
_SCHEMES = ("https", "http")


def parse_auth(
    node: Node, *, folder: Path, environment: Mapping[str, str] | None, findings: Findings
) -> AuthBook:
    """Read the tree of an auth file. Problems and warnings of the file as a whole go to `findings`.

    Those of an entry go into the book: they matter where a rule needs the entry. `folder` is where relative paths
    start. Without an `environment` all values are literal.
    """
    warnings = len(findings.warnings)
    entries: dict[str, AuthEntry] = {}
    unusable: list[UnusableKey] = []
    try:
        document = nodes.mapping_of(node, "a mapping of registries to accounts")
    except Unexpected as unexpected:
        findings.problems.append(unexpected.problem)
        return AuthBook()
    for item in document:
        if item.key == "$schema":
            continue
        if item.key == "auths":
            message = "this looks like Docker's config.json; it is used by itself where no auth file has credentials"
            findings.problems.append(item.place.problem(message))
            continue
        try:
            scope = _scope(item)
        except Unexpected as unexpected:
            unusable.append(UnusableKey(_meant(item.key), unexpected.problem))
            continue
        entry = _read_entry(item, scope, folder, environment, findings)
        other = entries.setdefault(scope, entry)
        if other.settings != entry.settings or not other.credentials.same_as(entry.credentials):
            message = f"means the same registry as the key {shown(other.key)} in line {other.place.line}"
            entries[scope] = replace(other, problems=(*other.problems, entry.place.problem(message)))
    for entry in entries.values():
        _warn_of_hidden_credentials(entry, entries, findings)
    return AuthBook(entries.values(), unusable=unusable, warnings=findings.warnings[warnings:])


def _read_entry(
    item: Entry, scope: str, folder: Path, environment: Mapping[str, str] | None, findings: Findings
) -> AuthEntry:
    problems: list[Problem] = []
    try:
        node = _fields(item, problems, findings)
    except Unexpected as unexpected:
        return AuthEntry(item.key, scope, item.place, EntryCredentials(), problems=(unexpected.problem,))
    settings: list[tuple[str, Any]] = []
    for entry in node:
        if entry.key in SETTINGS:
            try:
                settings.append((entry.key, SETTINGS[entry.key](entry.value, folder)))
            except Unexpected as unexpected:
                problems.append(unexpected.problem)
    if node.get("key_file") and not node.get("cert_file"):
        problems.append(node.place.problem("expected cert_file beside key_file, found none"))
    if item.key[:7].lower() == "http://" and not {"insecure", "plain_http"} & {key for key, _ in settings}:
        findings.warnings.append(
            item.place.problem(
                '"http://" is not looked at: say "plain_http": true for a registry without TLS'
            )
        )
    credentials = read_credentials(node, folder, environment)
    return AuthEntry(item.key, scope, item.place, credentials, tuple(sorted(settings)), tuple(problems))


def _fields(item: Entry, problems: list[Problem], findings: Findings) -> nodes.Mapping:
    """What an entry says, by the names that are known, whatever their case. What is null says nothing.

    Raises `Unexpected` where it is no mapping.
    """
    if nodes.is_null(item.value):
        return nodes.Mapping(item.value.place, ())
    node = nodes.mapping_of(item.value, "a mapping with username, password and so on")
    fields: dict[str, Entry] = {}
    for entry in node:
        key = entry.key.lower()
        if key not in _KNOWN:
            findings.warnings.append(entry.place.problem(_unknown(entry.key)))
        elif key in fields:
            message = f"is the same as {shown(fields[key].key)} in line {fields[key].place.line}"
            problems.append(entry.place.problem(message))
        elif not nodes.is_null(entry.value):
            fields[key] = entry
    return nodes.Mapping(node.place, tuple(replace(entry, key=key) for key, entry in fields.items()))


def _scope(item: Entry) -> str:
    """The host, or host and path, that a key stands for. An address means its host, as it does to docker."""
    scheme, mark, rest = item.key.partition("://")
    if mark and scheme.lower() not in _SCHEMES:
        raise item.place.unexpected(f"expected registry[/namespace], found {shown(item.key)}")
    first, _, path = (rest if mark else item.key).rstrip("/").partition("/")
    expected = "expected registry[/namespace]"
    if not is_host(first):
        raise item.place.unexpected(
            f"{expected}, found {shown(item.key)}: a registry has a dot, a port or is localhost (Docker Hub: docker.io)"
        )
    try:
        host = canonical_host(first)
    except InvalidReference as error:
        raise item.place.unexpected(f"{expected}: {error}") from None
    if path in API_PATHS:
        return host
    if not is_path(path):
        raise item.place.unexpected(f"{expected} in lower case, without tag, found {shown(item.key)}")
    return f"{host}/{path}"


def _meant(key: str) -> str:
    """What a key that cannot be read may stand for, in a form that repositories have."""
    name = key.rpartition("://")[2].strip().strip("/").lower()
    folder, slash, last = name.rpartition("/")
    first = name.partition("/")[0]
    if slash:
        name = f"{folder}/{last.partition('@')[0].partition(':')[0]}"
    return name if is_host(first) else f"{DOCKER_HUB}/{name}"


def _unknown(key: str) -> str:
    from difflib import get_close_matches  # only a mistake needs it

    close = get_close_matches(key[:40].lower(), _KNOWN, 1, 0.7)
    hint = f"did you mean {close[0]}?" if close else f"known are {', '.join(_KNOWN)}"
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
