"""Reads the files of `docker login`, `podman login` and `skopeo login`: accounts and names of credential helpers.

Invalid parts are skipped with a warning that names the file and the reason. Warnings never contain secrets.
"""

import base64
import binascii
from collections.abc import Mapping
from pathlib import Path

import msgspec

from syncer.accounts.settings import API_PATHS, Account, Secret
from syncer.diagnostics import Problem, shown
from syncer.files import read_bytes, why
from syncer.oci.reference import DOCKER_HUB, InvalidReference, canonical_host, is_path

MAX_FILE_SIZE = 4 * 1024 * 1024


class Logins(msgspec.Struct, frozen=True):
    """The content of one file. Scopes are `host` or `host/path`, with `docker.io` for Docker Hub.

    `helpers` maps a host to the name of its credential helper, or to an empty name for none. `store` is the helper for
    all other hosts.
    """

    accounts: Mapping[str, Account]
    helpers: Mapping[str, str]
    store: str = ""

    def account_for(self, name: str) -> Account | None:
        """Return the account of the longest scope that equals `name` (`host/path`) or is a prefix of it."""
        while name:
            if name in self.accounts:
                return self.accounts[name]
            name = name.rpartition("/")[0]
        return None

    def helper_for(self, host: str) -> str:
        return self.helpers.get(host, self.store)


class _Entry(msgspec.Struct):
    auth: str | None = None
    username: str | None = None
    password: str | None = None
    identitytoken: str | None = None
    registrytoken: str | None = None


class _File(msgspec.Struct, rename="camel"):
    auths: dict[str, object] | None = None
    cred_helpers: dict[str, object] | None = None
    creds_store: object = None


def read_logins(path: Path, warnings: list[Problem], *, missing_ok: bool = True) -> Logins | None:
    """Read one file. Return None if it is missing or unusable. Problems are appended to `warnings`."""
    file = str(path)
    try:
        raw = read_bytes(path, MAX_FILE_SIZE)
        document = msgspec.json.decode(raw.removeprefix(b"\xef\xbb\xbf"), type=_File)
    except (FileNotFoundError, NotADirectoryError) as error:
        if not missing_ok:
            warnings.append(Problem(file, "", f"cannot be read: {why(error)}"))
        return None
    except OSError as error:
        warnings.append(Problem(file, "", f"cannot be read, so its credentials are not used: {why(error)}"))
        return None
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, ValueError) as error:
        reason = (
            str(error) if isinstance(error, msgspec.MsgspecError) else "not UTF-8 text, or nested too deeply"
        )
        warnings.append(Problem(file, "", f"cannot be read, so its credentials are not used: {reason}"))
        return None
    return Logins(
        _accounts(document.auths or {}, file, warnings),
        _helpers(document.cred_helpers or {}, file, warnings),
        _helper_name(document.creds_store, "credsStore", file, warnings),
    )


def scope_of(key: str) -> str | None:
    """Return the scope for a key of `auths` or `credHelpers`, or None if the key is not for a registry.

    `https://index.docker.io/v1/` is Docker Hub. In a key with a scheme, the path is the path of the API. In a key
    without a scheme, it is a namespace, as in podman and skopeo. Raises `InvalidReference`.
    """
    scheme, mark, rest = key.partition("://")
    first, _, path = (rest if mark else scheme).rstrip("/").partition("/")
    host = canonical_host(first)
    if path in API_PATHS:
        return host
    if mark:
        # docker login stores its own tokens under https://index.docker.io/v1/access-token.
        return None if host == DOCKER_HUB else host
    return f"{host}/{path}" if is_path(path) else None


def _accounts(auths: Mapping[str, object], file: str, warnings: list[Problem]) -> dict[str, Account]:
    accounts: dict[str, Account] = {}
    for key, value in auths.items():
        place = f"auths.{shown(key)}"
        try:
            scope = scope_of(key)
            account = None if scope is None else _account(f"{key[:200]} in {file}", value)
        except InvalidReference:
            warnings.append(Problem(file, "", f"{place}: not a registry, ignored"))
        except ValueError as error:
            warnings.append(Problem(file, "", f"{place}: ignored: {error}"))
        else:
            # An entry without credentials means that a credential helper has them.
            if scope is not None and account is not None:
                accounts.setdefault(scope, account)
    return accounts


def _account(name: str, value: object) -> Account | None:
    """Return the account of an entry. Raises `ValueError` with a message that contains no secret."""
    try:
        entry = msgspec.convert(value, _Entry)
    except msgspec.ValidationError:
        raise ValueError("expected an object with string values") from None
    username, password = entry.username or "", entry.password or ""
    if entry.auth:
        username, password = _decoded(entry.auth)
    if entry.identitytoken:
        return Account(name, username, identity_token=Secret(entry.identitytoken))
    if entry.registrytoken:
        return Account(name, username, registry_token=Secret(entry.registrytoken))
    return Account(name, username, Secret(password)) if username or password else None


def _decoded(auth: str) -> tuple[str, str]:
    text = "".join(auth.split())
    try:
        pair = base64.b64decode(text + "=" * (-len(text) % 4), validate=True).decode()
    except (binascii.Error, UnicodeError, ValueError):
        raise ValueError('"auth" is not base64 of UTF-8 text') from None
    username, colon, password = pair.partition(":")
    if not colon:
        raise ValueError('"auth" is not base64 of "user name:password"')
    return username, password.rstrip("\0")


def _helpers(given: Mapping[str, object], file: str, warnings: list[Problem]) -> dict[str, str]:
    helpers: dict[str, str] = {}
    for key, value in given.items():
        place = f"credHelpers.{shown(key)}"
        try:
            scope = scope_of(key)
        except InvalidReference:
            scope = None
        if scope is None or "/" in scope:
            warnings.append(Problem(file, "", f"{place}: not a registry's host, ignored"))
        else:
            helpers.setdefault(scope, _helper_name(value, place, file, warnings))
    return helpers


def _helper_name(value: object, place: str, file: str, warnings: list[Problem]) -> str:
    if value is None or value == "":
        return ""
    from syncer.accounts.helpers import is_helper_name

    if isinstance(value, str) and is_helper_name(value):
        return value
    warnings.append(
        Problem(
            file, "", f"{place}: expected the part of the helper's name after docker-credential-, ignored"
        )
    )
    return ""
