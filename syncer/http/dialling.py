"""Getting a connection: names, addresses, TLS, and a proxy on the way if the environment names one."""

import asyncio
import base64
import socket
import ssl
from collections.abc import Sequence
from functools import cache
from typing import NamedTuple
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

import anyio
import httpx
from aiohappyeyeballs import AddrInfoType, start_connection

from syncer.http.connection import Connection, request_head

CONNECT_SECONDS = 15.0
"""How long it may take until a request can be sent: name, address and TLS together."""
NAME_SECONDS = 60.0
"""How long a name's addresses are remembered: connections are opened many at once."""
NEXT_ADDRESS_SECONDS = 0.25
"""How long one address has before the next is tried beside it (RFC 8305)."""

_PORTS = {"http": 80, "https": 443}


@cache
def usual_context() -> ssl.SSLContext:
    """TLS as the system trusts it: made once, since reading all its certificates takes long."""
    return ssl.create_default_context()


class ProxyUnreachable(httpx.ConnectError):
    """No connection to the proxy."""


class ProxyRefused(httpx.ProxyError):
    """The proxy lets nobody through to that host. `status` is its answer to CONNECT."""

    def __init__(self, status: int) -> None:
        super().__init__(f"the proxy answered {status}")
        self.status = status


class Proxy(NamedTuple):
    """A proxy: where it is, and what it wants to be told."""

    scheme: str
    netloc: str
    headers: tuple[tuple[bytes, bytes], ...]


@cache
def proxy_for(scheme: str, netloc: str) -> Proxy | None:
    """The proxy that the environment names for a host. Raises `httpx.UnsupportedProtocol` for one that is not HTTP."""
    proxies = getproxies()
    named = proxies.get(scheme) or proxies.get("all")
    if not named or proxy_bypass(netloc):
        return None
    parts = urlsplit(named if "://" in named else f"http://{named}")
    if parts.scheme not in _PORTS or not parts.hostname:
        # Not the URL itself: it may have a password.
        raise httpx.UnsupportedProtocol(f"not an HTTP proxy: {parts.scheme}://{parts.hostname or ''}")
    headers: tuple[tuple[bytes, bytes], ...] = ()
    if parts.username is not None:
        user = f"{unquote(parts.username)}:{unquote(parts.password or '')}".encode()
        headers = ((b"Proxy-Authorization", b"Basic " + base64.b64encode(user)),)
    return Proxy(parts.scheme, parts.netloc.rpartition("@")[2], headers)


class Dialler:
    """Connects. Names that were looked up are remembered for a while."""

    def __init__(self) -> None:
        self._lookups: dict[tuple[str, int], tuple[float, asyncio.Future[Sequence[AddrInfoType]]]] = {}

    async def dial(
        self, connection: Connection, netloc: str, tls: ssl.SSLContext | None, proxy: Proxy | None
    ) -> None:
        """Open `connection` to a host, over TLS if a context is given.

        Raises `httpx.ConnectError`, `ConnectTimeout`, or `ProxyRefused`; their cause is what happened.
        """
        host, port = _host_and_port(netloc, "https" if tls else "http")
        try:
            with anyio.fail_after(CONNECT_SECONDS):
                if proxy is None:
                    await self._connect(connection, host, port, tls)
                else:
                    await self._connect_to_proxy(connection, proxy)
                    if tls is not None:
                        await _tunnel(connection, host, port, tls, proxy)
        except TimeoutError as error:
            raise httpx.ConnectTimeout(f"no connection within {CONNECT_SECONDS:.0f} s") from error
        except OSError as error:
            raise httpx.ConnectError(str(error) or type(error).__name__) from error

    async def _connect_to_proxy(self, connection: Connection, proxy: Proxy) -> None:
        host, port = _host_and_port(proxy.netloc, proxy.scheme)
        tls = usual_context() if proxy.scheme == "https" else None
        try:
            await self._connect(connection, host, port, tls)
        except OSError as error:
            raise ProxyUnreachable(str(error) or type(error).__name__) from error

    async def _connect(
        self, connection: Connection, host: str, port: int, tls: ssl.SSLContext | None
    ) -> None:
        try:
            found = _addresses(host, port, socket.AI_NUMERICHOST)
        except socket.gaierror:
            found = await self._look_up(host, port)
        opened = await start_connection(found, happy_eyeballs_delay=NEXT_ADDRESS_SECONDS)
        try:
            await asyncio.get_running_loop().create_connection(
                lambda: connection, sock=opened, ssl=tls, server_hostname=host if tls else None
            )
        except BaseException:
            opened.close()
            raise

    async def _look_up(self, host: str, port: int) -> Sequence[AddrInfoType]:
        """The addresses of a name: asked for once by all who want them at the same time."""
        loop = asyncio.get_running_loop()
        expires, lookup = self._lookups.get((host, port), (0.0, None))
        if lookup is None or expires < loop.time() or (lookup.done() and lookup.exception()):
            lookup = loop.run_in_executor(None, _addresses, host, port, 0)
            self._lookups[host, port] = (loop.time() + NAME_SECONDS, lookup)
        return await asyncio.shield(lookup)


def _addresses(host: str, port: int, flags: int) -> Sequence[AddrInfoType]:
    return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=flags)


async def _tunnel(connection: Connection, host: str, port: int, tls: ssl.SSLContext, proxy: Proxy) -> None:
    """Ask the proxy through to a host (RFC 9110, section 9.3.6), and speak TLS with it."""
    target = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    name = target.encode("ascii")
    head = request_head("CONNECT", name, ((b"Host", name), *proxy.headers))
    await connection.exchange(head, b"", seconds=CONNECT_SECONDS, bodiless=True)
    if not 200 <= connection.status < 300:
        raise ProxyRefused(connection.status)
    await connection.secure(tls, host)


def _host_and_port(netloc: str, scheme: str) -> tuple[str, int]:
    parts = urlsplit(f"//{netloc}")
    return parts.hostname or "", parts.port or _PORTS[scheme]
