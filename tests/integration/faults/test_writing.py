"""Writes to registries that refuse upload methods, lose sessions, or close connections."""

import pytest

from syncer.demo import MemoryRegistry
from syncer.demo.images import Layer, make_image, make_index, make_layer, noise
from syncer.events import SkipReason
from syncer.oci.digest import Digest
from syncer.places.registry import capabilities, pieces
from tests.support.faults import Faults, Reply
from tests.support.wire import same

BIG = make_layer({"big": noise("big", 5_000_000)})
BIG_BLOB = f"/v2/app/blobs/{Digest.of(BIG.content)}"
UPLOADS = "/v2/app/blobs/uploads/*"
MANIFESTS = "/v2/app/manifests/*"
ONE = {"here/app:1": "there/app"}


@pytest.fixture(autouse=True)
def image(source):
    return make_image(source.store, "app", "1", layers=[BIG])


@pytest.fixture
def arrived(source, target):
    return lambda: same(source.store, target.store, "app")


def big(faults, method):
    """Return the requests with `method` that sent most of the big layer."""
    return [
        asked
        for asked in faults.requests
        if asked.method == method and int(asked.headers.get("content-length", 0)) > 1_000_000
    ]


def error(code, message=""):
    return f'{{"errors": [{{"code": "{code}", "message": "{message}"}}]}}'.encode()


# --- upload methods ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [404, 405, 411, 413, 415, 501])
@pytest.mark.parametrize("early", [False, True], ids=["after the body", "before the body"])
async def test_monolithic_put_refused_falls_back_to_patch(there, net, arrived, status, early):
    there.on("PUT", UPLOADS, status=status, over=0, early=early)
    assert (await net.sync(ONE, retries=0)).counts == (1, 0, 0)
    assert arrived()
    assert not any("content-range" in asked.headers for asked in there.requests)


async def test_refused_upload_method_is_remembered_for_all_repositories(there, net, source, target):
    for number in range(6):
        layer = make_layer({"x": noise(f"{number}", 300_000)})
        make_image(source.store, f"app{number}", "1", layers=[layer])
    there.on("PUT", "*/blobs/uploads/*", status=405, over=0)
    rules = {f"here/app{number}:1": f"there/app{number}" for number in range(6)}
    assert (await net.sync(rules, transfers=1, retries=0)).counts == (6, 0, 0)
    refused = [asked for asked in there.requests if asked.status == 405]
    assert len(refused) <= 4  # those that were on their way when the first was refused


async def test_413_affects_only_larger_blobs(there, net, arrived):
    there.on("PUT", UPLOADS, status=413, over=1_000_000)
    assert (await net.sync(ONE, retries=0)).counts == (1, 0, 0)
    assert there.count("PATCH") == 1
    assert arrived()


async def test_single_patch_refused_falls_back_to_chunks(there, net, arrived, monkeypatch):
    monkeypatch.setattr(capabilities, "CHUNK", 2_000_000)

    there.on("*", UPLOADS, status=413, over=2_000_000)
    assert (await net.sync(ONE, retries=0)).counts == (1, 0, 0)
    assert arrived()
    ranges = [asked.headers["content-range"] for asked in there.requests if "content-range" in asked.headers]
    assert ranges[0] == "0-1999999"
    assert len(ranges) == 3


async def test_refused_chunks_get_smaller(there, net, arrived, monkeypatch):
    monkeypatch.setattr(capabilities, "CHUNK", 4_200_000)

    there.on("*", UPLOADS, status=413, over=1_100_000)
    assert (await net.sync(ONE, retries=0)).counts == (1, 0, 0)
    assert arrived()


async def test_chunks_respect_minimum_length_of_registry(here, net, arrived, source, monkeypatch):
    monkeypatch.setattr(capabilities, "CHUNK", 1_000_000)
    async with MemoryRegistry(chunk_min_length=3_000_000) as picky, Faults(picky.host) as there:
        net.registries["there"] = there
        there.on("PUT", UPLOADS, status=405, over=0)
        there.on(
            "PATCH", UPLOADS, reply=lambda asked: None if "content-range" in asked.headers else Reply(405)
        )
        assert (await net.sync(ONE, retries=0)).counts == (1, 0, 0)
        sizes = [int(a.headers["content-length"]) for a in there.requests if "content-range" in a.headers]
        assert max(sizes) == 3_000_000


async def test_connection_closed_on_each_put_falls_back_to_patch(there, net, arrived):
    there.on("PUT", UPLOADS, cut_upload=100_000, over=1_000_000, times=4)
    assert (await net.sync(ONE, retries=0)).counts == (1, 0, 0)
    assert arrived()


async def test_all_upload_methods_refused_fails_with_reason(there, net):
    there.on("PUT", UPLOADS, status=413)
    there.on("PATCH", UPLOADS, status=413)
    outcome = await net.sync(ONE, retries=3)
    assert outcome.failed[0].failure.kind == "too_large"
    assert "client_max_body_size" in outcome.failed[0].failure.message


HARBOR_GC = {
    # Harbor 2.15: the response to the PUT of a blob that garbage collection is about to delete.
    "Harbor": (404, error("NOT_FOUND", "the asking blob is in GC, mark it as non existing, request id: 1")),
    "in other words": (409, error("CONFLICT", "blob is locked by a garbage collection")),
}


@pytest.mark.parametrize(("status", "body"), HARBOR_GC.values(), ids=HARBOR_GC.keys())
@pytest.mark.parametrize("method", ["PUT", "PATCH"])
async def test_blob_in_garbage_collection_is_retried(there, net, arrived, *, status, body, method):
    if method == "PATCH":
        there.on("PUT", UPLOADS, status=405, over=1_000_000, times=1)
    there.on(method, UPLOADS, status=status, body=body, over=1_000_000, times=1)
    outcome = await net.sync(ONE, retries=0)
    assert outcome.counts == (0, 0, 1)
    assert not outcome.failed[0].failure.permanent
    assert "trying again may help" in outcome.failed[0].failure.message
    there.requests.clear()
    assert (await net.sync(ONE, retries=1)).counts == (1, 0, 0)
    assert arrived()


async def test_blob_in_garbage_collection_does_not_change_upload_method(there, net, source, target):
    make_image(source.store, "app", "2", layers=[make_layer({"x": noise("x", 2_000_000)})])
    status, body = HARBOR_GC["Harbor"]
    there.on("PUT", UPLOADS, status=status, body=body, over=4_000_000, times=1)
    outcome = await net.sync({"here/app": "there/app"}, retries=1, transfers=1)
    assert outcome.counts == (2, 0, 0)
    assert there.count("PATCH") == 0
    assert len(big(there, "PUT")) == 3


@pytest.mark.parametrize("code", ["NOT_FOUND", "NAME_UNKNOWN"])
async def test_404_with_error_code_does_not_change_upload_method(there, net, code):
    there.on("PUT", UPLOADS, status=404, body=error(code, "it is gone"))
    outcome = await net.sync(ONE, retries=0)
    assert outcome.failed[0].failure.kind == "not_found"
    assert there.count("PATCH") == 0


# --- locations -------------------------------------------------------------------------------------------------------


def at(location):
    """Return a function that rewrites the Location of an upload."""

    def rewrite(headers):
        if "location" in headers and "/uploads/" in headers["location"]:
            headers["location"] = location(headers["location"])

    return rewrite


FORMS = {
    "relative": lambda host: lambda found: found[found.index("/v2/") :],
    "absolute": lambda host: lambda found: f"http://{host}{found[found.index('/v2/') :]}",
    "without a scheme": lambda host: lambda found: f"//{host}{found[found.index('/v2/') :]}",
    "with a query": lambda host: lambda found: f"{found}?state=abc%3D&x=1",
    "beside the request": lambda host: lambda found: f"./{found.rpartition('/')[2]}",
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS.keys())
async def test_upload_uses_location_in_every_form(there, net, arrived, form):
    there.on("*", UPLOADS, rewrite=at(form(there.host)))
    assert (await net.sync(ONE, retries=0)).counts == (1, 0, 0)
    assert arrived()
    queries = [
        asked.target.partition("?")[2]
        for asked in there.requests
        if asked.method == "PUT" and "uploads" in asked.path
    ]
    assert all("digest=sha256" in query for query in queries)


async def test_location_at_another_host_receives_no_credentials(net):
    async with (
        MemoryRegistry(username="me", password="hush") as guarded,
        Faults(guarded.host) as there,
        Faults(guarded.host) as other,
    ):
        net.registries["there"] = there
        net.settings["there"] = {"username": "me", "password": "hush"}
        there.on("POST", UPLOADS, rewrite=at(lambda found: f"http://{other.host}{found}"))
        other.on("*", "*", status=201)
        await net.sync(ONE, retries=0)
        assert any("authorization" in asked.headers for asked in there.requests)
        assert other.count("PUT")
        assert not any("authorization" in asked.headers for asked in other.requests)


async def test_http_location_of_tls_registry_uses_tls(target, net, ca, tmp_path, arrived):
    ca_file = tmp_path / "ca.pem"
    ca.cert_pem.write_to_path(str(ca_file))
    async with Faults(target.host, tls=ca) as there:
        net.registries["there"] = there
        net.settings["there"] = {"plain_http": False, "ca_file": str(ca_file)}
        there.on("*", UPLOADS, rewrite=at(lambda found: f"http://{there.host}{found}"))
        assert (await net.sync(ONE, retries=0)).counts == (1, 0, 0)
        assert arrived()


async def test_latest_location_is_used(there, net, arrived, monkeypatch):
    monkeypatch.setattr(capabilities, "CHUNK", 1_000_000)
    counter = iter(range(1000))
    there.on("POST", UPLOADS, rewrite=at(lambda found: f"{found}?n={next(counter)}"))
    there.on("PATCH", UPLOADS, rewrite=at(lambda found: f"{found}?n={next(counter)}"), skip=0)
    there.on("PUT", UPLOADS, status=405, over=0)
    assert (await net.sync(ONE, retries=0)).counts == (1, 0, 0)
    sent = [asked for asked in there.requests if asked.method in {"PATCH", "PUT"} and "n=" in asked.target]
    seen = [asked.target.partition("n=")[2].partition("&")[0] for asked in sent if asked.status < 300]
    assert len(set(seen)) == len(seen)


@pytest.mark.parametrize("location", ["", "ftp://x/y", "http://", "http://a b/", "http://user:x@h/"])
async def test_invalid_location_is_reported(there, net, location):
    there.on("POST", UPLOADS, status=202, headers={"location": location})
    outcome = await net.sync(ONE, retries=0)
    assert outcome.failed[0].failure.kind == "invalid"


# --- interrupted uploads -------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("relay_path")
async def test_upload_cut_twice_resumes_session(here, there, net, arrived):
    there.on("PUT", UPLOADS, cut_upload=2_000_000, over=1_000_000, times=1)
    there.on("PATCH", UPLOADS, cut_upload=1_500_000, times=1)
    assert (await net.sync(ONE, retries=0)).counts == (1, 0, 0)
    assert arrived()
    assert there.received < 1.1 * len(BIG.content)
    ranges = [asked.headers.get("range") for asked in here.requests]
    assert f"bytes=2000000-{len(BIG.content) - 1}" in ranges


@pytest.mark.usefixtures("relay_path")
async def test_upload_cut_at_docker_registry_restarts(here, docker, net, repository_name):
    docker.on("PUT", "*/blobs/uploads/*", cut_upload=2_000_000, over=1_000_000, times=1)
    outcome = await net.sync({"here/app:1": f"docker/{repository_name}"}, retries=0)
    assert outcome.counts == (1, 0, 0)
    assert docker.count("POST") == 3
    assert any(asked.status == 404 for asked in docker.requests if asked.method == "GET")


@pytest.mark.usefixtures("relay_path")
async def test_session_offset_beyond_sent_bytes_is_ignored(there, net, arrived):
    there.on("PUT", UPLOADS, cut_upload=100_000, over=1_000_000, times=1)
    there.on("GET", UPLOADS, status=204, headers={"range": "0-99999999"}, times=1)
    assert (await net.sync(ONE, retries=0)).counts == (1, 0, 0)
    assert arrived()


@pytest.mark.usefixtures("relay_path")
async def test_lost_upload_session_is_restarted(there, net, arrived):
    there.on("PUT", UPLOADS, status=404, body=error("BLOB_UPLOAD_UNKNOWN"), times=1)
    assert (await net.sync(ONE, retries=0)).counts == (1, 0, 0)
    assert arrived()
    assert there.count("PATCH") == 0


@pytest.mark.usefixtures("relay_path")
async def test_blob_stored_without_response_is_not_sent_again(there, net, arrived):
    there.on("PUT", UPLOADS, lose=True, over=1_000_000, times=1)
    assert (await net.sync(ONE, retries=0)).counts == (1, 0, 0)
    assert arrived()
    assert there.received < 1.1 * len(BIG.content)


@pytest.mark.usefixtures("relay_path")
async def test_corrupted_upload_is_sent_again(there, net, arrived):
    there.on("PUT", UPLOADS, flip_upload=50, times=1)
    assert (await net.sync(ONE, retries=0)).counts == (1, 0, 0)
    assert arrived()


@pytest.mark.usefixtures("relay_path")
async def test_repeatedly_corrupted_upload_fails(there, net):
    there.on("PUT", UPLOADS, flip_upload=50)
    outcome = await net.sync(ONE, retries=3)
    assert outcome.failed[0].failure.kind == "digest_mismatch"
    assert outcome.failed[0].failure.permanent


@pytest.mark.usefixtures("relay_path")
async def test_stalled_upload_times_out(there, net, source, monkeypatch):
    monkeypatch.setattr(pieces, "STALL_SECONDS", 0.3)
    # More than the socket buffers on the path hold.
    make_image(source.store, "huge", "1", layers=[Layer(noise("huge", 30_000_000), Digest.of(b""))])
    there.on("PUT", "*/blobs/uploads/*", stall=60, over=1_000_000, times=1)
    assert (await net.sync({"here/huge:1": "there/huge"}, retries=0)).counts == (1, 0, 0)


@pytest.mark.usefixtures("relay_path")
async def test_server_error_after_body_is_retried(there, net, arrived):
    there.on("PUT", UPLOADS, status=502, times=2)
    assert (await net.sync(ONE, retries=0)).counts == (1, 0, 0)
    assert arrived()


async def test_interrupted_destination_does_not_stop_the_other(there, docker, net, arrived, repository_name):
    there.on("PUT", UPLOADS, cut_upload=1_000_000, over=1_000_000, times=1)
    outcome = await net.sync({"here/app:1": ["there/app", f"docker/{repository_name}"]}, retries=0)
    assert outcome.counts == (2, 0, 0)
    assert arrived()
    assert docker.received < 1.1 * len(BIG.content)


async def test_interrupted_download_completes_all_uploads(here, net, arrived, repository_name):
    here.on("GET", BIG_BLOB, cut=1_000_000, times=2)
    outcome = await net.sync({"here/app:1": ["there/app", f"docker/{repository_name}"]}, retries=0)
    assert outcome.counts == (2, 0, 0)
    assert arrived()


async def test_permanent_download_failure_ends_uploads(here, there, target, net):
    here.on("GET", BIG_BLOB, cut=1_000_000, times=1)
    here.on("GET", BIG_BLOB, status=404)
    outcome = await net.sync(ONE, retries=0)
    assert outcome.failed[0].failure.kind == "not_found"
    assert target.open_uploads == 0


# --- other success statuses ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [200, 201, 203, 204])
async def test_any_success_status_with_location_opens_upload(there, net, target, arrived, status):
    def opened(_asked):
        session = target._endpoints.uploads.start("app").id
        return Reply(status, {"location": f"/v2/app/blobs/uploads/{session}"})

    there.on("POST", UPLOADS, reply=opened)
    assert (await net.sync(ONE, retries=0)).counts == (1, 0, 0)
    assert arrived()


@pytest.mark.parametrize("status", [200, 202, 203, 204])
async def test_any_success_status_stores_manifest(there, net, target, source, status):
    def stored(asked):
        source_manifest = source.store.get_manifest("app", "1")
        return Reply(status, {"docker-content-digest": source_manifest.digest})

    there.on("PUT", MANIFESTS, reply=stored)
    assert (await net.sync(ONE, retries=0)).counts == (1, 0, 0)


@pytest.mark.parametrize("status", [200, 202, 203])
async def test_any_success_status_stores_blob(there, net, target, arrived, status):
    there.on("PUT", UPLOADS, restatus=status)
    assert (await net.sync(ONE, retries=0)).counts == (1, 0, 0)
    assert arrived()


@pytest.mark.parametrize("status", [201, 203])
async def test_any_success_status_returns_content(here, net, arrived, status):
    here.on("GET", "*", restatus=status)
    here.on("HEAD", "*", restatus=status)
    assert (await net.sync({"here/app": "there/app"}, retries=0)).counts == (1, 0, 0)
    assert arrived()


@pytest.mark.parametrize("status", [200, 201, 202])
async def test_mount_response_with_upload_location_starts_upload(there, net, source, target, status):
    make_image(source.store, "other", "1", layers=[BIG])

    def opened(asked):
        if "mount=" not in asked.target:
            return None
        session = target._endpoints.uploads.start("other").id
        return Reply(status, {"location": f"/v2/other/blobs/uploads/{session}"})

    there.on("POST", "*/blobs/uploads/*", reply=opened)
    outcome = await net.sync({**ONE, "here/other:1": "there/other"}, retries=0)
    assert outcome.counts == (2, 0, 0)
    assert outcome.blobs["mounted"] == 0
    assert same(source.store, target.store, "other")


# --- mounts ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [202, 400, 401, 403, 404, 405])
async def test_mount_refused_falls_back_to_upload(there, net, source, target, status):
    make_image(source.store, "other", "1", layers=[BIG])

    def refuse(asked):
        if "mount=" not in asked.target:
            return None
        location = {"location": f"/v2/other/blobs/uploads/{target._endpoints.uploads.start('other').id}"}
        return Reply(status, location if status == 202 else {})

    there.on("POST", "*/blobs/uploads/*", reply=refuse)
    outcome = await net.sync({**ONE, "here/other:1": "there/other"}, retries=0)
    assert outcome.counts == (2, 0, 0)
    assert outcome.blobs["mounted"] == 0
    assert same(source.store, target.store, "other")


# --- mounts from the repository itself ------------------------------------------------------------------------------

FROM_ITSELF = "/v2/app/blobs/uploads/?mount=*"


def opened(faults):
    """Return whether each upload was opened as a mount, in order."""
    return ["mount=" in asked.target for asked in faults.requests if asked.method == "POST"]


@pytest.mark.parametrize(
    "status",
    [200, 202, 203, 204, 301, 303, 400, 401, 403, 404, 405, 409, 415, 422, 499, 500, 501, 502, 504, 599],
)
async def test_mount_from_itself_refused_opens_upload(there, net, arrived, status):
    there.on("POST", FROM_ITSELF, status=status)
    assert (await net.sync(ONE, retries=0)).counts == (1, 0, 0)
    assert arrived()
    assert opened(there).count(False) == 2


async def test_connection_closed_instead_of_each_mount_from_itself_opens_upload(there, net, arrived):
    there.on("POST", FROM_ITSELF, reset=True)
    assert (await net.sync(ONE, retries=0)).counts == (1, 0, 0)
    assert arrived()
    assert opened(there).count(False) == 2


@pytest.mark.parametrize(
    "fault", [{"reset": True}, {"lose": True}, {"status": 429}], ids=["reset", "lose", "429"]
)
async def test_mount_from_itself_that_fails_once_is_asked_again(there, net, arrived, fault):
    there.on("POST", FROM_ITSELF, times=1, **fault)
    assert (await net.sync(ONE, retries=0)).counts == (1, 0, 0)
    assert arrived()
    assert opened(there) == [True, True, True]


async def test_mount_from_itself_granted_without_blob_is_pushed_in_the_same_run(there, net, arrived):
    there.on("POST", FROM_ITSELF, status=201, headers={"Location": "/v2/app/blobs/sha256:0"})
    assert (await net.sync(ONE, retries=0)).counts == (1, 0, 0)
    assert arrived()


@pytest.mark.parametrize("status", [200, 201, 202])
async def test_mount_from_itself_with_upload_location_starts_upload(there, net, arrived, status):
    there.on("POST", FROM_ITSELF, restatus=status)
    assert (await net.sync(ONE, retries=0)).counts == (1, 0, 0)
    assert arrived()
    assert opened(there) == [True, True]


# --- manifests -----------------------------------------------------------------------------------------------------------


async def test_blob_deleted_at_destination_is_pushed_again(there, net, source, target, arrived):
    target.store.put_blob("app", BIG.content)

    def collect(asked):
        target.store.delete_blob("app", Digest.of(BIG.content))

    there.on("PUT", MANIFESTS, reply=collect, times=1)
    assert (await net.sync({"here/app": "there/app"}, retries=0)).counts == (1, 0, 0)
    assert arrived()
    assert there.count("PUT", MANIFESTS) == 2


async def test_child_deleted_at_destination_is_pushed_again(there, net, source, image):
    make_index(source.store, "app", "2", children=[image])
    there.on("PUT", "/v2/app/manifests/2", times=1, status=404, body=error("MANIFEST_BLOB_UNKNOWN"))
    assert (await net.sync({"here/app:2": "there/app"}, retries=0)).counts == (1, 0, 0)


async def test_registry_that_always_reports_unknown_blobs_fails(there, net):
    there.on("PUT", MANIFESTS, status=400, body=error("MANIFEST_BLOB_UNKNOWN", "blob unknown to registry"))
    outcome = await net.sync(ONE, retries=1)
    assert outcome.failed[0].failure.status == 400
    assert "blob unknown to registry" in outcome.failed[0].failure.message


IMMUTABLE = {
    "Harbor": (412, error("PRECONDITION", "Failed to process request due to immutable rule")),
    "ECR": (400, error("TAG_INVALID", "The image tag '1' already exists and cannot be overwritten")),
    "ECR, older": (400, error("ImageTagAlreadyExistsException")),
    "Google": (409, error("CONFLICT", "the repository has enabled tag immutability")),
    "Nexus": (403, error("DENIED", "Repository does not allow updating assets: docker")),
}


@pytest.mark.parametrize(("status", "body"), IMMUTABLE.values(), ids=IMMUTABLE.keys())
async def test_immutable_tag_is_reported(there, net, target, status, body):
    make_image(target.store, "app", "1", layers=[make_layer({"a": b"old"})])
    there.on("PUT", MANIFESTS, status=status, body=body)
    outcome = await net.sync(ONE, retries=3)
    assert outcome.failed[0].failure.kind == "immutable"
    assert there.count("PUT", MANIFESTS) == 1
    assert "delete it there, or change the rule to write to another" in outcome.failed[0].failure.message


async def test_immutable_tag_with_same_image_succeeds(there, net, source, target, arrived):
    await net.sync(ONE)
    there.on("PUT", MANIFESTS, status=412)
    assert (await net.sync(ONE, force=True, retries=0)).counts == (1, 0, 0)


async def test_immutable_index_with_same_images_is_skipped(there, net, source, target, image):
    make_index(source.store, "app", "2", children=[image])
    await net.sync({"here/app:2": "there/app"})
    make_index(target.store, "app", "2", children=[image], annotations={"by": "another tool"})
    there.on("PUT", "/v2/app/manifests/2", status=412)
    outcome = await net.sync({"here/app:2": "there/app"}, retries=0)
    assert outcome.counts == (0, 1, 0)
    assert outcome.skipped[0].reason is SkipReason.IMMUTABLE


async def test_index_with_same_images_and_different_bytes_is_replaced(net, source, target, image):
    make_index(source.store, "app", "2", children=[image])
    await net.sync({"here/app:2": "there/app"})
    make_index(target.store, "app", "2", children=[image], annotations={"by": "another tool"})
    assert (await net.sync({"here/app:2": "there/app"}, retries=0)).counts == (1, 0, 0)
    assert same(source.store, target.store, "app", ["2"])


async def test_throttled_manifest_push_is_retried(there, net, arrived):
    there.on("PUT", MANIFESTS, status=429, headers={"retry-after": "0"}, times=2)
    assert (await net.sync(ONE, retries=0)).counts == (1, 0, 0)
    assert arrived()


@pytest.mark.parametrize("algorithm", ["sha256", "sha384", "sha512"])
async def test_manifest_stored_with_another_digest_is_reported(there, net, algorithm):
    other = Digest.of(b"other", algorithm)
    there.on("PUT", MANIFESTS, status=201, headers={"docker-content-digest": other})
    outcome = await net.sync(ONE, retries=0)
    assert f"stored the manifest as {other}" in outcome.failed[0].failure.message


@pytest.mark.parametrize("stated", ["sha384", "sha512", "blake3:abc", "latest", ""])
async def test_stored_digest_is_compared_with_its_own_algorithm(there, net, source, stated):
    raw = source.store.get_manifest("app", "1").raw
    digest = Digest.of(raw, stated) if stated.startswith("sha") else stated
    there.on("PUT", MANIFESTS, status=201, headers={"docker-content-digest": digest})
    assert (await net.sync(ONE, retries=0)).counts == (1, 0, 0)


# --- tokens ----------------------------------------------------------------------------------------------------------------


async def test_token_expired_during_upload_is_refreshed(registry, here, net, repository_name):
    guarded = registry(auth="token")
    async with Faults(guarded.host) as there:
        net.registries["there"] = there
        net.settings["there"] = {"username": guarded.username, "password": guarded.password}
        challenge = f'Bearer realm="{guarded.token_server.realm}",service="{guarded.token_server.service}"'
        there.on("PUT", "*", status=401, headers={"www-authenticate": challenge}, over=1_000_000, times=1)
        assert (await net.sync(ONE, retries=0)).counts == (1, 0, 0)


async def test_token_rejected_every_time_fails(registry, here, net):
    guarded = registry(auth="token")
    async with Faults(guarded.host) as there:
        net.registries["there"] = there
        net.settings["there"] = {"username": guarded.username, "password": guarded.password}
        challenge = f'Bearer realm="{guarded.token_server.realm}",service="{guarded.token_server.service}"'
        there.on("PUT", "*", status=401, headers={"www-authenticate": challenge})
        outcome = await net.sync(ONE, retries=2)
        assert outcome.failed[0].failure.kind == "unauthorized"
        assert len(big(there, "PUT")) <= 2
