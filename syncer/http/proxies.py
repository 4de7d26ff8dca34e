"""Selects the proxy for a host from the environment by curl's rules, and connects through SOCKS 5 (RFC 1928)."""

import asyncio
import base64
import ipaddress
import os
import socket
from collections.abc import Mapping

from syncer.accounts.proxy import InvalidProxy, parse_proxy
from syncer.accounts.settings import DIRECT, Proxy
from syncer.http.transport_errors import ConnectError, ProxyError, UnsupportedProtocol
from syncer.lazy_pattern import lazy_pattern

_SEPARATORS = lazy_pattern(r"[\s,]+")
_SOCKS_ERRORS = {
    1: "general failure",
    2: "connection not allowed",
    3: "network unreachable",
    4: "host unreachable",
    5: "connection refused",
    6: "TTL expired",
    7: "command not supported",
    8: "address type not supported",
}


class ProxyUnreachable(ConnectError):
    """The proxy cannot be reached."""


class ProxyRefused(ProxyError):
    """The proxy refuses to connect to the host. `status` is its HTTP response to CONNECT, 0 for a SOCKS proxy."""

    def __init__(self, status: int, message: str = "") -> None:
        super().__init__(message or f"the proxy answered {status}")
        self.status = status


class ProxyChoice:
    """The proxy variables of the environment.

    `https_proxy` or `http_proxy` is used, else `all_proxy`. `no_proxy` lists the hosts to connect to without a proxy.
    A lowercase name takes precedence over its uppercase form. An empty variable counts as unset.
    """

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        names = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")
        named = [environment.get(name) or environment.get(name.upper(), "") for name in names]
        self._http, self._https, self._all, self._no_proxy = named
        if not environment.get("http_proxy") and environment.get("REQUEST_METHOD"):
            self._http = ""  # a CGI program gets HTTP_PROXY from the client's `Proxy` header

    def proxy_for(self, scheme: str, host: str, port: int) -> Proxy:
        """Return the proxy for a host, or `DIRECT`. Raises `UnsupportedProtocol` if the variable is invalid."""
        named = (self._https if scheme == "https" else self._http) or self._all
        if not named.strip() or bypasses(self._no_proxy, host, port):
            return DIRECT
        try:
            return parse_proxy(named)
        except InvalidProxy as error:
            # Do not show the URL: it may contain a password.
            raise UnsupportedProtocol(
                f"{scheme.upper()}_PROXY or ALL_PROXY in the environment: {error}"
            ) from None


def bypasses(no_proxy: str, host: str, port: int) -> bool:
    """Whether `NO_PROXY` matches a host, by curl's rules. An entry may have a port, as in Go.

    Entries are separated by commas or spaces. A name matches the host and its subdomains, with or without a leading
    `.` or `*.`. An IP address matches itself, a CIDR range (`10.0.0.0/8`, `fd00::/8`) the addresses in it. `*` matches
    every host.
    """
    host = host.lower().strip("[]").rstrip(".")
    address = _address(host)
    return any(_matches(entry, host, address, port) for entry in _SEPARATORS.split(no_proxy.lower()) if entry)


def _matches(
    entry: str, host: str, address: ipaddress.IPv4Address | ipaddress.IPv6Address | None, port: int
) -> bool:
    if entry == "*":
        return True
    name, wanted = _split(entry)
    if wanted is not None and wanted != port:
        return False
    if address is not None:
        try:
            network = ipaddress.ip_network(name, strict=False)
        except ValueError:
            return False
        return address.version == network.version and address in network
    name = name.rstrip(".").removeprefix("*").removeprefix(".")
    return bool(name) and (host == name or host.endswith(f".{name}"))


def _split(entry: str) -> tuple[str, int | None]:
    """Split an entry into name, address or range (without brackets) and port. The port is -1 if it is invalid."""
    if entry.startswith("["):
        name, _, rest = entry[1:].partition("]")
        if rest.startswith("/"):
            return name + rest, None
    elif entry.count(":") == 1:
        name, _, rest = entry.partition(":")
        rest = f":{rest}"
    else:
        return entry, None
    port = rest.removeprefix(":")
    if not rest:
        return name, None
    return name, int(port) if port.isascii() and port.isdigit() else -1


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        found = ipaddress.ip_address(host)
    except ValueError:
        return None
    return (found.version == 6 and found.ipv4_mapped) or found


def authorization(proxy: Proxy) -> tuple[tuple[str, str], ...]:
    """Return the `Proxy-Authorization` header for an HTTP proxy, if it has a user name."""
    if proxy.username is None:
        return ()
    password = proxy.password.reveal() if proxy.password else ""
    user = f"{proxy.username}:{password}".encode()
    return (("Proxy-Authorization", f"Basic {base64.b64encode(user).decode()}"),)


async def ask_socks(connected: socket.socket, proxy: Proxy, host: str, port: int) -> None:
    """Connect to a host through a SOCKS 5 proxy, which resolves the host name (RFC 1928, RFC 1929).

    Reads only the proxy's reply from the socket. Raises `ProxyRefused`, or `OSError` if the connection breaks.
    """
    loop = asyncio.get_running_loop()

    async def read(count: int) -> bytes:
        got = b""
        while len(got) < count:
            if not (more := await loop.sock_recv(connected, count - len(got))):
                raise ProxyRefused(0, "the SOCKS proxy closed the connection")
            got += more
        return got

    await loop.sock_sendall(connected, b"\5\1\0" if proxy.username is None else b"\5\2\0\2")
    version, method = await read(2)
    if version != 5:
        raise ProxyRefused(0, "the proxy does not speak SOCKS 5")
    if method == 2 and proxy.username is not None:
        user = proxy.username.encode()
        password = (proxy.password.reveal() if proxy.password else "").encode()
        await loop.sock_sendall(connected, b"\1%c%b%c%b" % (len(user), user, len(password), password))
        if (await read(2))[1]:
            raise ProxyRefused(0, "the SOCKS proxy refuses the user name or password")
    elif method:
        raise ProxyRefused(
            0, "the SOCKS proxy requires a user name and password, or another authentication method"
        )
    try:
        address = ipaddress.ip_address(host)
        target = (b"\1" if address.version == 4 else b"\4") + address.packed
    except ValueError:
        name = host.encode("idna")
        target = b"\3%c%b" % (len(name), name)
    await loop.sock_sendall(connected, b"\5\1\0%b%b" % (target, port.to_bytes(2, "big")))
    _, reply, _, kind = await read(4)
    if reply:
        raise ProxyRefused(0, f"the SOCKS proxy cannot connect: {_SOCKS_ERRORS.get(reply, f'error {reply}')}")
    length = {1: 4, 4: 16}.get(kind) or (await read(1))[0]
    await read(length + 2)
