"""Tests of TLS contexts that load the CAs of the system late. `SSL_CERT_FILE` and `SSL_CERT_DIR` name them here."""

import asyncio
import ssl
import subprocess
from typing import Self

import pytest
import trustme

from syncer.accounts.settings import HostSettings
from syncer.http import certificates, trust
from syncer.http.address import Address
from syncer.http.transport_errors import ConnectError
from syncer.http.wire import ConnectionPool
from tests.support.messages import request_to
from tests.support.waiting import OK


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The folder of the system's CAs. There is no file of them, and no `certs.d`."""
    found = tmp_path / "certs"
    found.mkdir()
    monkeypatch.setenv("SSL_CERT_DIR", str(found))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "missing.pem"))
    monkeypatch.setattr(certificates, "certificate_folders", lambda: ())
    trust.usual_context.cache_clear()
    yield found
    trust.usual_context.cache_clear()


@pytest.fixture
def loaded(monkeypatch):
    """Gets an item whenever a context loads the CAs of the system."""
    loads: list[ssl.SSLContext] = []
    real = ssl.SSLContext.load_default_certs

    def load(context, *arguments):
        loads.append(context)
        real(context, *arguments)

    monkeypatch.setattr(ssl.SSLContext, "load_default_certs", load)
    return loads


def hashed(folder, ca: trustme.CA) -> None:
    ca.cert_pem.write_to_path(folder / "ca.pem")
    subprocess.run(["openssl", "rehash", str(folder)], check=True)


class Server:
    """A registry with a certificate of `ca`. `connections` counts how many clients connected, and `refused` the failures."""

    def __init__(self, ca: trustme.CA) -> None:
        self.connections = 0
        self._context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        ca.issue_cert("127.0.0.1").configure_cert(self._context)

    async def __aenter__(self) -> Self:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self.connections += 1
            try:
                await writer.start_tls(self._context)
                while await reader.readuntil(b"\r\n\r\n"):
                    writer.write(OK)
            except (asyncio.IncompleteReadError, OSError):
                pass
            finally:
                writer.close()

        self._server = await asyncio.start_server(serve, "127.0.0.1", 0)
        self.host = f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()

    async def ask(self, settings: HostSettings = HostSettings(), *, own: bool = True, times: int = 1) -> None:  # noqa: B008
        async with ConnectionPool() as pool:
            tls = Address(self.host, settings).tls(own=own)
            for _ in range(times):
                response = await pool.send(request_to(f"https://{self.host}/v2/", tls=tls))
                await response.aclose()
                assert response.status == 200


def saved(ca: trustme.CA, tmp_path, name: str) -> str:
    path = tmp_path / name
    ca.cert_pem.write_to_path(path)
    return str(path)


async def test_private_ca_loads_none_of_the_system(folder, loaded, tmp_path, ca):
    async with Server(ca) as server:
        await server.ask(HostSettings(ca_file=saved(ca, tmp_path, "own.pem")), times=2)
    assert server.connections == 1
    assert not loaded


async def test_folder_with_hashes_is_enough(folder, loaded, ca):
    hashed(folder, ca)
    async with Server(ca) as server:
        await server.ask()
    assert server.connections == 1
    assert not loaded


@pytest.mark.parametrize("own", [True, False])
@pytest.mark.usefixtures("folder")
async def test_ca_of_the_system_is_trusted_beside_a_private_one(loaded, tmp_path, ca, monkeypatch, own):
    monkeypatch.setenv("SSL_CERT_FILE", saved(ca, tmp_path, "system.pem"))
    private = saved(trustme.CA(), tmp_path, "own.pem")
    async with Server(ca) as server:
        await server.ask(HostSettings(ca_file=private), own=own, times=2)
    assert server.connections == 2
    assert len(loaded) == 1


async def test_ca_that_is_only_in_the_file_of_the_system_is_trusted(
    folder, loaded, tmp_path, ca, monkeypatch
):
    hashed(folder, trustme.CA())
    monkeypatch.setenv("SSL_CERT_FILE", saved(ca, tmp_path, "system.pem"))
    async with Server(ca) as server:
        await server.ask()
    assert server.connections == 2


async def test_all_connections_that_were_opened_at_once_succeed(folder, tmp_path, ca, monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", saved(ca, tmp_path, "system.pem"))
    settings = HostSettings(ca_file=saved(trustme.CA(), tmp_path, "own.pem"))
    async with Server(ca) as server, ConnectionPool() as pool:
        tls = Address(server.host, settings).tls(own=True)
        request = request_to(f"https://{server.host}/v2/", tls=tls)
        responses = await asyncio.gather(*(pool.send(request) for _ in range(8)))
        assert [response.status for response in responses] == [200] * 8
        for response in responses:
            await response.aclose()


async def test_folder_without_hashes_is_not_tried(folder, loaded, tmp_path, ca, monkeypatch):
    ca.cert_pem.write_to_path(folder / "tls-ca-bundle.pem")
    monkeypatch.setenv("SSL_CERT_FILE", saved(ca, tmp_path, "system.pem"))
    async with Server(ca) as server:
        await server.ask()
    assert server.connections == 1
    assert len(loaded) == 1


@pytest.mark.parametrize("private", [True, False])
async def test_unknown_ca_is_refused_after_the_second_connection(folder, tmp_path, ca, private):
    hashed(folder, trustme.CA())
    settings = HostSettings(ca_file=saved(trustme.CA(), tmp_path, "own.pem") if private else None)
    async with Server(ca) as server:
        with pytest.raises(ConnectError) as failure:
            await server.ask(settings)
        assert isinstance(failure.value.__cause__, ssl.SSLCertVerificationError)
    assert server.connections == 2
