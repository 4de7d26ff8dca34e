"""Pushing: distribution-spec 1.1, "Pushing blobs" and "Pushing manifests"."""

import json

import anyio
import httpx
import pytest

from syncer.demo import MemoryRegistry
from syncer.demo.images import make_image
from syncer.oci import media_types
from syncer.oci.digest import Digest
from tests.support.plain_http import NO_AUTHORITIES

UPLOADS = "/v2/team/app/blobs/uploads/"
BLOB = b"a blob that comes in two parts"
DIGEST = Digest.of(BLOB)


@pytest.fixture
async def session(client):
    """Where an upload session goes on that was just begun."""
    response = await client.post(UPLOADS)
    assert response.status_code == 202
    return response.headers["Location"]


def error(response, status):
    assert response.status_code == status
    return response.json()["errors"][0]["code"]


async def patch(client, location, start, end):
    return await client.patch(
        location, content=BLOB[start:end], headers={"Content-Range": f"{start}-{end - 1}"}
    )


async def assert_pullable(client, response, digest=DIGEST, content=BLOB):
    assert response.status_code == 201
    assert response.headers["Docker-Content-Digest"] == digest
    assert (await client.get(response.headers["Location"])).content == content


async def test_a_blob_goes_up_by_post_and_put(client, session):
    response = await client.put(session, params={"digest": DIGEST}, content=BLOB)
    await assert_pullable(client, response)


async def test_a_blob_goes_up_by_one_post(client):
    response = await client.post(UPLOADS, params={"digest": DIGEST}, content=BLOB)
    await assert_pullable(client, response)


async def test_a_blob_goes_up_in_one_stream(client, session):
    async def stream():
        yield BLOB[:7]
        yield BLOB[7:]

    response = await client.patch(session, content=stream())
    assert response.status_code == 202
    response = await client.put(response.headers["Location"], params={"digest": DIGEST})
    await assert_pullable(client, response)


async def test_a_blob_goes_up_in_chunks(client, session):
    response = await patch(client, session, 0, 10)
    assert response.status_code == 202
    assert response.headers["Range"] == "0-9"
    response = await patch(client, response.headers["Location"], 10, len(BLOB))
    response = await client.put(response.headers["Location"], params={"digest": DIGEST})
    await assert_pullable(client, response)


async def test_the_last_chunk_may_come_with_the_put(client, session):
    await patch(client, session, 0, 10)
    response = await client.put(
        session,
        params={"digest": DIGEST},
        content=BLOB[10:],
        headers={"Content-Range": f"10-{len(BLOB) - 1}"},
    )
    await assert_pullable(client, response)


@pytest.mark.parametrize("content_range", ["5-9", "0-4", "4-2", "first-last"])
async def test_chunk_out_of_order_is_416_with_the_current_range(client, session, content_range):
    await patch(client, session, 0, 4)
    response = await client.patch(session, content=b"12345", headers={"Content-Range": content_range})
    assert error(response, 416) == "BLOB_UPLOAD_INVALID"
    assert response.headers["Range"] == "0-3"
    assert response.headers["Location"] == session


async def test_session_status_returns_the_received_range(client, session):
    await patch(client, session, 0, 10)
    response = await client.get(session)
    assert response.status_code == 204
    assert response.headers["Range"] == "0-9"
    assert response.headers["Location"] == session


async def test_received_bytes_are_kept_after_a_broken_connection(client, session, memory):
    async def broken():
        yield BLOB[:10]
        raise ConnectionError

    with pytest.raises(ConnectionError):
        await client.patch(session, content=broken())
    # The registry may read what came before the break a little later than the client asks.
    with anyio.fail_after(60):
        while (await client.get(session)).headers["Range"] != "0-9":
            pass
    response = await client.put(session, params={"digest": DIGEST}, content=BLOB[10:])
    await assert_pullable(client, response)


async def test_a_cancelled_session_is_gone(client, session, memory):
    assert memory.open_uploads == 1
    assert (await client.delete(session)).status_code == 204
    assert memory.open_uploads == 0
    for method in ("GET", "DELETE", "PATCH", "PUT"):
        response = await client.request(method, session, params={"digest": DIGEST})
        assert error(response, 404) == "BLOB_UPLOAD_UNKNOWN"


async def test_a_session_belongs_to_its_repository(client, session):
    response = await client.get(session.replace("team/app", "team/other"))
    assert error(response, 404) == "BLOB_UPLOAD_UNKNOWN"


async def test_a_blob_without_the_digest_it_claims_is_refused(client, session, memory):
    response = await client.put(session, params={"digest": DIGEST}, content=b"something else")
    assert error(response, 400) == "DIGEST_INVALID"
    response = await client.post(UPLOADS, params={"digest": DIGEST}, content=b"something else")
    assert error(response, 400) == "DIGEST_INVALID"
    assert memory.store.blob("team/app", DIGEST) is None


@pytest.mark.parametrize("query", [{}, {"digest": "sha256:short"}, {"digest": "md5:0123"}])
async def test_a_put_needs_a_digest(client, session, query):
    assert error(await client.put(session, params=query, content=BLOB), 400) == "DIGEST_INVALID"


async def test_other_digest_algorithms_are_checked_too(client, session):
    digest = Digest.of(BLOB, "sha512")
    response = await client.put(session, params={"digest": digest}, content=BLOB)
    await assert_pullable(client, response, digest)
    response = await client.post(UPLOADS, params={"digest": digest}, content=b"something else")
    assert error(response, 400) == "DIGEST_INVALID"


async def test_upload_to_an_invalid_name_is_refused(client):
    assert error(await client.post("/v2/Team/app/blobs/uploads/"), 400) == "NAME_INVALID"


async def test_a_registry_may_announce_how_small_chunks_may_be():
    async with (
        MemoryRegistry(chunk_min_length=1000) as registry,
        httpx.AsyncClient(trust_env=False, verify=NO_AUTHORITIES) as client,
    ):
        response = await client.post(f"http://{registry.host}{UPLOADS}")
        assert response.headers["OCI-Chunk-Min-Length"] == "1000"


async def test_a_blob_is_mounted_from_another_repository(client, memory):
    memory.store.put_blob("team/base", BLOB)
    response = await client.post(UPLOADS, params={"mount": DIGEST, "from": "team/base"})
    assert response.headers["Location"] == f"/v2/team/app/blobs/{DIGEST}"
    await assert_pullable(client, response)


@pytest.mark.parametrize("source", [{}, {"from": "team/nothing"}, {"from": "team/empty"}])
async def test_failed_mount_opens_an_upload_session(client, memory, source):
    memory.store.put_blob("team/empty", b"not this one")
    response = await client.post(UPLOADS, params={"mount": DIGEST, **source})
    assert response.status_code == 202
    response = await client.put(response.headers["Location"], params={"digest": DIGEST}, content=BLOB)
    await assert_pullable(client, response)


def manifest(config=b"{}", layers=(b"layer",), **more):
    def descriptor(content, media_type):
        return {"mediaType": media_type, "digest": Digest.of(content), "size": len(content)}

    document = {
        "schemaVersion": 2,
        "config": descriptor(config, media_types.OCI_CONFIG),
        "layers": [descriptor(layer, "application/vnd.oci.image.layer.v1.tar") for layer in layers],
        **more,
    }
    return json.dumps(document).encode()


@pytest.fixture
def blobs(memory):
    memory.store.put_blob("team/app", b"{}")
    memory.store.put_blob("team/app", b"layer")


async def push(client, raw, reference="v1", media_type=media_types.OCI_MANIFEST):
    headers = {"Content-Type": media_type} if media_type else {}
    return await client.put(f"/v2/team/app/manifests/{reference}", content=raw, headers=headers)


async def test_a_manifest_is_kept_as_it_came(client, blobs):
    raw = manifest() + b"\n  "
    response = await push(client, raw)
    assert response.status_code == 201
    assert response.headers["Docker-Content-Digest"] == Digest.of(raw)
    assert response.headers["Location"] == f"/v2/team/app/manifests/{Digest.of(raw)}"
    pulled = await client.get("/v2/team/app/manifests/v1")
    assert pulled.content == raw
    assert pulled.headers["Content-Type"] == media_types.OCI_MANIFEST


async def test_a_tag_moves_to_the_manifest_that_was_pushed_last(client, blobs):
    await push(client, manifest())
    await push(client, manifest(layers=()))
    assert (await client.get("/v2/team/app/manifests/v1")).content == manifest(layers=())
    assert (await client.get("/v2/team/app/tags/list")).json()["tags"] == ["v1"]


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
async def test_a_manifest_pushed_by_digest_has_no_tag(client, blobs, algorithm):
    digest = Digest.of(manifest(), algorithm)
    response = await push(client, manifest(), digest)
    assert response.headers["Docker-Content-Digest"] == digest
    assert (await client.get(f"/v2/team/app/manifests/{digest}")).content == manifest()
    assert (await client.get("/v2/team/app/tags/list")).json()["tags"] == []


async def test_a_manifest_without_the_digest_it_claims_is_refused(client, blobs):
    assert error(await push(client, manifest(), DIGEST), 400) == "DIGEST_INVALID"


async def test_manifest_with_missing_blobs_is_refused_with_each_digest(client, memory):
    memory.store.put_blob("team/base", b"layer")
    response = await push(client, manifest())
    assert error(response, 404) == "MANIFEST_BLOB_UNKNOWN"
    missing = {entry["detail"]["digest"] for entry in response.json()["errors"]}
    assert missing == {Digest.of(b"{}"), Digest.of(b"layer")}


async def test_an_index_needs_its_children(client, memory):
    child = {"mediaType": media_types.OCI_MANIFEST, "digest": DIGEST, "size": 1}
    raw = json.dumps({"schemaVersion": 2, "manifests": [child]}).encode()
    response = await push(client, raw, media_type=media_types.OCI_INDEX)
    assert error(response, 404) == "MANIFEST_BLOB_UNKNOWN"


async def test_foreign_layers_and_the_subject_need_not_be_there(client, blobs):
    absent = {"mediaType": media_types.OCI_MANIFEST, "digest": DIGEST, "size": 1}
    foreign = {**absent, "urls": ["https://example.com/layer"]}
    document = json.loads(manifest())
    document["layers"].append(foreign)
    response = await push(client, json.dumps({**document, "subject": absent}).encode())
    assert response.status_code == 201
    assert response.headers["OCI-Subject"] == DIGEST


@pytest.mark.parametrize("raw", [b"blablabla", b"[]", b"{}", b'{"schemaVersion": 2}'])
async def test_invalid_manifest_is_refused(client, raw):
    assert error(await push(client, raw, media_type="application/json"), 400) == "MANIFEST_INVALID"


BARE = {"mediaType": "application/octet-stream", "digest": DIGEST, "size": 1}


@pytest.mark.parametrize(
    "change",
    [
        {"schemaVersion": 1},
        {"manifests": []},
        {"config": None},
        {"layers": "none"},
        {"layers": [{**BARE, "digest": "sha256:short"}]},
        {"layers": [{**BARE, "size": -1}]},
        {"layers": [{"digest": DIGEST, "size": 1}]},
        {"subject": {"digest": DIGEST}},
    ],
)
async def test_manifest_that_breaks_the_image_spec_is_refused(client, blobs, change):
    document = {**json.loads(manifest()), **change}
    assert error(await push(client, json.dumps(document).encode()), 400) == "MANIFEST_INVALID"


async def test_a_content_type_that_contradicts_the_manifest_is_refused(client, blobs):
    raw = manifest(mediaType=media_types.OCI_MANIFEST)
    response = await push(client, raw, media_type=media_types.DOCKER_MANIFEST)
    assert error(response, 400) == "MANIFEST_INVALID"


async def test_manifest_without_content_type_uses_its_media_type(client, blobs):
    assert (await push(client, manifest(), media_type="")).status_code == 201
    pulled = await client.get("/v2/team/app/manifests/v1")
    assert pulled.headers["Content-Type"] == media_types.OCI_MANIFEST


async def test_invalid_tag_is_refused(client, blobs):
    assert error(await push(client, manifest(), ".hidden"), 400) == "MANIFEST_INVALID"


async def test_manifests_may_have_4_mebibytes_and_no_more(client, blobs):
    limit = 4 * 1024 * 1024
    fits = manifest().ljust(limit)
    assert (await push(client, fits)).status_code == 201
    assert (await push(client, fits + b" ")).status_code == 413

    async def stream():
        yield fits
        yield b" "

    assert (await push(client, stream())).status_code == 413


async def test_a_docker_image_keeps_its_media_type(client, memory):
    image = make_image(memory.store, "team/app", "v1", layers=[], docker=True)
    pulled = await client.get("/v2/team/app/manifests/v1")
    assert pulled.headers["Content-Type"] == image.media_type == media_types.DOCKER_MANIFEST
