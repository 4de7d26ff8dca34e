"""Tests of proxy selection and of the SOCKS 5 client."""

import asyncio
from contextlib import suppress

import pytest

from syncer.accounts.proxy import InvalidProxy, parse_proxy
from syncer.accounts.settings import DIRECT, Secret
from syncer.http.proxies import ProxyChoice, ProxyRefused, ProxyUnreachable, bypasses
from syncer.http.wire import ConnectionPool
from tests.support.messages import request_to
from tests.support.waiting import OK

# --- NO_PROXY: curl's rules ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("no_proxy", "host", "direct"),
    [
        ("example.com", "example.com", True),
        ("example.com", "reg.example.com", True),
        (".example.com", "reg.example.com", True),
        (".example.com", "example.com", True),
        ("*.example.com", "a.b.example.com", True),
        ("example.com", "notexample.com", False),
        ("example.com", "example.com.evil", False),
        ("EXAMPLE.com.", "reg.Example.COM.", True),
        ("a.io,b.io", "b.io", True),
        ("a.io b.io", "b.io", True),
        (" a.io ,\t, b.io ", "b.io", True),
        ("*", "anything.example", True),
        ("a.io, *", "anything.example", True),
        ("", "anything.example", False),
        (",.,", "anything.example", False),
        ("10.0.0.0/8", "10.9.8.7", True),
        ("10.1.2.3/8", "10.9.8.7", True),
        ("10.0.0.0/8", "11.0.0.1", False),
        ("10.0.0.0/8", "10.example.com", False),
        ("10.0.0.0/33", "10.0.0.1", False),
        ("192.168.0.1", "192.168.0.1", True),
        ("192.168.0.1", "192.168.0.10", False),
        ("168.0.1", "192.168.0.1", False),
        ("::1", "::1", True),
        ("[::1]", "::1", True),
        ("::1", "[::1]", True),
        ("0:0:0:0:0:0:0:1", "::1", True),
        ("fd00::/8", "fd12:3456::1", True),
        ("[fd00::]/8", "fd12:3456::1", True),
        ("fd00::/8", "fe80::1", False),
        ("::1", "::2", False),
        ("10.0.0.0/8", "::ffff:10.0.0.1", True),
    ],
)
def test_no_proxy_matches_hosts(no_proxy, host, direct):
    assert bypasses(no_proxy, host, 443) is direct


@pytest.mark.parametrize(
    ("no_proxy", "host", "port", "direct"),
    [
        ("reg.io:5000", "reg.io", 5000, True),
        ("reg.io:5000", "reg.io", 443, False),
        ("[::1]:5000", "::1", 5000, True),
        ("[::1]:5000", "::1", 443, False),
        ("10.0.0.1:80", "10.0.0.1", 80, True),
        ("reg.io:", "reg.io", 443, False),
        ("reg.io:x", "reg.io", 443, False),
    ],
)
def test_no_proxy_entry_with_a_port_matches_only_that_port(no_proxy, host, port, direct):
    assert bypasses(no_proxy, host, port) is direct


# --- selection -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("environment", "scheme", "chosen"),
    [
        ({"https_proxy": "http://a:1"}, "https", "http://a:1"),
        ({"HTTPS_PROXY": "http://a:1"}, "https", "http://a:1"),
        ({"HTTPS_PROXY": "http://a:1", "https_proxy": "http://b:1"}, "https", "http://b:1"),
        ({"HTTPS_PROXY": "http://a:1", "https_proxy": ""}, "https", "http://a:1"),
        ({"HTTPS_PROXY": "http://a:1"}, "http", "none"),
        ({"http_proxy": "a:1"}, "http", "http://a:1"),
        ({"HTTP_PROXY": "a:1"}, "http", "http://a:1"),
        ({"HTTP_PROXY": "a:1", "REQUEST_METHOD": "GET"}, "http", "none"),
        ({"ALL_PROXY": "socks5://a"}, "https", "socks5://a:1080"),
        ({"all_proxy": "socks5h://a:9"}, "http", "socks5h://a:9"),
        ({"ALL_PROXY": "socks5://a", "https_proxy": "http://b"}, "https", "http://b:80"),
        ({"https_proxy": "https://[::1]"}, "https", "https://[::1]:443"),
        ({"https_proxy": "http://a:1", "NO_PROXY": "reg.example"}, "https", "none"),
        ({"https_proxy": "http://a:1", "NO_PROXY": "reg.example", "no_proxy": "b"}, "https", "http://a:1"),
        ({}, "https", "none"),
    ],
)
def test_proxy_is_read_from_the_environment(environment, scheme, chosen):
    assert str(ProxyChoice(environment).proxy_for(scheme, "reg.example", 443)) == chosen


@pytest.mark.parametrize("text", ["none", "None", " NONE "])
def test_none_means_direct(text):
    assert parse_proxy(text) == DIRECT
    assert parse_proxy(text).is_direct


def test_proxy_password_is_never_printed():
    proxy = parse_proxy("socks5://us%40er:pa%2Fss@proxy.example")
    assert (proxy.username, proxy.password) == ("us@er", Secret("pa/ss"))
    assert "pa/ss" not in f"{proxy} {proxy!r}"


@pytest.mark.parametrize(
    "text",
    [
        "http://user:hunter2/x@proxy:3128",
        "http://user:hunter2#x@proxy:3128",
        "http://user:hunter2?x@proxy:3128",
        "http://user:42/hunter2@proxy:3128",
        "http://user:[hunter2@proxy:3128",
        "http://user:hunter2@proxy:port",
        "http://user:hunter2@",
        "http://user:hunter2@proxy:0",
        "http://user:hunter2 @proxy",
        "http://user:hunter2\r\nx@proxy",
        "ftp://user:hunter2@proxy",
        "socks4://user:hunter2@proxy",
        "socks5://:hunter2@proxy",
        f"socks5://hunter2{'x' * 250}:p@proxy",
        "http://user:hunter2%0Ax@proxy",
        "",
    ],
)
def test_invalid_proxy_is_refused_without_showing_the_url(text):
    with pytest.raises(InvalidProxy) as refused:
        parse_proxy(text)
    assert "hunter2" not in str(refused.value)
    assert "expected" in str(refused.value)


# --- SOCKS -----------------------------------------------------------------------------------------------------------


class Socks:
    """A SOCKS 5 proxy (RFC 1928) that connects every client to one server. `asked` are the requests that it got."""

    def __init__(self, upstream: str, *, user: bytes = b"", password: bytes = b"", reply: int = 0) -> None:
        self.host, self.port = upstream.split(":")
        self.user, self.password, self.reply = user, password, reply
        self.asked: list[bytes] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            await self._speak(reader, writer)
        writer.close()

    async def _speak(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        _, count = await reader.readexactly(2)
        methods = await reader.readexactly(count)
        method = 2 if self.user else 0
        writer.write(bytes((5, method if method in methods else 255)))
        if self.user and 2 in methods:
            _, length = await reader.readexactly(2)
            user = await reader.readexactly(length)
            (length,) = await reader.readexactly(1)
            right = (user, await reader.readexactly(length)) == (self.user, self.password)
            writer.write(bytes((1, not right)))
        head = await reader.readexactly(4)
        length = {1: 4, 4: 16}.get(head[3]) or (await reader.readexactly(1))[0]
        self.asked.append(head[3:] + await reader.readexactly(length + 2))
        writer.write(bytes((5, self.reply, 0, 3, 2)) + b"me" + bytes(2))
        if self.reply:
            return
        upstream, downstream = await asyncio.open_connection(self.host, int(self.port))
        downstream.write(await reader.readuntil(b"\r\n\r\n"))
        writer.write(await upstream.readexactly(len(OK)))
        downstream.close()


@pytest.fixture
async def listen():
    servers: list[asyncio.Server] = []

    async def start(serve) -> str:
        servers.append(await asyncio.start_server(serve, "127.0.0.1", 0))
        return f"127.0.0.1:{servers[-1].sockets[0].getsockname()[1]}"

    yield start
    for server in servers:
        server.close()
        await server.wait_closed()


@pytest.fixture
async def registry(listen):
    async def serve(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(OK)
        writer.close()

    return await listen(serve)


async def ask(url: str, proxy: str) -> int:
    async with ConnectionPool() as pool:
        response = await pool.send(request_to(url, proxy=parse_proxy(proxy)))
        await response.aclose()
        return response.status


@pytest.mark.parametrize("scheme", ["socks5", "socks5h"])
async def test_a_socks_proxy_resolves_the_name_and_connects(listen, registry, scheme):
    socks = Socks(registry)
    proxy = await listen(socks.serve)
    assert await ask("http://registry.example:5000/v2/", f"{scheme}://{proxy}") == 200
    assert socks.asked == [b"\3registry.example" + (5000).to_bytes(2, "big")]


@pytest.mark.parametrize(
    ("host", "asked"), [("10.1.2.3", b"\1\n\1\2\3"), ("[fd00::1]", b"\4\xfd" + bytes(14) + b"\1")]
)
async def test_socks_proxy_gets_ip_addresses_as_addresses(listen, registry, host, asked):
    socks = Socks(registry)
    assert await ask(f"http://{host}:80/v2/", f"socks5://{await listen(socks.serve)}") == 200
    assert [each[:-2].removeprefix(b"\3") for each in socks.asked] == [asked]


async def test_socks_proxy_gets_user_name_and_password(listen, registry):
    proxy = await listen(Socks(registry, user=b"us:er", password=b"p@ss").serve)
    assert await ask("http://reg.example/v2/", f"socks5://us%3Aer:p%40ss@{proxy}") == 200


@pytest.mark.parametrize(
    ("user", "reply", "message"),
    [
        (b"", 5, "connection refused"),
        (b"", 99, "error 99"),
        (b"other", 0, "refuses the user name or password"),
    ],
)
async def test_refusal_of_a_socks_proxy_has_the_reason(listen, registry, user, reply, message):
    proxy = await listen(Socks(registry, user=user, reply=reply).serve)
    with pytest.raises(ProxyRefused, match=message) as refused:
        await ask("http://reg.example/v2/", f"socks5://user:hunter2@{proxy}")
    assert "hunter2" not in str(refused.value)


async def test_non_socks_proxy_is_reported(listen):
    async def serve(reader, writer):
        await reader.read(1)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    with pytest.raises(ProxyRefused, match="does not speak SOCKS 5"):
        await ask("http://reg.example/v2/", f"socks5://{await listen(serve)}")


async def test_unreachable_socks_proxy_is_reported():
    with pytest.raises(ProxyUnreachable):
        await ask("http://reg.example/v2/", "socks5://127.0.0.1:1")


async def test_none_overrides_the_proxy_of_the_environment(registry, monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.setenv("no_proxy", "")
    assert await ask(f"http://{registry}/v2/", "none") == 200
