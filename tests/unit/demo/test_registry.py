"""What tests may use of the registry: the record of requests, scripted answers, logins, redirects."""

import httpx
import pytest

from syncer.demo import Answer, DropConnection, MemoryRegistry, PortInUse
from syncer.oci.digest import Digest
from tests.support.plain_http import NO_AUTHORITIES

BLOB = b"0123456789"


@pytest.fixture
def blob_url(memory):
    return f"/v2/team/app/blobs/{memory.store.put_blob('team/app', BLOB)}"


async def test_requests_are_recorded_in_order(client, memory, blob_url):
    await client.get(blob_url, headers={"Range": "bytes=2-", "Authorization": "Bearer x"})
    await client.post("/v2/team/app/blobs/uploads/?digest=sha256:no", content=b"four")
    first, second = memory.requests
    assert (first.method, first.path, first.status, first.sent) == ("GET", blob_url, 206, 8)
    assert first.headers["Range"] == "bytes=2-"
    assert first.headers["Authorization"] == "Bearer x"
    assert (second.method, second.query, second.status) == ("POST", "digest=sha256:no", 400)


async def test_the_record_counts_what_was_received(client, memory):
    await client.post("/v2/team/app/blobs/uploads/", params={"digest": Digest.of(BLOB)}, content=BLOB)
    assert [request.received for request in memory.requests] == [len(BLOB)]


async def test_the_record_keeps_only_the_last():
    async with (
        MemoryRegistry(record=2) as registry,
        httpx.AsyncClient(trust_env=False, verify=NO_AUTHORITIES) as client,
    ):
        for path in ("/v2/", "/v2/a/tags/list", "/v2/b/tags/list"):
            await client.get(f"http://{registry.host}{path}")
        assert [request.path for request in registry.requests] == ["/v2/a/tags/list", "/v2/b/tags/list"]


async def test_before_handler_may_answer_instead_of_the_registry(client, memory, blob_url):
    @memory.before
    async def busy_once(request):
        if len(memory.requests) == 0:
            return Answer(429, {"Retry-After": "1"}, b"later")
        return None

    response = await client.get(blob_url)
    assert (response.status_code, response.headers["Retry-After"], response.text) == (429, "1", "later")
    assert (await client.get(blob_url)).content == BLOB
    assert [request.status for request in memory.requests] == [429, 200]


async def test_handler_added_last_is_called_first(client, memory, blob_url):
    async def teapot(request):
        return Answer(418)

    async def unavailable(request):
        return Answer(503)

    memory.before(teapot)
    memory.before(unavailable)
    assert (await client.get(blob_url)).status_code == 503


async def test_a_handler_may_read_the_body(client, memory):
    seen = []

    @memory.before
    async def read(request):
        seen.append(await request.read(100))
        return Answer(500)

    await client.post("/v2/team/app/blobs/uploads/", content=BLOB)
    assert seen == [BLOB]


async def test_an_answer_may_break_off(client, memory, blob_url):
    memory.before(lambda request: answer(Answer(200, {"Content-Length": "10"}, BLOB[:4])))
    async with client.stream("GET", blob_url) as response:
        chunks = response.aiter_raw()
        assert await anext(chunks) == BLOB[:4]
        with pytest.raises(httpx.RemoteProtocolError):
            await anext(chunks)


async def answer(given):
    return given


async def test_a_head_may_tell_a_length(client, memory, blob_url):
    memory.before(lambda request: answer(Answer(200, {"Content-Length": "77"})))
    assert (await client.head(blob_url)).headers["Content-Length"] == "77"


async def test_a_connection_may_be_dropped(client, memory, blob_url):
    @memory.before
    async def drop(request):
        raise DropConnection

    with pytest.raises(httpx.TransportError):
        await client.get(blob_url)
    assert [request.status for request in memory.requests] == [0]


async def test_registry_with_a_password_requires_it():
    async with (
        MemoryRegistry(username="robot$ci", password="secret") as registry,
        httpx.AsyncClient(
            base_url=f"http://{registry.host}", trust_env=False, verify=NO_AUTHORITIES
        ) as client,
    ):
        response = await client.get("/v2/")
        assert response.status_code == 401
        assert response.headers["WWW-Authenticate"] == 'Basic realm="demo"'
        assert response.json()["errors"][0]["code"] == "UNAUTHORIZED"
        assert (await client.get("/v2/", auth=("robot$ci", "wrong"))).status_code == 401
        assert (await client.get("/v2/", auth=("robot$ci", "secret"))).status_code == 200


async def test_blob_redirect_target_refuses_credentials():
    async with (
        MemoryRegistry(username="robot", password="secret", redirect_blobs=True) as registry,
        httpx.AsyncClient(
            base_url=f"http://{registry.host}", trust_env=False, verify=NO_AUTHORITIES
        ) as client,
    ):
        digest = registry.store.put_blob("team/app", BLOB)
        response = await client.get(f"/v2/team/app/blobs/{digest}", auth=("robot", "secret"))
        assert response.status_code == 307
        location = response.headers["Location"]
        assert location.startswith(f"http://{registry.blob_host}/")
        assert registry.blob_host != registry.host
        assert (await client.get(location)).content == BLOB
        assert (await client.get(location, headers={"Range": "bytes=8-"})).content == BLOB[8:]
        assert (await client.get(location, auth=("robot", "secret"))).status_code == 400
        head = await client.head(f"/v2/team/app/blobs/{digest}", auth=("robot", "secret"))
        assert head.headers["Content-Length"] == "10"


async def test_a_taken_port_is_named(memory):
    port = int(memory.host.partition(":")[2])
    with pytest.raises(PortInUse, match=f"port {port} of 127.0.0.1 is in use"):
        async with MemoryRegistry(port=port):
            pass


async def test_expect_continue_is_answered_before_the_body(client, memory):
    digest = Digest.of(BLOB)
    response = await client.post(
        "/v2/team/app/blobs/uploads/",
        params={"digest": digest},
        content=BLOB,
        headers={"Expect": "100-continue"},
    )
    assert response.status_code == 201
