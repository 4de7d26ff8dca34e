"""Tests of the guard: which addresses are internal, and that only checked addresses are connected to."""

import asyncio
import ipaddress
import socket

import pytest

from syncer.http import dialling, internal
from syncer.http.internal import AllowedHosts, Guard, InternalAddress, is_internal, literal_address
from syncer.http.wire import ConnectionPool
from tests.support.messages import request_to
from tests.support.waiting import OK


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "127.8.8.8",
        "0.0.0.0",
        "10.0.0.1",
        "172.16.0.1",
        "172.31.255.255",
        "192.168.1.1",
        "100.64.0.1",
        "100.127.255.255",
        "100.100.100.200",
        "169.254.169.254",
        "168.63.129.16",
        "192.0.0.192",
        "224.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "fe80::1",
        "fe80::1%eth0",
        "febf::1",
        "fc00::1",
        "fd00:ec2::254",
        "ff02::1",
        "::ffff:127.0.0.1",
        "::ffff:169.254.169.254",
        "::ffff:0:10.0.0.1",
        "::10.0.0.1",
        "64:ff9b::10.0.0.1",
        "2002:7f00:1::",
    ],
)
def test_internal_address_is_recognized_in_any_form(address):
    assert is_internal(address)


@pytest.mark.parametrize(
    "address",
    [
        "8.8.8.8",
        "172.15.0.1",
        "172.32.0.1",
        "100.63.255.255",
        "100.128.0.0",
        "169.253.0.1",
        "192.167.0.1",
        "11.0.0.1",
        "2606:4700::1111",
        "::ffff:8.8.8.8",
        "64:ff9b::8.8.8.8",
        "2002:808:808::",
        "no address",
    ],
)
def test_public_address_is_not_internal(address):
    assert not is_internal(address)


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("0x7f.1", "127.0.0.1"),
        ("2130706433", "127.0.0.1"),
        ("::1", "::1"),
        ("localhost", "127.0.0.1"),
        ("LOCALHOST.", "127.0.0.1"),
        ("reg.example", None),
    ],
)
def test_literal_address_is_recognized(host, address):
    assert literal_address(host) == address


@pytest.mark.parametrize(
    ("entries", "host", "port", "address", "admitted"),
    [
        ((), "cdn.example", 443, "10.0.0.1", False),
        ((), "cdn.example", 443, "8.8.8.8", True),
        (("cdn.example",), "CDN.example.", 443, "10.0.0.1", True),
        (("cdn.example",), "a.cdn.example", 443, "10.0.0.1", False),
        (("cdn.example:9000",), "cdn.example", 9000, "10.0.0.1", True),
        (("cdn.example:9000",), "cdn.example", 443, "10.0.0.1", False),
        (("10.0.0.0/8",), "cdn.example", 443, "10.0.0.1", True),
        (("10.0.0.0/8",), "cdn.example", 443, "::ffff:10.0.0.1", True),
        (("10.0.0.0/8",), "cdn.example", 443, "127.0.0.1", False),
        (("10.0.0.1",), "10.0.0.1", 443, "10.0.0.1", True),
        (("[::1]",), "::1", 443, "::1", True),
    ],
)
def test_allowed_hosts_are_admitted(entries, host, port, address, admitted):
    assert Guard(AllowedHosts(entries)).admits(host, port, address) is admitted


# --- over sockets: 127.0.0.2 represents an internal host, 127.0.0.1 a public one -----------------------------------


@pytest.fixture
def internal_loopback(monkeypatch):
    monkeypatch.setattr(internal, "INTERNAL_NETWORKS", (ipaddress.ip_network("127.0.0.2/32"),))
    is_internal.cache_clear()
    yield
    is_internal.cache_clear()


@pytest.fixture
async def servers():
    """Servers at 127.0.0.1 and 127.0.0.2, on one port; `hits` are the addresses that were connected to."""
    hits: list[str] = []
    started: list[asyncio.Server] = []
    port = 0
    for address in ("127.0.0.1", "127.0.0.2"):

        async def serve(reader, writer, address=address):
            hits.append(address)
            try:
                while await reader.readuntil(b"\r\n\r\n"):
                    writer.write(OK)
            except (asyncio.IncompleteReadError, ConnectionError):
                writer.close()

        started.append(await asyncio.start_server(serve, address, port))
        port = started[0].sockets[0].getsockname()[1]
    yield hits, port
    for server in started:
        server.close()
        await server.wait_closed()


@pytest.fixture
async def pool(servers):
    async with ConnectionPool() as pool:
        yield pool


async def ask(pool, host, port, *, guard=None):
    response = await pool.send(request_to(f"http://{host}:{port}/", guard=guard))
    async for _ in response.body:
        pass
    await response.aclose()
    return response


@pytest.fixture
def names(monkeypatch):
    """A resolver: `names["cdn.example"] = ["127.0.0.2"]`."""
    known: dict[str, list[str]] = {}
    real = dialling._addresses

    def addresses(host, port, flags):
        if host not in known or flags & socket.AI_NUMERICHOST:
            return real(host, port, flags)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in known[host]]

    monkeypatch.setattr(dialling, "_addresses", addresses)
    return known


@pytest.mark.usefixtures("internal_loopback")
async def test_name_with_an_internal_address_is_not_connected_to(pool, servers, names):
    hits, port = servers
    names["cdn.example"] = ["127.0.0.2"]
    with pytest.raises(InternalAddress, match=r"cdn\.example, which is at 127\.0\.0\.2"):
        await ask(pool, "cdn.example", port, guard=Guard(AllowedHosts()))
    assert not hits


@pytest.mark.usefixtures("internal_loopback")
async def test_only_admitted_addresses_of_a_name_are_used(pool, servers, names):
    hits, port = servers
    names["cdn.example"] = ["127.0.0.2", "127.0.0.1"]
    response = await ask(pool, "cdn.example", port, guard=Guard(AllowedHosts()))
    assert response.internal is False
    assert hits == ["127.0.0.1"]


@pytest.mark.usefixtures("internal_loopback")
async def test_guard_also_checks_a_reused_connection(pool, servers, names):
    hits, port = servers
    names["cdn.example"] = ["127.0.0.2"]
    assert (await ask(pool, "cdn.example", port)).internal is True
    with pytest.raises(InternalAddress):
        await ask(pool, "cdn.example", port, guard=Guard(AllowedHosts()))
    assert (await ask(pool, "cdn.example", port, guard=Guard(AllowedHosts(["cdn.example"])))).status == 200
    assert hits == ["127.0.0.2"]


@pytest.mark.usefixtures("internal_loopback")
async def test_literal_address_is_checked_behind_a_proxy(pool, servers, monkeypatch):
    hits, port = servers
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{port}")
    monkeypatch.setenv("no_proxy", "")
    with pytest.raises(InternalAddress):
        await ask(pool, "127.0.0.2", 80, guard=Guard(AllowedHosts()))
    assert not hits
    assert (await ask(pool, "cdn.example", 80, guard=Guard(AllowedHosts()))).status == 200
