"""Where a registry is reached, and where the addresses that it names lead."""

import pytest

from syncer.accounts.settings import HostSettings
from syncer.errors import Kind, RegistryError
from syncer.http.address import Address

PLAIN = HostSettings(plain_http=True)
ASKED = "https://reg.example/v2/app/blobs/uploads/?mount=x"


@pytest.fixture
def address():
    return Address("reg.example", HostSettings())


@pytest.mark.parametrize(
    ("location", "leads_to"),
    [
        ("/v2/app/blobs/uploads/1", "https://reg.example/v2/app/blobs/uploads/1"),
        ("/v2/x?state=a%3D", "https://reg.example/v2/x?state=a%3D"),
        ("https://reg.example/v2/x", "https://reg.example/v2/x"),
        ("//cdn.example/x", "https://cdn.example/x"),
        ("1?state=b", "https://reg.example/v2/app/blobs/uploads/1?state=b"),
        ("./1", "https://reg.example/v2/app/blobs/uploads/1"),
        ("http://reg.example/v2/x", "https://reg.example/v2/x"),
        ("http://reg.example:80/v2/x", "https://reg.example/v2/x"),
        ("http://reg.example:8443/v2/x", "https://reg.example:8443/v2/x"),
        ("HTTPS://CDN.example/X", "https://cdn.example/X"),
        ("HTTP://REG.example/v2/x", "https://reg.example/v2/x"),
        ("https://cdn.example/x?&sig=%2F#part", "https://cdn.example/x?&sig=%2F"),
        ("https://cdn.example/x?sig=http://y", "https://cdn.example/x?sig=http://y"),
    ],
)
def test_a_location_leads_to(address, location, leads_to):
    assert address.resolve(ASKED, location) == leads_to


def test_a_plain_registry_stays_plain():
    address = Address("reg.example:5000", PLAIN)
    assert address.resolve("http://reg.example:5000/v2/", "http://reg.example:5000/x") == (
        "http://reg.example:5000/x"
    )


@pytest.mark.parametrize(
    "location",
    [
        "ftp://reg.example/x",
        "http://",
        "https:///x",
        "http://a:b@reg.example/x",
        "https://reg.example:99999/",
        "https://reg.example:x/",
        "https://[::1/",
        "/a b",
        "/\u00e9",
        "/a\r\nX: y",
        "javascript:alert(1)",
    ],
)
def test_a_location_that_leads_nowhere_is_an_error(address, location):
    with pytest.raises(RegistryError) as raised:
        address.resolve(ASKED, location)
    assert raised.value.kind is Kind.INVALID
    assert raised.value.registry == "reg.example"


@pytest.mark.parametrize(
    ("url", "own"),
    [
        ("https://reg.example/v2/", True),
        ("https://reg.example:443/v2/", True),
        ("https://REG.example/v2/", True),
        ("http://reg.example/v2/", False),
        ("https://reg.example:5000/v2/", False),
        ("https://reg.example.evil/v2/", False),
        ("https://reg.example@evil/v2/", False),
        ("https://evil/https://reg.example/", False),
        ("https://reg.example:x/", False),
        ("nothing", False),
    ],
)
def test_credentials_go_to_the_registry_only(address, url, own):
    assert address.is_own(url) is own


def test_docker_hub_has_another_host_for_its_api():
    address = Address("docker.io", HostSettings())
    assert address.is_own("https://registry-1.docker.io/v2/")
    assert not address.is_own("https://docker.io/v2/")


async def test_an_insecure_registry_that_speaks_no_tls_is_spoken_to_without():
    asked = []

    async def probe(base):
        asked.append(base)
        if base.startswith("https:"):
            raise RegistryError(Kind.TLS, "wrong version number")

    address = Address("reg.example:5000", HostSettings(insecure=True))
    assert await address.base(probe) == "http://reg.example:5000"
    assert await address.base(probe) == "http://reg.example:5000"
    assert asked == ["https://reg.example:5000", "http://reg.example:5000"]
    assert not address.secure


async def test_an_insecure_registry_that_is_down_is_told_by_its_tls_error():
    async def probe(base):
        raise RegistryError(Kind.CONNECTION, f"{base} refused")

    with pytest.raises(RegistryError, match=r"https://reg\.example refused"):
        await Address("reg.example", HostSettings(insecure=True)).base(probe)


def test_a_certificate_file_that_cannot_be_read_is_told():
    address = Address("reg.example", HostSettings(ca_file="/nowhere/ca.pem"))
    with pytest.raises(RegistryError, match=r"/nowhere/ca\.pem"):
        address.tls(own=True)


@pytest.mark.parametrize(
    "location", ["http://cdn.example/x", "HTTP://cdn.example/x", "hTTp://cdn.example:8080/x"]
)
def test_no_way_leads_from_https_to_http(address, location):
    with pytest.raises(RegistryError, match="from https to http at cdn") as raised:
        address.resolve(ASKED, location)
    assert raised.value.kind is Kind.TLS


def test_content_that_is_checked_by_its_digest_may_come_without_tls(address):
    assert address.resolve(ASKED, "HTTP://cdn.example/x", downgrade=True) == "http://cdn.example/x"


@pytest.mark.parametrize("location", ["//cdn.example/x", "/x"])
def test_a_location_without_a_scheme_keeps_that_of_the_request(address, location):
    assert address.resolve(ASKED, location).startswith("https://")


def test_a_guard_is_set_once_a_public_address_has_answered(address):
    assert address.guard() is None
    address.answered(internal=True)
    assert address.guard() is None
    address.answered(internal=False)
    address.answered(internal=True)
    assert address.guard() is not None
