"""Pulling: distribution-spec 1.1, "Pulling manifests" and "Pulling blobs"."""

import pytest

from syncer.demo.images import make_image, make_layer
from syncer.oci import media_types
from syncer.oci.digest import Digest

UNKNOWN = Digest.of(b"nowhere")
BLOB = bytes(range(200))


@pytest.fixture
def image(memory):
    return make_image(memory.store, "team/app", "v1", layers=[make_layer({"file": b"content"})])


@pytest.fixture
def blob(memory):
    return memory.store.put_blob("team/app", BLOB)


@pytest.fixture
def blob_url(blob):
    return f"/v2/team/app/blobs/{blob}"


def code(response):
    return response.json()["errors"][0]["code"]


@pytest.mark.parametrize("path", ["/v2/", "/v2"])
async def test_base_endpoint_reports_api_support(client, path):
    assert (await client.get(path)).status_code == 200


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_a_manifest_is_found_by_tag_and_by_digest(client, image, method):
    for reference in ("v1", image.digest):
        response = await client.request(method, f"/v2/team/app/manifests/{reference}")
        assert response.status_code == 200
        assert response.headers["Docker-Content-Digest"] == image.digest
        assert response.headers["Content-Type"] == media_types.OCI_MANIFEST
        assert int(response.headers["Content-Length"]) == image.size
        assert len(response.content) == (image.size if method == "GET" else 0)


async def test_a_manifest_comes_byte_for_byte(client, image):
    response = await client.get("/v2/team/app/manifests/v1")
    assert Digest.of(response.content) == image.digest


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("reference", ["v2", UNKNOWN, ".INVALID_NAME"])
async def test_a_missing_manifest_is_404(client, image, method, reference):
    response = await client.request(method, f"/v2/team/app/manifests/{reference}")
    assert response.status_code == 404
    assert method == "HEAD" or code(response) == "MANIFEST_UNKNOWN"


async def test_a_reference_that_is_nearly_a_digest_is_refused(client, image):
    response = await client.get("/v2/team/app/manifests/sha256:totallywrong")
    assert response.status_code == 400
    assert code(response) == "DIGEST_INVALID"


@pytest.mark.parametrize("rest", [f"blobs/{UNKNOWN}", "manifests/v1", "tags/list"])
async def test_an_unknown_repository_is_404(client, rest):
    response = await client.get(f"/v2/team/nothing/{rest}")
    assert response.status_code == 404
    assert code(response) == "NAME_UNKNOWN"


@pytest.mark.parametrize("name", ["Team/app", "team//app", "team/-app", "a" * 256])
async def test_invalid_repository_name_is_refused(client, name):
    response = await client.get(f"/v2/{name}/tags/list")
    assert response.status_code == 400
    assert code(response) == "NAME_INVALID"


async def test_repository_name_may_contain_api_path_segments(client, memory):
    blob = memory.store.put_blob("blobs/uploads/manifests/tags", b"x")
    response = await client.get(f"/v2/blobs/uploads/manifests/tags/blobs/{blob}")
    assert response.content == b"x"


async def test_a_blob_comes_whole(client, blob, blob_url):
    response = await client.get(blob_url)
    assert response.status_code == 200
    assert response.headers["Docker-Content-Digest"] == blob
    assert response.content == BLOB


async def test_head_of_a_blob_returns_its_length(client, blob, blob_url):
    response = await client.head(blob_url)
    assert response.status_code == 200
    assert response.headers["Content-Length"] == "200"
    assert response.headers["Docker-Content-Digest"] == blob
    assert response.content == b""


async def test_a_large_blob_comes_whole(client, memory):
    content = bytes(3_000_000)
    digest = memory.store.put_blob("team/app", content)
    assert (await client.get(f"/v2/team/app/blobs/{digest}")).content == content
    assert (await client.head(f"/v2/team/app/blobs/{digest}")).headers["Content-Length"] == "3000000"


async def test_an_empty_blob_is_a_blob(client, memory):
    digest = memory.store.put_blob("team/app", b"")
    response = await client.get(f"/v2/team/app/blobs/{digest}")
    assert (response.status_code, response.content) == (200, b"")


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_a_missing_blob_is_404(client, blob, method):
    response = await client.request(method, f"/v2/team/app/blobs/{UNKNOWN}")
    assert response.status_code == 404
    assert method == "HEAD" or code(response) == "BLOB_UNKNOWN"


async def test_a_blob_of_another_repository_is_unknown(client, memory, blob):
    memory.store.put_blob("team/other", b"other")
    assert (await client.get(f"/v2/team/other/blobs/{blob}")).status_code == 404


@pytest.mark.parametrize(
    ("asked", "start", "end"),
    [
        ("bytes=0-9", 0, 10),
        ("bytes=100-", 100, 200),
        ("bytes=-5", 195, 200),
        ("bytes=-500", 0, 200),
        ("bytes=190-900", 190, 200),
        ("bytes=199-199", 199, 200),
    ],
)
async def test_range_request_returns_part_of_a_blob(client, blob_url, asked, start, end):
    response = await client.get(blob_url, headers={"Range": asked})
    assert response.status_code == 206
    assert response.headers["Content-Range"] == f"bytes {start}-{end - 1}/200"
    assert response.content == BLOB[start:end]


@pytest.mark.parametrize("asked", ["bytes=200-", "bytes=9-3", "bytes=-0"])
async def test_unsatisfiable_range_is_416(client, blob_url, asked):
    response = await client.get(blob_url, headers={"Range": asked})
    assert response.status_code == 416
    assert response.headers["Content-Range"] == "bytes */200"


@pytest.mark.parametrize("asked", ["bytes=0-1,4-5", "lines=1-2", "bytes=-"])
async def test_invalid_range_returns_the_whole_blob(client, blob_url, asked):
    response = await client.get(blob_url, headers={"Range": asked})
    assert response.status_code == 200
    assert response.content == BLOB


async def test_unsupported_method_is_405(client, image):
    response = await client.post("/v2/team/app/manifests/v1")
    assert response.status_code == 405
    assert code(response) == "UNSUPPORTED"


async def test_unknown_endpoint_is_404(client):
    assert (await client.get("/v1/search")).status_code == 404
