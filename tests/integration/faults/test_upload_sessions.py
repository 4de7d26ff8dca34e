"""Uploads whose session is lost or useless, and writes whose response does not tell if the content was stored."""

import pytest

from syncer.demo.images import make_image, make_layer, noise
from tests.support.faults import Faults, Reply
from tests.support.wire import same

LAYER = make_layer({"layer": noise("layer", 300_000)})
UPLOADS = "/v2/app/blobs/uploads/*"
MANIFESTS = "/v2/app/manifests/*"
ONE = {"here/app:1": "there/app"}


@pytest.fixture(autouse=True)
def image(source):
    return make_image(source.store, "app", "1", layers=[LAYER])


@pytest.fixture
def arrived(source, target):
    return lambda: same(source.store, target.store, "app")


def code(name):
    return f'{{"errors": [{{"code": "{name}"}}]}}'.encode()


# --- stored, although the response is an error ---------------------------------------------------------------------


@pytest.mark.parametrize("status", [408, 409, 425, 429, 499, 500, 502, 503, 504, 520, 524])
async def test_blob_stored_despite_error_is_not_sent_again(there, net, arrived, status):
    there.on("PUT", UPLOADS, restatus=status)
    assert (await net.sync(ONE, retries=0)).counts == (1, 0, 0)
    assert arrived()
    assert there.received < 1.1 * len(LAYER.content)


# ghcr.io answers a repeated PUT so: the first one has stored the blob, or has lost it
# (https://github.com/GoogleContainerTools/jib/issues/4301). Nexus does if another upload of the blob was faster
# (https://github.com/sonatype/nexus-public/issues/967).
LOST = [(404, "BLOB_UPLOAD_UNKNOWN"), (404, "BLOB_UNKNOWN"), (400, "BLOB_UPLOAD_INVALID")]


@pytest.mark.parametrize(("status", "name"), LOST)
async def test_blob_stored_by_session_that_is_over_is_not_sent_again(there, net, arrived, status, name):
    there.on("PUT", UPLOADS, lose=True, over=100_000, times=1)
    there.on("PUT", UPLOADS, status=status, body=code(name), over=100_000)
    assert (await net.sync(ONE, retries=0)).counts == (1, 0, 0)
    assert arrived()


@pytest.mark.parametrize(("status", "name"), [*LOST, (410, "GONE"), (409, "CONFLICT")])
async def test_blob_lost_with_its_session_is_sent_again(there, net, arrived, status, name):
    there.on("PUT", UPLOADS, status=status, body=code(name), times=1)
    assert (await net.sync(ONE, retries=0)).counts == (1, 0, 0)
    assert arrived()
    assert there.count("PATCH") == 0


@pytest.mark.parametrize("status", [409, 500, 502, 503, 504, 524])
async def test_manifest_stored_despite_error_is_not_sent_again(there, net, arrived, status):
    there.on("PUT", MANIFESTS, restatus=status)
    assert (await net.sync(ONE, retries=0)).counts == (1, 0, 0)
    assert arrived()
    assert there.count("PUT", MANIFESTS) == 1


@pytest.mark.parametrize("status", [409, 500])
async def test_manifest_that_was_not_stored_fails(there, net, status):
    there.on("PUT", MANIFESTS, status=status)
    outcome = await net.sync(ONE, retries=0)
    assert outcome.failed[0].failure.status == status


# --- sessions that cannot be resumed -------------------------------------------------------------------------------


@pytest.fixture
def cut(there):
    """Cut the first upload of the layer."""
    there.on("PUT", UPLOADS, cut_upload=100_000, over=200_000, times=1)


@pytest.mark.parametrize(
    "fault", [*({"status": status} for status in (400, 401, 403, 404, 405, 500, 503)), {"reset": True}]
)
@pytest.mark.usefixtures("cut")
async def test_upload_starts_again_if_state_of_session_is_refused(there, net, arrived, fault):
    there.on("GET", UPLOADS, **fault)
    assert (await net.sync(ONE, retries=0)).counts == (1, 0, 0)
    assert arrived()


@pytest.mark.parametrize("status", [400, 404, 405, 409, 410, 416, 422, 500, 501])
@pytest.mark.usefixtures("cut")
async def test_upload_starts_again_if_session_is_not_continued(there, net, arrived, status):
    there.on("PATCH", UPLOADS, status=status)
    assert (await net.sync(ONE, retries=0)).counts == (1, 0, 0)
    assert arrived()


@pytest.mark.parametrize("stated", ["0-49999", "0-149999", "bytes=0-49999", "0-0", "50000", ""])
@pytest.mark.usefixtures("cut")
async def test_upload_starts_again_if_session_states_a_wrong_offset(there, net, arrived, stated):
    there.on("GET", UPLOADS, rewrite=lambda headers: headers.update({"range": stated}))
    assert (await net.sync(ONE, retries=0)).counts == (1, 0, 0)
    assert arrived()


# --- methods that are refused --------------------------------------------------------------------------------------


# distribution-spec 1.1, "Error Codes": UNSUPPORTED has no status of its own.
async def test_monolithic_put_refused_as_unsupported_falls_back_to_patch(there, net, arrived):
    there.on("PUT", UPLOADS, status=400, body=code("UNSUPPORTED"), over=0)
    assert (await net.sync(ONE, retries=0)).counts == (1, 0, 0)
    assert arrived()


# A registry that required the header in each PATCH: https://github.com/opencontainers/distribution-spec/pull/576
@pytest.mark.parametrize("status", [400, 416])
async def test_patch_refused_without_content_range_falls_back_to_chunks(there, net, arrived, status):
    there.on("PUT", UPLOADS, status=405, over=0)
    there.on(
        "PATCH", UPLOADS, reply=lambda asked: None if "content-range" in asked.headers else Reply(status)
    )
    assert (await net.sync(ONE, retries=0)).counts == (1, 0, 0)
    assert arrived()


# --- redirects -----------------------------------------------------------------------------------------------------


def redirecting(status):
    """Return a handler that redirects each request once, to the same path with another query."""

    def answer(asked):
        mark = "&" if "?" in asked.target else "?"
        return (
            None if "moved=" in asked.target else Reply(status, {"location": f"{asked.target}{mark}moved=1"})
        )

    return answer


# RFC 9110, sections 15.4.8 and 15.4.9. docker, skopeo and crane follow these redirects: their HTTP client does.
@pytest.mark.parametrize("status", [307, 308])
async def test_redirected_post_and_put_are_followed(there, net, arrived, status):
    there.on("POST", "/v2/app/blobs/uploads/", reply=redirecting(status))
    there.on("PUT", MANIFESTS, reply=redirecting(status))
    assert (await net.sync(ONE, retries=0)).counts == (1, 0, 0)
    assert arrived()


async def test_redirected_put_to_another_host_carries_no_credentials(there, net, target, arrived):
    net.settings["there"] = {"username": "somebody", "password": "hush"}
    there.on("GET", "/v2/", status=401, headers={"www-authenticate": 'Basic realm="x"'}, times=1)
    async with Faults(target.host) as other:
        there.on(
            "PUT",
            MANIFESTS,
            reply=lambda asked: Reply(307, {"location": f"http://{other.host}{asked.target}"}),
        )
        assert (await net.sync(ONE, retries=0)).counts == (1, 0, 0)
    assert arrived()
    assert any("authorization" in asked.headers for asked in there.requests)
    assert [asked.method for asked in other.requests] == ["PUT"]
    assert not any("authorization" in asked.headers for asked in other.requests)


@pytest.mark.parametrize("status", [301, 302, 303])
async def test_redirect_that_would_turn_a_put_into_a_get_is_not_followed(there, net, status):
    there.on("PUT", MANIFESTS, reply=redirecting(status))
    outcome = await net.sync(ONE, retries=0)
    assert outcome.failed[0].failure.status == status
    assert there.count("GET", MANIFESTS) == 0
