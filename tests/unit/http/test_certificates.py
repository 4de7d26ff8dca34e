"""Tests of TLS contexts: CAs and client certificates from the settings and from `certs.d`."""

import asyncio
import datetime as dt
import ipaddress
import ssl
from pathlib import Path

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from syncer.accounts.settings import HostSettings
from syncer.errors import Attempt, Kind, RegistryError
from syncer.http import certificates
from syncer.http.address import Address
from syncer.http.failures import from_transport
from syncer.http.transport_errors import ConnectError
from syncer.http.wire import ConnectionPool
from tests.support.messages import request_to
from tests.support.waiting import OK


@pytest.fixture(autouse=True)
def folders(tmp_path, monkeypatch):
    """The `certs.d` folders in order of precedence."""
    found = tuple(tmp_path / name for name in ("user", "containers", "docker"))
    monkeypatch.setattr(certificates, "certificate_folders", lambda: found)
    return found


@pytest.fixture
async def serve():
    """Starts a server with TLS and returns its host. `shown` are the names in the client certificates."""
    servers: list[asyncio.Server] = []

    async def start(context: ssl.SSLContext, shown: list[object] | None = None) -> str:
        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            if shown is not None:
                shown.append(writer.get_extra_info("peercert"))
            try:
                while await reader.readuntil(b"\r\n\r\n"):
                    writer.write(OK)
            except (asyncio.IncompleteReadError, ConnectionError):
                writer.close()

        servers.append(await asyncio.start_server(answer, "127.0.0.1", 0, ssl=context))
        return f"127.0.0.1:{servers[-1].sockets[0].getsockname()[1]}"

    yield start
    for server in servers:
        server.close()
        await server.wait_closed()


def context_of(ca: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    ca.issue_cert("127.0.0.1").configure_cert(context)
    return context


async def ask(host: str, settings: HostSettings, *, own: bool = True) -> int:
    async with ConnectionPool() as pool:
        tls = Address(host, settings).tls(own=own)
        response = await pool.send(request_to(f"https://{host}/v2/", tls=tls))
        await response.aclose()
        return response.status


@pytest.mark.parametrize("index", [0, 1, 2])
async def test_a_ca_in_certs_d_is_trusted_for_its_host(serve, ca, folders, index):
    host = await serve(context_of(ca))
    with pytest.raises(ConnectError):
        await ask(host, HostSettings())
    (folders[index] / host).mkdir(parents=True)
    ca.cert_pem.write_to_path(folders[index] / host / "our-ca.crt")
    assert await ask(host, HostSettings()) == 200
    assert await ask(host, HostSettings(), own=False) == 200


async def test_a_ca_in_certs_d_is_trusted_for_no_other_host(serve, ca, folders):
    host = await serve(context_of(ca))
    (folders[0] / "127.0.0.1").mkdir(parents=True)
    ca.cert_pem.write_to_path(folders[0] / "127.0.0.1" / "ca.crt")
    with pytest.raises(ConnectError):
        await ask(host, HostSettings())


async def test_only_the_first_existing_folder_is_used(serve, ca, folders):
    host = await serve(context_of(ca))
    for folder, authority in zip(folders, (trustme.CA(), ca), strict=False):
        (folder / host).mkdir(parents=True)
        authority.cert_pem.write_to_path(folder / host / "ca.crt")
    with pytest.raises(ConnectError):
        await ask(host, HostSettings())


async def test_ca_file_overrides_certs_d(serve, ca, folders, tmp_path):
    host = await serve(context_of(ca))
    (folders[2] / host).mkdir(parents=True)
    ca.cert_pem.write_to_path(folders[2] / host / "ca.crt")
    trustme.CA().cert_pem.write_to_path(tmp_path / "other.pem")
    with pytest.raises(ConnectError):
        await ask(host, HostSettings(ca_file=str(tmp_path / "other.pem")))


async def test_client_certificate_of_certs_d_is_sent_to_the_registry_only(serve, ca, folders):
    server = context_of(ca)
    ca.configure_trust(server)
    server.verify_mode = ssl.CERT_OPTIONAL
    shown: list[object] = []
    host = await serve(server, shown)
    own = ca.issue_cert("the-mirror")
    folder = folders[1] / host
    folder.mkdir(parents=True)
    ca.cert_pem.write_to_path(folder / "ca.crt")
    own.cert_chain_pems[0].write_to_path(folder / "client.cert")
    own.private_key_pem.write_to_path(folder / "client.key")
    await ask(host, HostSettings())
    await ask(host, HostSettings(), own=False)
    assert [bool(each) for each in shown] == [True, False]


@pytest.mark.parametrize("name", ["client.cert", "ca.crt"])
def test_unusable_file_in_certs_d_is_named(folders, name):
    (folders[2] / "reg.example").mkdir(parents=True)
    (folders[2] / "reg.example" / name).write_text("no certificate")
    with pytest.raises(RegistryError, match=name) as raised:
        Address("reg.example", HostSettings()).tls(own=True)
    assert raised.value.kind is Kind.TLS


@pytest.mark.parametrize("host", ["..", ".", "", "a/../b"])
def test_host_name_cannot_leave_certs_d(folders, host):
    folders[0].mkdir()
    (folders[0] / "x.crt").write_text("no certificate")
    assert certificates.find_certificates(host) == certificates.HostCertificates()


async def test_insecure_does_not_apply_to_redirect_targets(serve, ca):
    host = await serve(context_of(ca))
    assert await ask(host, HostSettings(insecure=True)) == 200
    with pytest.raises(ConnectError):
        await ask(host, HostSettings(insecure=True), own=False)


# --- CAs without key identifiers, which Python 3.13 refuses by default ---------------------------------------------------------


def plain_certificate(
    name: str, issuer: x509.Certificate | None, signer: ec.EllipticCurvePrivateKey, key, *, ca
):
    """A certificate as OpenSSL makes it by `req -x509` with a bare configuration: no key identifiers."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = dt.datetime.now(dt.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=False)
    )
    if not ca:
        names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
        builder = builder.add_extension(names, critical=False)
    return builder.sign(signer, hashes.SHA256())


@pytest.fixture
def old_style(tmp_path) -> tuple[Path, ssl.SSLContext]:
    """The file of such a CA, and a server's context with a certificate of it."""
    ca_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    authority = plain_certificate("old CA", None, ca_key, ca_key, ca=True)
    leaf = plain_certificate("127.0.0.1", authority, ca_key, key, ca=False)
    pem = serialization.Encoding.PEM
    (tmp_path / "ca.pem").write_bytes(authority.public_bytes(pem))
    (tmp_path / "leaf.pem").write_bytes(
        leaf.public_bytes(pem)
        + key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(tmp_path / "leaf.pem")
    return tmp_path / "ca.pem", context


@pytest.fixture
def strict(monkeypatch):
    """Contexts as Python 3.13 makes them (What's New in Python 3.13, "ssl")."""
    real = ssl.create_default_context

    def made(*arguments, **options):
        context = real(*arguments, **options)
        context.verify_flags |= ssl.VERIFY_X509_STRICT
        return context

    monkeypatch.setattr(ssl, "create_default_context", made)


async def test_private_ca_without_key_identifiers_works_as_ca_file(old_style, strict, serve):
    ca_file, server = old_style
    host = await serve(server)
    strict_context = ssl.create_default_context(cafile=str(ca_file))
    request = request_to(f"https://{host}/", tls=strict_context)
    async with ConnectionPool() as pool:
        with pytest.raises(ConnectError, match="Key Identifier"):
            await pool.send(request)
    assert await ask(host, HostSettings(ca_file=str(ca_file))) == 200
    assert await ask(host, HostSettings(ca_file=str(ca_file)), own=False) == 200


async def test_private_ca_without_key_identifiers_works_in_certs_d(old_style, strict, serve, folders):
    ca_file, server = old_style
    host = await serve(server)
    (folders[2] / host).mkdir(parents=True)
    (folders[2] / host / "ca.crt").write_bytes(ca_file.read_bytes())
    assert await ask(host, HostSettings()) == 200


# --- certificates that no CA makes valid -----------------------------------------------------------------------------

YESTERDAY = dt.datetime.now(dt.UTC) - dt.timedelta(days=1)
INVALID = {
    "expired": (
        {"not_before": YESTERDAY - dt.timedelta(days=9), "not_after": YESTERDAY},
        ["127.0.0.1"],
        "renew the certificate of {host}, or check the clock of this machine",
    ),
    "not valid yet": (
        {"not_before": YESTERDAY + dt.timedelta(days=9), "not_after": YESTERDAY + dt.timedelta(days=99)},
        ["127.0.0.1"],
        "check the clock of this machine",
    ),
    "of another host": ({}, ["other.example"], "use a name that the certificate of {host} contains"),
}


@pytest.mark.parametrize("elsewhere", [False, True], ids=["registry", "redirect target"])
@pytest.mark.parametrize(("dates", "names", "advice"), INVALID.values(), ids=INVALID)
async def test_advice_for_an_invalid_certificate_is_not_a_ca_file(  # noqa: PLR0917
    serve, ca, tmp_path, dates, names, advice, elsewhere
):
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    ca.issue_cert(*names, **dates).configure_cert(context)
    ca.cert_pem.write_to_path(tmp_path / "ca.pem")
    host = await serve(context)
    with pytest.raises(ConnectError) as failure:
        await ask(host, HostSettings(ca_file=str(tmp_path / "ca.pem")))

    registry = "registry.example.com" if elsewhere else host
    error = from_transport(
        failure.value, attempt=Attempt(registry, "GET", "blob"), elsewhere=host if elsewhere else ""
    )

    assert error.kind is Kind.TLS
    assert error.advice.startswith(advice.format(host=host))
    assert "ca_file" not in error.advice
