"""The keys of one entry of the auth file: each read, checked, and made into what the rest of the program uses."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from syncer.accounts.book import EntryCredentials
from syncer.accounts.proxy import InvalidProxy, parse_proxy
from syncer.accounts.settings import API_PATHS, Proxy, Secret
from syncer.config import nodes
from syncer.config.documents import variable_named
from syncer.config.nodes import Node
from syncer.diagnostics import Problem, Unexpected, shown
from syncer.durations import EXPECTED as A_DURATION
from syncer.durations import InvalidDuration, parse_duration
from syncer.files import open_stored, read_stored_bytes, why
from syncer.oci.reference import InvalidReference, canonical_host
from syncer.sizes import InvalidSize, parse_size

_MAX_SECRET = 64 * 1024


def read_credentials(
    node: nodes.Mapping, folder: Path, environment: Mapping[str, str] | None
) -> EntryCredentials:
    """Username with password, or an identity token, with what is wrong with them."""
    problems: list[Problem] = []
    unset: list[Problem] = []

    def literal(key: str) -> str | None:
        value = node.get(key)
        if value is None:
            return None
        text = nodes.text_of(value)
        name = None if environment is None else variable_named(text)
        if environment is None or name is None:
            return text
        if name not in environment:
            unset.append(value.place.problem(f"expected the environment variable {name} to be set"))
        return environment.get(name, "")

    def secret(key: str) -> Secret | None:
        path = node.get(f"{key}_file")
        if path is not None and node.get(key) is not None:
            raise path.place.unexpected(f"expected either {key} or {key}_file, found both")
        text = literal(key) if path is None else _secret_file(path, folder)
        return Secret(text) if text else None

    stated = any(
        node.get(key) is not None for key in ("username", "password", "password_file", "token", "token_file")
    )
    values: dict[str, Any] = {}
    readers: dict[str, Callable[[str], Any]] = {"username": literal, "password": secret, "token": secret}
    for key, read in readers.items():
        try:
            values[key] = read(key)
        except Unexpected as unexpected:
            problems.append(unexpected.problem)
    if len(values) == len(readers) and not unset:
        _check_together(node, values, problems)
    return EntryCredentials(
        username=values.get("username") or "",
        password=values.get("password"),
        token=values.get("token"),
        stated=stated,
        unset=tuple(unset),
        problems=tuple(problems),
    )


def _check_together(node: nodes.Mapping, values: Mapping[str, Any], problems: list[Problem]) -> None:
    """An empty password is one (some registries want it); a missing one is a slip."""
    password_stated = node.get("password") is not None or node.get("password_file") is not None
    if values["password"] and values["token"]:
        problems.append(node.place.problem("expected either a password or a token, found both"))
    elif values["password"] and not values["username"]:
        problems.append(node.place.problem("expected a username beside the password, found none"))
    elif values["username"] and not values["token"] and not password_stated:
        problems.append(node.place.problem("expected a password or a token beside the username, found none"))


def _secret_file(node: Node, folder: Path) -> str:
    path = folder / nodes.text_of(node, "the path of a file")
    try:
        text = read_stored_bytes(path, _MAX_SECRET).decode()
    except UnicodeDecodeError:
        raise node.place.unexpected(f"expected UTF-8 text in {shown(str(path))}") from None
    except (OSError, ValueError) as error:
        raise node.place.unexpected(f"{shown(str(path))} cannot be read: {why(error)}") from None
    return text.removesuffix("\n").removesuffix("\r")


def _flag(node: Node, _: Path) -> bool:
    return nodes.flag_of(node)


def _file(node: Node, folder: Path) -> str:
    path = folder / nodes.text_of(node, "the path of a file")
    try:
        open_stored(path).close()
    except (OSError, ValueError) as error:
        raise node.place.unexpected(f"{shown(str(path))} cannot be read: {why(error)}") from None
    return str(path)


def _hosts(node: Node, _: Path) -> tuple[str, ...]:
    if not isinstance(node, nodes.Sequence):
        raise node.place.unexpected(f"expected a list of registry hosts, found {nodes.found(node)}")
    return tuple(dict.fromkeys(map(_host, node.items)))


def _host(node: Node) -> str:
    text = nodes.text_of(node, "a registry host")
    if text[:8].lower() == "https://":
        host, _, path = text[8:].rstrip("/").partition("/")
        text = host if path in API_PATHS else text[8:]
    if "://" in text:
        raise node.place.unexpected(
            f"expected a registry host, found an address: drop {shown(text.partition('://')[0] + '://')}"
        )
    try:
        return canonical_host(text)
    except InvalidReference as error:
        raise node.place.unexpected(f"expected a registry host: {error}") from None


def _count(node: Node, _: Path) -> int:
    expected = "a whole number, 0 for no limit"
    number = nodes.number_of(node, expected)
    if number < 0 or number != int(number):
        raise node.place.unexpected(f"expected {expected}, found another number")
    return int(number)


def _rate(node: Node, _: Path) -> float:
    number = nodes.number_of(node, "a number of requests per second, 0 for no limit")
    if number < 0:
        raise node.place.unexpected(
            "expected a number of requests per second, 0 for no limit, found a negative one"
        )
    return number


def _bandwidth(node: Node, _: Path) -> int:
    expected = 'bytes per second, as "20MiB", "500KB" or 1000000'
    text = (
        node.text
        if isinstance(node, nodes.Scalar) and node.kind == "number"
        else nodes.text_of(node, expected)
    )
    try:
        return parse_size(text)
    except InvalidSize:
        raise node.place.unexpected(f"expected {expected}, found {shown(text)}") from None


def _proxy(node: Node, _: Path) -> Proxy:
    try:
        return parse_proxy(nodes.text_of(node, "the URL of a proxy, or none"))
    except InvalidProxy as error:
        raise node.place.unexpected(str(error)) from None


def _duration(node: Node, _: Path) -> float:
    text = (
        node.text
        if isinstance(node, nodes.Scalar) and node.kind == "number"
        else nodes.text_of(node, A_DURATION)
    )
    try:
        return parse_duration(text)
    except InvalidDuration as error:
        raise node.place.unexpected(f"{error}, found {shown(text)}") from None


SETTINGS: dict[str, Callable[[Node, Path], Any]] = {
    "insecure": _flag,
    "plain_http": _flag,
    "ca_file": _file,
    "cert_file": _file,
    "key_file": _file,
    "mirrors": _hosts,
    "max_connections": _count,
    "requests_per_second": _rate,
    "bandwidth": _bandwidth,
    "create": _flag,
    "proxy": _proxy,
    "read_timeout": _duration,
    "events_from": _hosts,
    "attestations": lambda node, _: nodes.attestations_of(node),
}
"""How each setting of `HostSettings` is read."""
