"""Images with unusual content: they are copied unchanged, or the error states the reason."""

import json

import pytest

from syncer.demo.images import make_artifact, make_image, make_index, make_layer, noise
from syncer.oci import media_types
from syncer.oci.digest import Digest
from tests.support.schema1 import sign
from tests.support.wire import same

LAYER = make_layer({"a": b"a"})
ONE = {"here/app:1": "there/app"}
ABSENT = f"sha256:{'3' * 64}"


@pytest.fixture
def put(source):
    """Store a manifest with the given layers and an empty config under the tag 1."""

    def putting(*layers, **more):
        config = source.store.put_blob("app", b"{}")
        document = {
            "schemaVersion": 2,
            "mediaType": media_types.OCI_MANIFEST,
            "config": {"mediaType": media_types.OCI_EMPTY, "digest": config, "size": 2},
            "layers": list(layers),
            **more,
        }
        return source.store.put_manifest(
            "app", json.dumps(document).encode(), document["mediaType"], reference="1"
        )

    return putting


def layer(content, **more):
    return {
        "mediaType": "application/octet-stream",
        "digest": Digest.of(content),
        "size": len(content),
        **more,
    }


@pytest.fixture
def arrived(source, target):
    return lambda: same(source.store, target.store, "app")


async def test_foreign_layer_is_not_copied(here, net, put, target):
    put(layer(b"windows", urls=["https://example.com/layer"]))
    assert (await net.sync(ONE, retries=0)).counts == (1, 0, 0)
    assert here.count("GET", f"*/blobs/{Digest.of(b'windows')}") == 0
    assert target.store.digest("app", "1")


async def test_empty_blob_is_copied(net, put, source, arrived):
    source.store.put_blob("app", b"")
    put(layer(b""))
    assert (await net.sync(ONE, retries=0)).counts == (1, 0, 0)
    assert arrived()


async def test_duplicate_layer_is_copied_once(here, net, put, source, arrived):
    source.store.put_blob("app", b"twice")
    put(layer(b"twice"), layer(b"twice"))
    assert (await net.sync(ONE, retries=0)).counts == (1, 0, 0)
    assert arrived()
    assert here.count("GET", f"*/blobs/{Digest.of(b'twice')}") == 1


async def test_artifact_with_subject_is_copied(net, source, target):
    image = make_image(source.store, "app", "0", layers=[LAYER])
    make_artifact(source.store, "app", "1", artifact_type="a/b", content=b"sbom", subject=image)
    assert (await net.sync({"here/app:0,1": "there/app"}, retries=0)).counts == (2, 0, 0)
    assert same(source.store, target.store, "app")


async def test_nested_index_and_children_without_platform_are_copied(net, source, arrived):
    image = make_image(source.store, "app", layers=[LAYER])
    inner = make_index(source.store, "app", children=[image])
    make_index(source.store, "app", "1", children=[inner])
    assert (await net.sync(ONE, retries=0)).counts == (1, 0, 0)
    assert arrived()


async def test_index_nested_too_deeply_is_rejected(net, source):
    child = make_image(source.store, "app", layers=[LAYER])
    for _ in range(6):
        child = make_index(source.store, "app", "1", children=[child])
    outcome = await net.sync(ONE, retries=0)
    assert "indexes within indexes" in outcome.failed[0].failure.message


async def test_missing_child_fails_only_its_image(here, net, source):
    make_image(source.store, "app", "0", layers=[LAYER])
    image = make_image(source.store, "app", layers=[make_layer({"b": b"b"})])
    make_index(source.store, "app", "1", children=[image])
    here.on("*", f"/v2/app/manifests/{image.digest}", status=404)
    outcome = await net.sync({"here/app:0,1": "there/app"}, retries=0)
    assert outcome.counts == (1, 0, 1)
    assert image.digest in outcome.failed[0].failure.message


async def test_index_with_too_many_children_is_rejected(here, net):
    entry = {"mediaType": media_types.OCI_MANIFEST, "digest": ABSENT, "size": 1}
    index = {"schemaVersion": 2, "mediaType": media_types.OCI_INDEX, "manifests": [entry] * 10_001}
    here.on("GET", "*/manifests/*", status=200, body=json.dumps(index).encode())
    outcome = await net.sync(ONE, retries=0)
    assert "has 10001 descriptors" in outcome.failed[0].failure.message


SCHEMA_1 = {
    "schemaVersion": 1,
    "name": "app",
    "tag": "1",
    "fsLayers": [{"blobSum": Digest.of(b"old layer")}],
    "history": [],
}


async def test_schema_1_image_is_copied_unchanged(here, there, net, source, target):
    source.store.put_blob("app", b"old layer")
    raw, kind = json.dumps(SCHEMA_1).encode(), media_types.DOCKER_SCHEMA1
    here.on("GET", "*/manifests/*", status=200, body=raw, headers={"content-type": kind})
    there.on("PUT", "*/manifests/*", status=201)
    assert (await net.sync(ONE, retries=0)).counts == (1, 0, 0)
    pushed = next(asked for asked in there.requests if asked.method == "PUT" and "manifests" in asked.path)
    assert pushed.headers["content-type"] == kind
    assert pushed.received == len(raw)
    assert target.store.blob("app", Digest.of(b"old layer")) == b"old layer"


async def test_refused_schema_1_image_is_unsupported(here, there, net, source):
    source.store.put_blob("app", b"old layer")
    here.on(
        "GET",
        "*/manifests/*",
        status=200,
        body=json.dumps(SCHEMA_1).encode(),
        headers={"content-type": media_types.DOCKER_SCHEMA1},
    )
    there.on("PUT", "*/manifests/*", status=400, body=b'{"errors": [{"code": "MANIFEST_INVALID"}]}')
    outcome = await net.sync(ONE, retries=3)
    assert outcome.failed[0].failure.kind == "unsupported"
    assert "schema 1" in outcome.failed[0].failure.message


async def test_accept_header_lists_every_supported_manifest_type(here, there, net, source):
    make_image(source.store, "app", "1", layers=[LAYER])
    for _ in range(2):
        await net.sync(ONE)
    for asked in (*here.requests, *there.requests):
        if "/manifests/" in asked.path and asked.method in {"GET", "HEAD"}:
            assert asked.headers["accept"] == media_types.ACCEPT


@pytest.mark.parametrize("status", [408, 425, 500, 502, 503, 504, 520, 521, 522, 523, 524])
async def test_temporary_error_is_retried(here, net, source, arrived, status):
    make_image(source.store, "app", "1", layers=[LAYER])
    here.on("*", "*/manifests/*", status=status, times=2)
    assert (await net.sync(ONE, retries=0)).counts == (1, 0, 0)
    assert arrived()


@pytest.mark.parametrize("status", [400, 403, 404, 405, 410, 413, 415, 422])
async def test_permanent_error_is_not_retried(here, net, source, status):
    make_image(source.store, "app", "1", layers=[LAYER])
    here.on("GET", "*/manifests/*", status=status)
    outcome = await net.sync(ONE, retries=3)
    assert outcome.failed[0].failure.permanent
    assert "trying again" not in outcome.failed[0].failure.message
    assert here.count("GET", "*/manifests/*") == 1


async def test_retry_after_delays_all_requests_to_the_registry(here, net, source):
    make_image(source.store, "app", "1", layers=[LAYER])
    make_image(source.store, "other", "1", layers=[LAYER])
    here.on("GET", "*/manifests/*", status=429, headers={"retry-after": "1"}, times=1)
    outcome = await net.sync({**ONE, "here/other:1": "there/other"}, retries=0)
    assert outcome.counts == (2, 0, 0)
    assert outcome.result.seconds >= 1


# --- incomplete descriptors ------------------------------------------------------------------------------------------

NOTHING = {"absent": {}, "null": {"size": None}, "-1": {"size": -1}}


@pytest.fixture
def stores(source, target):
    return source.store, target.store


@pytest.fixture
def put_raw(here, there):
    """Make the source serve a document for the tag 1. The destination accepts it without validation."""

    def putting(document):
        raw = json.dumps(document).encode()
        reply = {"status": 200, "body": raw, "headers": {"content-type": document["mediaType"]}}
        here.on("GET", "*/manifests/1", **reply)
        there.on("PUT", "*/manifests/1", status=201, headers={"docker-content-digest": Digest.of(raw)})
        return raw

    return putting


def sparse(content, stated):
    return {"mediaType": None, "digest": Digest.of(content), **stated}


@pytest.mark.parametrize("stated", NOTHING.values(), ids=NOTHING.keys())
@pytest.mark.parametrize("filtered", [False, True], ids=["as it is", "filtered"])
@pytest.mark.parametrize("layer", [b"layer", noise("large", 600_000)], ids=["small", "large"])
async def test_missing_blob_size_is_taken_from_registry(net, stores, put_raw, *, stated, filtered, layer):
    source, target = stores
    config = json.dumps({"os": "linux", "architecture": "amd64"}).encode()
    for content in (config, layer):
        source.put_blob("app", content)
    raw = put_raw(
        {
            "schemaVersion": 2,
            "mediaType": media_types.OCI_MANIFEST,
            "config": sparse(config, stated),
            "layers": [sparse(layer, stated)],
        }
    )
    rule = {"to": "there/app", "platforms": ["linux/amd64"]} if filtered else "there/app"
    outcome = await net.sync({"here/app:1": rule}, retries=0)
    assert [event.digest for event in outcome.synced] == [Digest.of(raw)]
    assert target.blob("app", Digest.of(layer)) == layer
    assert target.blob("app", Digest.of(config)) == config


@pytest.mark.parametrize("stated", NOTHING.values(), ids=NOTHING.keys())
async def test_child_without_size_is_copied(net, stores, put_raw, stated):
    source, target = stores
    image = make_image(source, "app", layers=[LAYER])
    child = {"mediaType": None, "digest": image.digest, **stated}
    put_raw({"schemaVersion": 2, "mediaType": media_types.OCI_INDEX, "manifests": [child]})
    assert (await net.sync(ONE, retries=0)).counts == (1, 0, 0)
    assert target.manifest("app", image.digest)


@pytest.mark.parametrize("size", [4, 6])
async def test_wrong_blob_size_is_reported(net, put, source, size):
    source.store.put_blob("app", b"layer")
    put({**layer(b"layer"), "size": size})
    outcome = await net.sync(ONE, retries=0)
    assert outcome.failed[0].failure.kind == "digest_mismatch"
    assert f"has 5 bytes instead of the {size} in its manifest" in outcome.failed[0].failure.message


@pytest.mark.parametrize("size", [-2, 2**60])
async def test_invalid_blob_size_is_reported(here, net, put_raw, size):
    document = {
        "schemaVersion": 2,
        "mediaType": media_types.OCI_MANIFEST,
        "layers": [{**layer(b""), "size": size}],
    }
    put_raw(document)
    outcome = await net.sync(ONE, retries=0)
    assert f"invalid size {size}" in outcome.failed[0].failure.message


# --- signed schema 1 -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
async def test_signed_schema_1_image_is_verified_by_payload_digest(here, there, net, source, algorithm):
    source.store.put_blob("app", b"old layer")
    payload = json.dumps(SCHEMA_1, indent=3).encode()
    digest, raw = Digest.of(payload, algorithm), sign(payload)
    here.on(
        "GET",
        "*/manifests/*",
        status=200,
        body=raw,
        headers={"content-type": media_types.DOCKER_SCHEMA1_SIGNED},
    )
    there.on("PUT", "*/manifests/*", status=201, headers={"docker-content-digest": Digest.of(payload)})
    outcome = await net.sync({f"here/app:1@{digest}": "there/app"}, retries=0)
    # The report has the digest that the destination uses.
    assert [event.digest for event in outcome.synced] == [Digest.of(payload)]


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
async def test_content_with_signed_media_type_is_verified(here, there, net, source, algorithm):
    make_image(source.store, "app", "1", layers=[LAYER])
    here.on(
        "GET",
        "*/manifests/*",
        status=200,
        body=source.store.get_manifest("app", "1").raw,
        headers={"content-type": media_types.DOCKER_SCHEMA1_SIGNED},
    )
    digest = Digest.of(b"what the rule names", algorithm)
    outcome = await net.sync({f"here/app:1@{digest}": "there/app"}, retries=0)
    assert outcome.counts == (0, 0, 1)
    assert there.count("PUT", "*/manifests/*") == 0


# --- ambiguous documents ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [media_types.OCI_INDEX, media_types.DOCKER_MANIFEST])
async def test_content_type_that_contradicts_media_type_is_rejected(here, net, source, kind):
    make_image(source.store, "app", "1", layers=[LAYER])
    here.on("GET", "*/manifests/*", rewrite=lambda headers: headers.update({"content-type": kind}))
    outcome = await net.sync(ONE, retries=0)
    assert "ambiguous" in outcome.failed[0].failure.message


async def test_document_with_children_and_layers_is_rejected(here, net, put_raw):
    put_raw(
        {"schemaVersion": 2, "mediaType": media_types.OCI_INDEX, "manifests": [], "layers": [layer(b"layer")]}
    )
    outcome = await net.sync(ONE, retries=0)
    assert "ambiguous" in outcome.failed[0].failure.message


# --- oversized responses ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [200, 404])
async def test_oversized_response_is_not_read_completely(here, net, status):
    body = b'{"errors": [{"code": "NO", "message": "no such thing"}]}' + b" " * 50_000_000
    here.on("GET", "*/manifests/*", status=status, body=body)
    outcome = await net.sync(ONE, retries=0)
    assert outcome.failed[0].failure.kind == ("too_large" if status == 200 else "not_found")
