"""Reads from registries with unusual responses, and over unreliable connections."""

import gzip

import pytest

from syncer.demo.images import make_image, make_layer, noise
from syncer.events import RequestRetried
from syncer.oci import media_types
from syncer.oci.digest import Digest
from tests.support.faults import Faults, Reply
from tests.support.wire import same

BIG = make_layer({"big": noise("big", 3_000_000)})
BLOBS = "/v2/app/blobs/sha256:*"
BIG_BLOB = f"/v2/app/blobs/{Digest.of(BIG.content)}"
MANIFESTS = "/v2/app/manifests/*"
TAGS = "/v2/app/tags/list"
RULE = {"here/app": "there/app"}
ONE = {"here/app:1": "there/app"}


@pytest.fixture(autouse=True)
def image(source):
    return make_image(source.store, "app", "1", layers=[BIG])


@pytest.fixture
def arrived(source, target):
    return lambda: same(source.store, target.store, "app")


# --- interrupted downloads ---------------------------------------------------------------------------------------


@pytest.mark.usefixtures("relay_path")
async def test_download_cut_five_times_is_resumed(here, net, arrived):
    for cut in range(5):
        here.on("GET", BIG_BLOB, cut=500_000 + cut, times=1)
    outcome = await net.sync(ONE, retries=0)
    assert outcome.counts == (1, 0, 0)
    assert arrived()
    # Bytes in the buffers of a broken connection are sent again: half a MiB at most.
    assert here.sent < len(BIG.content) + 5 * 600_000
    offsets = [asked.headers.get("range") for asked in here.requests if asked.path == BIG_BLOB]
    assert len(offsets) == 6
    assert None not in offsets[2:]
    assert [event.reason for event in outcome.told.of(RequestRetried)] == ["connection"] * 5


@pytest.mark.usefixtures("relay_path")
async def test_resumed_download_skips_bytes_before_requested_offset(here, net, arrived):
    def earlier(asked):
        start = int(asked.headers["range"].removeprefix("bytes=").partition("-")[0]) - 1000
        part = BIG.content[start:]
        return Reply(206, {"content-range": f"bytes {start}-{len(BIG.content) - 1}/{len(BIG.content)}"}, part)

    here.on("GET", BIG_BLOB, cut=1_000_000, times=1)
    here.on("GET", BIG_BLOB, reply=earlier)
    assert (await net.sync(ONE, retries=0)).counts == (1, 0, 0)
    assert arrived()


@pytest.mark.usefixtures("relay_path")
async def test_resumed_download_accepts_response_from_the_start(here, net, arrived):
    here.on("GET", BIG_BLOB, cut=1_000_000, times=1)
    here.on("GET", BIG_BLOB, reply=lambda _asked: Reply(200, {}, BIG.content))
    assert (await net.sync(ONE, retries=0)).counts == (1, 0, 0)
    assert arrived()


@pytest.mark.usefixtures("relay_path")
async def test_range_response_after_requested_offset_is_rejected(here, net):
    here.on("GET", BIG_BLOB, cut=1_000_000, times=1)
    here.on("GET", BIG_BLOB, status=206, headers={"content-range": "bytes 2000000-2999999/3000000"})
    outcome = await net.sync(ONE, retries=0)
    assert outcome.failed[0].failure.kind == "invalid"


@pytest.mark.usefixtures("relay_path")
async def test_truncated_blob_is_digest_mismatch(here, net):
    here.on("GET", BIG_BLOB, cut=1_000_000, times=1)
    here.on("GET", BIG_BLOB, status=416, headers={"content-range": "bytes */1000000"}, times=1)
    here.on("GET", BIG_BLOB, status=200, body=BIG.content[:1_000_000])
    outcome = await net.sync(ONE, retries=0)
    assert outcome.failed[0].failure.kind == "digest_mismatch"
    assert "has 1000000 bytes instead of" in outcome.failed[0].failure.message


@pytest.mark.usefixtures("relay_path")
async def test_download_without_progress_fails(here, net):
    here.on("GET", BIG_BLOB, cut=0)
    outcome = await net.sync(ONE, retries=0)
    assert outcome.failed[0].failure.kind == "connection"
    assert "trying again may help" in outcome.failed[0].failure.message


@pytest.mark.usefixtures("relay_path")
async def test_corrupted_byte_is_downloaded_again(here, net, arrived):
    here.on("GET", BIG_BLOB, flip=2_000_000, times=1)
    assert (await net.sync(ONE, retries=0)).counts == (1, 0, 0)
    assert arrived()


@pytest.mark.usefixtures("relay_path")
async def test_blob_corrupted_twice_fails_permanently(here, net, target):
    here.on("GET", BIG_BLOB, flip=2_000_000)
    outcome = await net.sync(ONE, retries=3)
    assert outcome.failed[0].failure.kind == "digest_mismatch"
    assert outcome.failed[0].failure.permanent
    assert here.count("GET", BIG_BLOB) == 2
    assert target.store.tags("app") == []


async def test_small_blob_corrupted_once_is_copied(here, net, source, arrived):
    config = source.store.get_manifest("app", "1").manifest.config.digest
    here.on("GET", f"/v2/app/blobs/{config}", flip=5, times=1)
    assert (await net.sync(ONE, retries=0)).counts == (1, 0, 0)
    assert arrived()


async def test_blob_with_wrong_size_is_rejected_before_transfer(here, net):
    here.on("GET", BIG_BLOB, status=200, body=b"short")
    outcome = await net.sync(ONE, retries=1)
    assert outcome.failed[0].failure.kind == "digest_mismatch"
    assert "has 5 bytes instead of" in outcome.failed[0].failure.message


@pytest.mark.parametrize("coding", ["gzip", "x-gzip", "br"])
@pytest.mark.parametrize("path", [BLOBS, "/v2/app/manifests/*"], ids=["blob", "manifest"])
async def test_content_encoding_is_ignored_if_digest_matches(here, net, arrived, coding, path):
    here.on("GET", path, rewrite=lambda headers: headers.update({"content-encoding": coding}))
    assert (await net.sync(ONE, retries=0)).counts == (1, 0, 0)
    assert arrived()
    assert all(asked.headers["accept-encoding"] == "identity" for asked in here.requests)


async def test_compressed_blob_is_digest_mismatch(here, net, target):
    packed = gzip.compress(BIG.content)
    here.on("GET", BIG_BLOB, status=200, headers={"content-encoding": "gzip"}, body=packed)
    outcome = await net.sync(ONE, retries=0)
    assert outcome.failed[0].failure.kind == "digest_mismatch"
    assert target.store.tags("app") == []


def compressed(coding, body):
    return {"headers": {"content-encoding": coding, "content-type": "application/json"}, "body": body}


# The HTTP client of Go asks for gzip and unpacks it, so docker, skopeo and crane take what such servers send
# (https://pkg.go.dev/net/http#Transport, DisableCompression).
@pytest.mark.parametrize("coding", ["gzip", "x-gzip", "GZIP"])
async def test_compressed_manifest_and_tag_list_are_copied(here, net, source, arrived, coding):
    packed = gzip.compress(source.store.get_manifest("app", "1").raw)
    here.on("GET", TAGS, status=200, **compressed(coding, gzip.compress(b'{"tags": ["1"]}')))
    here.on("GET", MANIFESTS, status=200, **compressed(coding, packed))
    assert (await net.sync(RULE, retries=0)).counts == (1, 0, 0)
    assert arrived()


async def test_compressed_error_is_quoted(here, net):
    refusal = b'{"errors": [{"code": "DENIED", "message": "the subscription has ended"}]}'
    here.on("GET", TAGS, status=403, **compressed("gzip", gzip.compress(refusal)))
    outcome = await net.sync(RULE, retries=0)
    assert "DENIED: the subscription has ended" in outcome.failed[0].failure.message


@pytest.mark.parametrize(
    "packed",
    [gzip.compress(b" " * (5 << 20)), gzip.compress(b"{}")[:-9], b"\x1f\x8bno gzip"],
    ids=["too large", "cut off", "no gzip"],
)
async def test_compressed_manifest_that_cannot_be_unpacked_is_reported(here, net, packed):
    here.on("GET", MANIFESTS, status=200, **compressed("gzip", packed))
    outcome = await net.sync(ONE, retries=0)
    assert "is compressed (gzip)" in outcome.failed[0].failure.message


# --- redirects -----------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("relay_path")
async def test_cdn_receives_no_registry_credentials(here, net, source, arrived):
    net.settings["here"] = {"username": "somebody", "password": "hush"}
    async with Faults(source.host) as cdn:
        here.on(
            "GET",
            TAGS,
            times=1,
            status=401,
            headers={"www-authenticate": 'Basic realm="x"'},
        )
        here.on("GET", BLOBS, reply=lambda asked: Reply(307, {"location": f"http://{cdn.host}{asked.path}"}))
        assert (await net.sync(RULE, retries=0)).counts == (1, 0, 0)
        assert arrived()
        assert any("authorization" in asked.headers for asked in here.requests)
        assert not any("authorization" in asked.headers for asked in cdn.requests)


@pytest.mark.usefixtures("relay_path")
async def test_expired_signed_url_is_requested_again(here, net, source, arrived):
    async with Faults(source.host) as cdn:
        here.on(
            "GET",
            BIG_BLOB,
            reply=lambda asked: Reply(307, {"location": f"http://{cdn.host}{asked.path}?sig=1"}),
        )
        cdn.on("GET", BIG_BLOB, cut=1_000_000, times=1)
        cdn.on("GET", BIG_BLOB, status=403, body=b"<Error>Request has expired</Error>", times=1)
        assert (await net.sync(ONE, retries=0)).counts == (1, 0, 0)
        assert arrived()
        assert here.count("GET", BIG_BLOB) == 3


async def test_error_names_cdn_that_refuses(here, net, source):
    async with Faults(source.host) as cdn:
        here.on("GET", BIG_BLOB, reply=lambda asked: Reply(307, {"location": f"http://{cdn.host}/x"}))
        cdn.on("*", "*", status=403)
        outcome = await net.sync(ONE, retries=0)
        assert f"403 forbidden from {cdn.host}" in outcome.failed[0].failure.message
        assert "user name" not in outcome.failed[0].failure.message


UNREACHABLE = {
    "no-such-host.invalid": "cannot resolve the host name no-such-host.invalid",
    "127.0.0.1:1": "cannot connect",
}


@pytest.mark.parametrize(("host", "reason"), UNREACHABLE.items())
@pytest.mark.parametrize("path", [BIG_BLOB, MANIFESTS, TAGS])
async def test_error_names_unreachable_host_that_registry_redirects_to(here, net, path, host, reason):
    here.on("GET", path, status=307, headers={"location": f"http://{host}/x"})
    outcome = await net.sync(RULE, retries=0)
    message = outcome.failed[0].failure.message
    assert reason in message
    assert f"({host}, to which the registry redirected)" in message
    assert f"check that {here.host} is running" not in message


async def test_error_names_redirect_target_whose_certificate_is_not_trusted(here, net, source, ca):
    async with Faults(source.host, tls=ca) as cdn:
        here.on("GET", BIG_BLOB, status=307, headers={"location": f"https://{cdn.host}/x"})
        outcome = await net.sync(ONE, retries=0)
    advice = f'add the CA certificate of {cdn.host} to the "ca_file" of {here.host}'
    assert advice in outcome.failed[0].failure.message


async def test_error_names_redirect_target_that_breaks_off(here, net, source):
    async with Faults(source.host) as cdn:
        cdn.on("GET", "*", cut=0)
        here.on(
            "GET", BIG_BLOB, reply=lambda asked: Reply(307, {"location": f"http://{cdn.host}{asked.path}"})
        )
        outcome = await net.sync(ONE, retries=0)
    assert f"({cdn.host}, to which the registry redirected)" in outcome.failed[0].failure.message


async def test_redirect_loop_fails(here, net):
    here.on("GET", BIG_BLOB, reply=lambda asked: Reply(302, {"location": asked.path}))
    outcome = await net.sync(ONE, retries=0)
    assert outcome.failed[0].failure.status == 302
    assert here.count("GET", BIG_BLOB) == 6


# --- manifests -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [405, 501])
async def test_head_refused_falls_back_to_get(here, there, net, status, arrived):
    await net.sync(ONE)
    for faults in (here, there):
        faults.on("HEAD", MANIFESTS, status=status)
    outcome = await net.sync(ONE, retries=0)
    assert outcome.counts == (0, 1, 0)


@pytest.mark.parametrize("stated", ["", "sha256:no", "latest"])
async def test_head_without_digest_falls_back_to_get(here, net, stated):
    await net.sync(ONE)
    here.on("HEAD", MANIFESTS, rewrite=lambda headers: headers.update({"docker-content-digest": stated}))
    assert (await net.sync(ONE, retries=0)).counts == (0, 1, 0)


@pytest.mark.parametrize("around", ["  {} ", "\t{}\t"])
async def test_whitespace_around_a_digest_header_is_not_a_part_of_it(here, net, arrived, around):
    def rewrite(headers):
        if "docker-content-digest" in headers:
            headers["docker-content-digest"] = around.format(headers["docker-content-digest"])

    here.on("HEAD", MANIFESTS, rewrite=rewrite)
    assert (await net.sync(ONE, retries=0)).counts == (1, 0, 0)
    assert (await net.sync(ONE, retries=0)).counts == (0, 1, 0)
    # The first run fetches the manifest, and the second one only asks for its digest.
    assert here.count("GET", MANIFESTS) == 1


async def test_manifest_without_digest_header_is_copied(here, there, net, arrived):
    for faults in (here, there):
        faults.on("*", MANIFESTS, drop=["Docker-Content-Digest"])
    assert (await net.sync(ONE, retries=0)).counts == (1, 0, 0)
    assert arrived()


async def test_manifest_that_differs_from_digest_header_is_rejected(here, net):
    other = f"sha256:{'1' * 64}"
    here.on("GET", MANIFESTS, rewrite=lambda headers: headers.update({"docker-content-digest": other}))
    outcome = await net.sync(ONE, retries=0)
    assert outcome.failed[0].failure.kind == "digest_mismatch"


async def test_web_page_instead_of_manifest_is_reported(here, net):
    page = b"<html><head><title>Log in to the hotel</title></head></html>"
    here.on("*", MANIFESTS, status=200, headers={"content-type": "text/html"}, body=page)
    outcome = await net.sync(ONE, retries=2)
    assert outcome.failed[0].failure.kind == "invalid"
    assert "the response is a web page (Log in to the hotel)" in outcome.failed[0].failure.message
    assert here.count("GET", MANIFESTS) == 1


async def test_manifest_over_4_mib_is_rejected(here, net):
    here.on("GET", MANIFESTS, status=200, body=b" " * (4 * 1024 * 1024 + 1))
    outcome = await net.sync(ONE, retries=0)
    assert outcome.failed[0].failure.kind == "too_large"


@pytest.mark.parametrize("digest", ["sha256:../../etc", "md5:abc", "", "sha256:" + "G" * 64])
async def test_invalid_digest_is_not_used_in_a_request(here, net, digest):
    body = (
        '{"schemaVersion": 2, "mediaType": "' + media_types.OCI_MANIFEST + '",'
        ' "config": {"digest": "' + digest + '", "size": 2, "mediaType": "a/b"}, "layers": []}'
    )
    here.on("GET", MANIFESTS, status=200, body=body.encode())
    outcome = await net.sync(ONE, retries=0)
    assert outcome.failed[0].failure.kind == "invalid"
    assert here.count("GET", "*/blobs/*") == 0


async def test_an_unknown_kind_of_manifest_is_unsupported(here, net):
    here.on("GET", MANIFESTS, status=200, body=b'{"schemaVersion": 2, "mediaType": "text/x"}')
    outcome = await net.sync(ONE, retries=0)
    assert outcome.failed[0].failure.kind == "unsupported"


async def test_server_error_is_retried(here, there, net, arrived):
    for faults in (here, there):
        for method in ("GET", "HEAD", "POST", "PUT"):
            for status in (500, 503, 429):
                faults.on(method, "*", status=status, times=1, headers={"retry-after": "0"})
    outcome = await net.sync(ONE, retries=0)
    assert outcome.counts == (1, 0, 0)
    assert arrived()
