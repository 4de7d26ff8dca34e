"""Internal addresses: a public registry must not redirect to them unless the user allows it."""

import ipaddress
import socket
from collections.abc import Iterable
from functools import lru_cache

from syncer.http.transport_errors import ConnectError

INTERNAL_NETWORKS = tuple(
    ipaddress.ip_network(network)
    for network in (
        "0.0.0.0/8",  # unspecified: this host
        "10.0.0.0/8",  # private (RFC 1918)
        "100.64.0.0/10",  # carrier-grade NAT (RFC 6598), and metadata at Alibaba
        "127.0.0.0/8",  # loopback
        "168.63.129.16/32",  # Azure's virtual public address for its own services
        "169.254.0.0/16",  # link-local, and metadata at most clouds
        "172.16.0.0/12",  # private
        "192.0.0.0/24",  # protocol assignments, and metadata at Oracle
        "192.168.0.0/16",  # private
        "224.0.0.0/3",  # multicast, reserved, broadcast
        "64:ff9b:1::/48",  # NAT64 of a local network
        "::/127",  # unspecified and loopback
        "fc00::/7",  # unique local, and metadata at AWS
        "fe80::/9",  # link-local, and deprecated site-local
        "ff00::/8",  # multicast
    )
)
_EMBEDDING = (  # networks that embed an IPv4 address, and the offset of the address in bits from the right
    (ipaddress.ip_network("::ffff:0:0/96"), 0),  # mapped
    (ipaddress.ip_network("::ffff:0:0:0/96"), 0),  # translated (SIIT)
    (ipaddress.ip_network("::/96"), 0),  # compatible
    (ipaddress.ip_network("64:ff9b::/96"), 0),  # NAT64
    (ipaddress.ip_network("2002::/16"), 80),  # 6to4
)


class InternalAddress(ConnectError):
    """A public registry redirected to an internal address. `host` is the redirect target."""

    def __init__(self, host: str, address: str) -> None:
        there = host if host == address else f"{host}, which is at {address}"
        super().__init__(there)
        self.host = host


@lru_cache(maxsize=4096)
def is_internal(address: str) -> bool:
    """Whether an IP address is loopback, link-local, private or reserved. False if the text is not an IP address."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if any(found in network for network in INTERNAL_NETWORKS):
        return True
    return found.version == 6 and any(
        found in network and is_internal(str(ipaddress.IPv4Address(int(found) >> shift & 0xFFFFFFFF)))
        for network, shift in _EMBEDDING
    )


def literal_address(host: str) -> str | None:
    """Return the IP address if the host is one, including legacy forms (`0x7f.1`). Return None for a name."""
    try:
        return str(socket.getaddrinfo(host, 0, flags=socket.AI_NUMERICHOST)[0][4][0])
    except (OSError, UnicodeError):
        return "127.0.0.1" if host.rstrip(".").lower() == "localhost" else None


class AllowedHosts:
    """The hosts of `--allow-internal`: names, `name:port`, addresses and ranges."""

    def __init__(self, entries: Iterable[str] = ()) -> None:
        self._names: set[str] = set()
        self._networks: list[ipaddress.IPv4Network | ipaddress.IPv6Network] = []
        for entry in entries:
            text = entry.strip().lower()
            try:
                self._networks.append(ipaddress.ip_network(text.strip("[]"), strict=False))
            except ValueError:
                self._names.add(text.rstrip("."))

    def permits(self, host: str, port: int, address: str) -> bool:
        """Whether this host may be reached at an internal address."""
        host = host.lower().rstrip(".")
        shown = f"[{host}]" if ":" in host else host
        if host in self._names or f"{shown}:{port}" in self._names:
            return True
        try:
            found = ipaddress.ip_address(address.partition("%")[0])
        except ValueError:
            return False
        mapped = found.ipv4_mapped if found.version == 6 else None
        return any((mapped or found) in network for network in self._networks)


class Guard:
    """Blocks requests to internal addresses that a server caused. It is called after the name was resolved."""

    def __init__(self, allowed: AllowedHosts) -> None:
        self._allowed = allowed

    def admits(self, host: str, port: int, address: str) -> bool:
        return not is_internal(address) or self._allowed.permits(host, port, address)
