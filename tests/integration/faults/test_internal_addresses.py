"""Registries that redirect to internal addresses. 127.0.0.2 is an internal address, 127.0.0.1 a public one."""

import asyncio
import ipaddress
from collections.abc import AsyncIterator

import pytest

from syncer.demo import Answer, MemoryRegistry
from syncer.demo.images import make_image, make_layer, noise
from syncer.http import internal
from syncer.http.internal import is_internal

LAYER = make_layer({"file": noise("internal", 3000)})
ONE = {"here/app:1": "there/app"}
SECRET = b"the words of an internal service"


@pytest.fixture(autouse=True)
def image(source):
    return make_image(source.store, "app", "1", layers=[LAYER])


@pytest.fixture(autouse=True)
def public_loopback(monkeypatch):
    monkeypatch.setattr(internal, "INTERNAL_NETWORKS", (ipaddress.ip_network("127.0.0.2/32"),))
    is_internal.cache_clear()
    yield
    is_internal.cache_clear()


class Inside:
    """A service at 127.0.0.2 that returns a short text. `asked` contains the heads of its requests."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.url = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.asked.append((await reader.readuntil(b"\r\n\r\n")).decode())
        writer.write(b"HTTP/1.1 403 Forbidden\r\nContent-Length: %d\r\n\r\n%b" % (len(SECRET), SECRET))
        writer.close()


@pytest.fixture
async def inside() -> AsyncIterator[Inside]:
    service = Inside()
    server = await asyncio.start_server(service.serve, "127.0.0.2", 0)
    service.url = f"http://127.0.0.2:{server.sockets[0].getsockname()[1]}"
    yield service
    server.close()
    await server.wait_closed()


def answer(  # noqa: PLR0917
    registry: MemoryRegistry, method: str, part: str, status: int, headers: dict[str, str], body=b""
):
    @registry.before
    async def handler(request):
        if request.method == method and part in request.path:
            return Answer(status, headers, body)
        return None


async def refused(net, inside: Inside) -> None:
    """Assert that one image fails because of an internal address, and that the address gets no request."""
    (failed,) = (await net.sync(ONE, retries=0)).failed
    assert not inside.asked
    assert "internal address" in failed.failure.message
    assert "--allow-internal 127.0.0.2" in failed.failure.message
    assert failed.failure.permanent


@pytest.mark.parametrize("part", ["/manifests/", "/blobs/"])
async def test_redirect_to_internal_address_is_not_followed(source, net, inside, part):
    answer(source, "GET", part, 307, {"Location": f"{inside.url}/latest/meta-data"})
    await refused(net, inside)


async def test_redirect_to_internal_address_through_public_host_is_not_followed(source, target, net, inside):
    answer(source, "GET", "/blobs/", 307, {"Location": f"http://{target.host}/v2/hop"})
    answer(target, "GET", "/hop", 302, {"Location": inside.url})
    await refused(net, inside)


async def test_tag_list_link_to_internal_address_is_not_followed(source, net, inside):
    answer(source, "GET", "/tags/list", 200, {"Link": f'<{inside.url}/x>; rel="next"'}, b'{"tags": ["1"]}')
    await net.sync({"here/app": "there/app"}, retries=0)
    assert not inside.asked


async def test_token_service_at_internal_address_is_not_contacted(source, net, inside):
    answer(source, "GET", "/v2/", 401, {"WWW-Authenticate": f'Bearer realm="{inside.url}/token"'})
    answer(source, "HEAD", "/v2/", 401, {"WWW-Authenticate": f'Bearer realm="{inside.url}/token"'})
    await refused(net, inside)


async def test_upload_location_at_internal_address_is_not_used(target, net, inside):
    answer(target, "POST", "/blobs/uploads/", 202, {"Location": f"{inside.url}/v2/app/blobs/uploads/1"})
    await refused(net, inside)


async def test_allowed_internal_host_is_contacted_and_its_response_is_not_shown(source, net, inside):
    answer(source, "GET", "/blobs/", 307, {"Location": f"{inside.url}/latest/meta-data"})
    (failed,) = (await net.sync(ONE, retries=0, allow_internal=("127.0.0.2",))).failed
    assert inside.asked
    assert SECRET.decode() not in failed.failure.message
    assert "403" in failed.failure.message


async def test_internal_registry_may_redirect_to_internal_addresses(source, net, inside, monkeypatch):
    monkeypatch.setattr(internal, "INTERNAL_NETWORKS", (ipaddress.ip_network("127.0.0.0/8"),))
    is_internal.cache_clear()
    answer(source, "GET", "/blobs/", 307, {"Location": f"{inside.url}/latest/meta-data"})
    await net.sync(ONE, retries=0)
    assert inside.asked


@pytest.mark.parametrize(
    "location", ["//127.0.0.2:{port}/x", "HTTP://127.0.0.2:{port}/x", "http://0x7f.2:{port}/x"]
)
async def test_internal_address_is_recognized_in_every_notation(source, net, inside, location):
    port = inside.url.rpartition(":")[2]
    answer(source, "GET", "/blobs/", 307, {"Location": location.format(port=port)})
    (failed,) = (await net.sync(ONE, retries=0)).failed
    assert "internal address" in failed.failure.message
    assert not inside.asked
