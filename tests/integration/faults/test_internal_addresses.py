"""Registries that send us to internal addresses: 127.0.0.2 stands for those, 127.0.0.1 for the public internet."""

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
    """A service at 127.0.0.2 that answers everything with a few words. `asked` are the heads of requests."""

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
    """One image fails because it leads inside, and nothing is asked there."""
    (failed,) = (await net.sync(ONE, retries=0)).failed
    assert not inside.asked
    assert "internal address" in failed.failure.message
    assert "--allow-internal 127.0.0.2" in failed.failure.message
    assert failed.failure.permanent


@pytest.mark.parametrize("part", ["/manifests/", "/blobs/"])
async def test_a_redirect_to_an_internal_address_is_not_followed(source, net, inside, part):
    answer(source, "GET", part, 307, {"Location": f"{inside.url}/latest/meta-data"})
    await refused(net, inside)


async def test_a_redirect_by_way_of_a_public_host_is_not_followed_either(source, target, net, inside):
    answer(source, "GET", "/blobs/", 307, {"Location": f"http://{target.host}/v2/hop"})
    answer(target, "GET", "/hop", 302, {"Location": inside.url})
    await refused(net, inside)


async def test_a_list_of_tags_does_not_go_on_at_an_internal_address(source, net, inside):
    answer(source, "GET", "/tags/list", 200, {"Link": f'<{inside.url}/x>; rel="next"'}, b'{"tags": ["1"]}')
    await net.sync({"here/app": "there/app"}, retries=0)
    assert not inside.asked


async def test_no_token_is_asked_of_an_internal_address(source, net, inside):
    answer(source, "GET", "/v2/", 401, {"WWW-Authenticate": f'Bearer realm="{inside.url}/token"'})
    answer(source, "HEAD", "/v2/", 401, {"WWW-Authenticate": f'Bearer realm="{inside.url}/token"'})
    await refused(net, inside)


async def test_no_upload_goes_to_an_internal_address(target, net, inside):
    answer(target, "POST", "/blobs/uploads/", 202, {"Location": f"{inside.url}/v2/app/blobs/uploads/1"})
    await refused(net, inside)


async def test_an_internal_host_that_is_allowed_is_reached_and_its_words_are_not_repeated(
    source, net, inside
):
    answer(source, "GET", "/blobs/", 307, {"Location": f"{inside.url}/latest/meta-data"})
    (failed,) = (await net.sync(ONE, retries=0, allow_internal=("127.0.0.2",))).failed
    assert inside.asked
    assert SECRET.decode() not in failed.failure.message
    assert "403" in failed.failure.message


async def test_a_registry_that_is_internal_itself_may_name_its_neighbours(source, net, inside, monkeypatch):
    monkeypatch.setattr(internal, "INTERNAL_NETWORKS", (ipaddress.ip_network("127.0.0.0/8"),))
    is_internal.cache_clear()
    answer(source, "GET", "/blobs/", 307, {"Location": f"{inside.url}/latest/meta-data"})
    await net.sync(ONE, retries=0)
    assert inside.asked


@pytest.mark.parametrize(
    "location", ["//127.0.0.2:{port}/x", "HTTP://127.0.0.2:{port}/x", "http://0x7f.2:{port}/x"]
)
async def test_an_internal_address_is_one_however_it_is_written(source, net, inside, location):
    port = inside.url.rpartition(":")[2]
    answer(source, "GET", "/blobs/", 307, {"Location": location.format(port=port)})
    (failed,) = (await net.sync(ONE, retries=0)).failed
    assert "internal address" in failed.failure.message
    assert not inside.asked
