"""What a request costs beside its bytes: calls are counted, not timed."""

import asyncio
import ssl
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import pytest
import trustme

import syncer
from syncer.accounts.settings import HostSettings
from syncer.http.address import Address
from syncer.http.client import RegistryClient
from syncer.http.limits import HostLimits
from syncer.http.wire import ConnectionPool
from syncer.observers import Observer

OURS = f"{Path(syncer.__file__).parent}/"
REQUESTS = 100
ANSWER = (
    b"HTTP/1.1 200 OK\r\nContent-Length: 1234\r\nContent-Type: application/vnd.oci.image.manifest.v1+json\r\n"
    b"Docker-Distribution-Api-Version: registry/2.0\r\nDate: Thu, 26 Nov 2026 19:00:00 GMT\r\n\r\n"
)


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while await reader.readuntil(b"\r\n\r\n"):
            writer.write(ANSWER)
    except (asyncio.IncompleteReadError, ConnectionError):
        writer.close()


@contextmanager
def counted() -> Iterator[Counter[str]]:
    """Count the calls of functions in this program and of `SSLSocket`, and the resumptions of coroutines."""
    calls: Counter[str] = Counter()

    def count(frame: FrameType, event: str, _argument: object) -> None:
        if event == "call":
            file = frame.f_code.co_filename
            calls["syncer"] += file.startswith(OURS)
            calls["ssl"] += file == ssl.__file__ and frame.f_code.co_qualname.startswith("SSLSocket.")

    sys.setprofile(count)
    try:
        yield calls
    finally:
        sys.setprofile(None)


@pytest.mark.parametrize(("scheme", "ssl_calls"), [("http", 0), ("https", 6)])
async def test_head_needs_few_calls(scheme, ssl_calls, tmp_path):
    settings, tls = HostSettings(plain_http=True), None
    if scheme == "https":
        ca = trustme.CA()
        ca.cert_pem.write_to_path(tmp_path / "ca.pem")
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        ca.issue_cert("127.0.0.1").configure_cert(tls)
        settings = HostSettings(ca_file=str(tmp_path / "ca.pem"))
    server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=tls)
    address = Address(f"127.0.0.1:{server.sockets[0].getsockname()[1]}", settings)
    async with server, ConnectionPool() as pool:
        limits = HostLimits(10, settings)
        client = RegistryClient(address, None, transport=pool, limits=limits, observer=Observer())

        async def head() -> None:
            answered = await client.send(
                "HEAD",
                "/v2/app/manifests/1",
                endpoint="manifest",
                scopes=("repository:app:pull",),
                what="app:1",
            )
            assert answered.status == 200

        await head()
        with counted() as calls:
            for _ in range(REQUESTS):
                await head()
    assert calls["syncer"] <= 76 * REQUESTS
    assert calls["ssl"] <= ssl_calls * REQUESTS
