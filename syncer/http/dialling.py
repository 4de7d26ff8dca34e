"""Opens connections: resolves names, connects, uses a proxy if one is set, and starts TLS."""

import asyncio
import errno
import socket
import ssl
from collections.abc import Sequence
from urllib.parse import urlsplit

from aiohappyeyeballs import AddrInfoType, start_connection

from syncer.accounts.settings import Proxy
from syncer.http.connection import Connection
from syncer.http.internal import Guard, InternalAddress, is_internal, literal_address
from syncer.http.proxies import ProxyRefused, ProxyUnreachable, ask_socks, authorization
from syncer.http.request_head import request_head
from syncer.http.sockets import SocketTransport, start_tls
from syncer.http.transport import PORTS
from syncer.http.transport_errors import ConnectError, ConnectTimeout
from syncer.http.trust import is_partial, trust_system, usual_context

CONNECT_SECONDS = 15.0
"""Seconds to open a connection, including name resolution, proxy and TLS."""
NAME_SECONDS = 60.0
"""Seconds to cache the addresses of a name: many connections are opened at once."""
NEXT_ADDRESS_SECONDS = 0.25
"""Seconds before the next address is tried in parallel (RFC 8305)."""

_NO_DESCRIPTORS = frozenset({errno.EMFILE, errno.ENFILE})


class TooManyOpenFiles(ConnectError):
    """The process (EMFILE) or the machine (ENFILE) has reached its limit of open files."""


class Dialler:
    """Opens connections and caches resolved names for `NAME_SECONDS`."""

    def __init__(self) -> None:
        self._lookups: dict[tuple[str, int], tuple[float, asyncio.Future[Sequence[AddrInfoType]]]] = {}

    async def dial(
        self,
        connection: Connection,
        netloc: str,
        tls: ssl.SSLContext | None,
        proxy: Proxy,
        guard: Guard | None = None,
    ) -> None:
        """Open `connection` to a host, with TLS if `tls` is set, through `proxy` unless it is `DIRECT`.

        `guard` checks the resolved addresses, and only checked addresses are used. Behind a proxy, the host can be
        checked only if it is an IP address. Raises `ConnectError`, `ConnectTimeout`, `InternalAddress`,
        `TooManyOpenFiles`, `ProxyUnreachable` or `ProxyRefused`; the original error is the cause.
        """
        host, port = host_and_port(netloc, "https" if tls else "http")
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                if proxy.is_direct:
                    await self._connect_trusting(connection, host, port, tls, guard)
                else:
                    if tls is not None:
                        trust_system(tls)
                    _check_literal(connection, host, port, guard)
                    await self._connect_by_proxy(connection, host, port, tls, proxy)
        except TimeoutError as error:
            raise ConnectTimeout(f"no connection within {CONNECT_SECONDS:.0f} s") from error
        except OSError as error:
            if error.errno in _NO_DESCRIPTORS:
                raise TooManyOpenFiles(error.strerror or str(error)) from error
            raise ConnectError(str(error) or type(error).__name__) from error

    async def _connect_by_proxy(
        self, connection: Connection, host: str, port: int, tls: ssl.SSLContext | None, proxy: Proxy
    ) -> None:
        if proxy.is_socks:
            opened = await self._opened_to_proxy(proxy)
            try:
                await ask_socks(opened, proxy, host, port)
            except BaseException:
                opened.close()
                raise
            await _speak(connection, opened, tls, host)
            return
        opened = await self._opened_to_proxy(proxy)
        try:
            if proxy.scheme == "https":
                await _speak_through_tls(connection, opened, proxy.host)
            else:
                await _speak(connection, opened, None, proxy.host)
        except OSError as error:
            raise _proxy_unreachable(error) from error
        if tls is not None:
            await _tunnel(connection, host, port, tls, proxy)

    async def _opened_to_proxy(self, proxy: Proxy) -> socket.socket:
        try:
            return await self._opened(await self._look_up(proxy.host, proxy.port))
        except OSError as error:
            raise _proxy_unreachable(error) from error

    async def _connect_trusting(
        self, connection: Connection, host: str, port: int, tls: ssl.SSLContext | None, guard: Guard | None
    ) -> None:
        """Connect. If the certificate is not trusted, connect once more with the CAs of the system."""
        partial = tls is not None and is_partial(tls)
        try:
            await self._connect(connection, host, port, tls, guard)
        except ssl.SSLCertVerificationError:
            if tls is None or not partial:
                raise
            trust_system(tls)
            await self._connect(connection, host, port, tls, guard)

    async def _connect(
        self, connection: Connection, host: str, port: int, tls: ssl.SSLContext | None, guard: Guard | None
    ) -> None:
        found = await self._look_up(host, port)
        if guard is not None:
            admitted = [each for each in found if guard.admits(host, port, str(each[4][0]))]
            if not admitted:
                raise InternalAddress(host, str(found[0][4][0]))
            found = admitted
        opened = await self._opened(found)
        _leads_to(connection, str(opened.getpeername()[0]))
        await _speak(connection, opened, tls, host)

    async def _opened(self, addresses: Sequence[AddrInfoType]) -> socket.socket:
        return await start_connection(addresses, happy_eyeballs_delay=NEXT_ADDRESS_SECONDS)

    async def _look_up(self, host: str, port: int) -> Sequence[AddrInfoType]:
        """Resolve a name. Concurrent calls for the same name share one lookup."""
        try:
            return _addresses(host, port, socket.AI_NUMERICHOST)
        except socket.gaierror:
            pass
        loop = asyncio.get_running_loop()
        expires, lookup = self._lookups.get((host, port), (0.0, None))
        if lookup is None or expires < loop.time() or (lookup.done() and lookup.exception()):
            lookup = loop.run_in_executor(None, _addresses, host, port, 0)
            self._lookups[host, port] = (loop.time() + NAME_SECONDS, lookup)
        try:
            return await asyncio.shield(lookup)
        except socket.gaierror:
            # The resolver hides EMFILE. Opening a socket raises it.
            socket.socket().close()
            raise


def _addresses(host: str, port: int, flags: int) -> Sequence[AddrInfoType]:
    # The codec for IDNA, which encodes text, takes longer to import than the lookup.
    name = host.encode("ascii") if host.isascii() else host
    return socket.getaddrinfo(name, port, type=socket.SOCK_STREAM, flags=flags)


def _check_literal(connection: Connection, host: str, port: int, guard: Guard | None) -> None:
    """Check the host if it is an IP address. The proxy resolves names, so names cannot be checked."""
    address = literal_address(host)
    if address is None:
        return
    if guard is not None and not guard.admits(host, port, address):
        raise InternalAddress(host, address)
    _leads_to(connection, address)


def _leads_to(connection: Connection, address: str) -> None:
    connection.address = address
    connection.internal = is_internal(address)


async def _speak(
    connection: Connection, opened: socket.socket, tls: ssl.SSLContext | None, host: str
) -> None:
    SocketTransport(await start_tls(opened, tls, host) if tls else opened, connection)


async def _speak_through_tls(connection: Connection, opened: socket.socket, host: str) -> None:
    """Start TLS with a proxy. Only asyncio's own transport can start TLS with a registry within it."""
    tls = usual_context()
    trust_system(tls)
    try:
        await asyncio.get_running_loop().create_connection(
            lambda: connection, sock=opened, ssl=tls, server_hostname=host
        )
    except BaseException:
        opened.close()
        raise


def _proxy_unreachable(error: OSError) -> ConnectError:
    if error.errno in _NO_DESCRIPTORS:
        return TooManyOpenFiles(error.strerror or str(error))
    return ProxyUnreachable(str(error) or type(error).__name__)


async def _tunnel(connection: Connection, host: str, port: int, tls: ssl.SSLContext, proxy: Proxy) -> None:
    """Open a tunnel through the proxy with CONNECT (RFC 9110, section 9.3.6), and start TLS with the host."""
    target = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    head = request_head("CONNECT", target.encode("ascii"), (("Host", target), *authorization(proxy)))
    await connection.exchange(head, b"", seconds=CONNECT_SECONDS, bodiless=True)
    if not 200 <= connection.status < 300:
        raise ProxyRefused(connection.status)
    await connection.secure(tls, host)


def host_and_port(netloc: str, scheme: str) -> tuple[str, int]:
    parts = urlsplit(f"//{netloc}")
    return parts.hostname or "", parts.port or PORTS[scheme]
