"""Refused HEAD requests, digests and ranges fall back to simpler requests."""

import pytest

from syncer.demo import DropConnection
from syncer.demo.images import make_image, make_index, make_layer, noise
from syncer.engine import download, ranges
from syncer.oci.digest import Digest
from syncer.places.registry.capabilities import MAX_REFUSED_HEADS
from tests.support.faults import Faults, Reply
from tests.support.wire import same

LAYER = make_layer({"a": noise("a", 5000)})
LARGE = make_layer({"large": noise("large", 1_500_000)})
LARGE_BLOB = f"/v2/app/blobs/{Digest.of(LARGE.content)}"
MANIFESTS = "/v2/app/manifests/*"
BY_DIGEST = "/v2/app/manifests/sha256:*"
BLOBS = "/v2/app/blobs/sha256:*"
ONE = {"here/app:1": "there/app"}
REFUSALS = [400, 403, 404, 405, 406, 410, 412, 415, 422, 500, 501, 503]


@pytest.fixture(autouse=True)
def image(source):
    return make_image(source.store, "app", "1", layers=[LAYER])


@pytest.fixture
def known(target):
    """Create the destination repository, so that its tags are requested."""
    return make_image(target.store, "app", "0", layers=[make_layer({"b": b"b"})])


@pytest.fixture
def arrived(source, target):
    return lambda: same(source.store, target.store, "app")


# --- HEAD of a manifest --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [*REFUSALS, 401])
@pytest.mark.usefixtures("known")
async def test_head_refused_by_source_falls_back_to_get(here, net, arrived, status):
    here.on("HEAD", MANIFESTS, status=status)
    assert (await net.sync(ONE, retries=0)).counts == (1, 0, 0)
    assert arrived()


@pytest.mark.parametrize("status", [403, 405])
@pytest.mark.usefixtures("known")
async def test_head_refused_after_redirect_falls_back_to_get(here, net, source, arrived, status):
    async with Faults(source.host) as cdn:
        cdn.on("HEAD", "*", status=status)
        here.on(
            "*", MANIFESTS, reply=lambda asked: Reply(307, {"location": f"http://{cdn.host}{asked.path}"})
        )
        assert (await net.sync(ONE, retries=0)).counts == (1, 0, 0)
        assert arrived()


@pytest.mark.usefixtures("known")
async def test_where_head_is_hung_up_on_at_the_source_a_get_decides(here, net, arrived):
    here.on("HEAD", MANIFESTS, reset=True)
    assert (await net.sync(ONE, retries=0)).counts == (1, 0, 0)
    assert arrived()


async def test_where_head_is_hung_up_on_at_the_destination_a_get_decides(there, net):
    assert (await net.sync(ONE, retries=0)).counts == (1, 0, 0)
    there.on("HEAD", MANIFESTS, reset=True)
    assert (await net.sync(ONE, retries=0)).counts == (0, 1, 0)


UNUSABLE = {
    "a web page": Reply(200, {"content-type": "text/html"}, b"<html><title>Login</title>"),
    "no manifest": Reply(200, {"content-type": "application/json"}, b'{"x": 1}'),
    "no JSON": Reply(200, {}, b"\x00"),
    "another digest": Reply(
        200,
        {"docker-content-digest": f"sha256:{'0' * 64}"},
        b'{"schemaVersion": 2, "manifests": []}',
    ),
}


@pytest.mark.parametrize("reply", UNUSABLE.values(), ids=UNUSABLE.keys())
async def test_what_cannot_be_read_at_the_destination_is_pushed_over(there, net, arrived, reply):
    assert (await net.sync(ONE, retries=0)).counts == (1, 0, 0)
    there.on("HEAD", MANIFESTS, status=403)
    there.on("GET", MANIFESTS, reply=lambda _asked: reply)
    assert (await net.sync(ONE, retries=0)).counts == (1, 0, 0)
    assert arrived()


@pytest.mark.usefixtures("known")
async def test_missing_manifest_costs_one_extra_get(here, net):
    outcome = await net.sync({"here/app:gone": "there/app"}, retries=0)
    assert outcome.failed[0].failure.kind == "not_found"
    assert here.lines == ["HEAD /v2/app/manifests/gone", "GET /v2/app/manifests/gone"]


@pytest.mark.parametrize("status", [400, 403, 500])
@pytest.mark.usefixtures("known")
async def test_manifest_refused_by_head_and_get_fails(here, net, status):
    here.on("*", MANIFESTS, status=status)
    outcome = await net.sync(ONE, retries=0)
    assert outcome.failed[0].failure.status == status


@pytest.mark.usefixtures("known")
async def test_head_is_not_sent_after_repeated_refusals(here, net, source):
    tags = [str(number) for number in range(10, 40)]
    for tag in tags:
        make_image(source.store, "app", tag, layers=[LAYER])
    here.on("HEAD", MANIFESTS, status=403)
    outcome = await net.sync({f"here/app:{','.join(tags)}": "there/app"}, retries=0, transfers=1)
    assert outcome.counts == (30, 0, 0)
    # Only the requests that were already in progress at the last refusal.
    assert here.count("HEAD", MANIFESTS) <= MAX_REFUSED_HEADS + 5


@pytest.mark.usefixtures("known")
async def test_throttled_head_is_retried_after_wait(here, net):
    here.on("HEAD", MANIFESTS, status=429, headers={"retry-after": "0"}, times=2)
    assert (await net.sync(ONE, retries=0)).counts == (1, 0, 0)
    assert here.count("HEAD", MANIFESTS) == 3
    assert here.count("GET", MANIFESTS) == 1


@pytest.mark.parametrize("side", ["here", "there"])
@pytest.mark.parametrize("headers", [{}, {"retry-after": "0"}])
@pytest.mark.usefixtures("known")
async def test_where_only_head_is_throttled_a_get_decides(here, there, net, arrived, side, headers):  # noqa: PLR0917
    {"here": here, "there": there}[side].on("HEAD", MANIFESTS, status=429, headers=headers)
    assert (await net.sync(ONE, retries=0)).counts == (1, 0, 0)
    assert arrived()


@pytest.mark.usefixtures("known")
async def test_throttled_head_is_not_replaced_if_the_registry_states_a_longer_wait(here, net):
    here.on("HEAD", MANIFESTS, status=429, headers={"retry-after": "100000"})
    outcome = await net.sync(ONE, retries=0)
    assert outcome.failed[0].failure.kind == "throttled"
    assert here.count("GET", MANIFESTS) == 0


@pytest.mark.usefixtures("known")
async def test_throttled_heads_are_sent_again_for_other_images(here, net, source):
    tags = [str(number) for number in range(10, 20)]
    for tag in tags:
        make_image(source.store, "app", tag, layers=[LAYER])
    here.on("HEAD", MANIFESTS, status=429, times=4 * (MAX_REFUSED_HEADS + 1))
    rule = {f"here/app:{','.join(tags)}": "there/app"}
    assert (await net.sync(rule, retries=0, transfers=1)).counts == (10, 0, 0)
    assert [asked for asked in here.requests if asked.method == "HEAD" and asked.status == 200]


@pytest.mark.parametrize("status", [*REFUSALS, 401])
@pytest.mark.usefixtures("known")
async def test_head_refused_by_destination_pushes_image(there, net, arrived, status):
    there.on("HEAD", MANIFESTS, status=status)
    assert (await net.sync(ONE, retries=0)).counts == (1, 0, 0)
    assert arrived()


@pytest.mark.parametrize("status", [*REFUSALS, 401])
async def test_head_and_get_refused_by_destination_pushes_image_again(there, net, status):
    await net.sync(ONE)
    for method in ("HEAD", "GET"):
        there.on(method, MANIFESTS, status=status)
    assert (await net.sync(ONE, retries=0)).counts == (1, 0, 0)
    assert there.count("PUT", MANIFESTS) == 2


@pytest.mark.parametrize("status", [400, 403, 405, 500])
async def test_image_found_by_get_at_destination_is_not_pushed(there, net, status):
    await net.sync(ONE)
    there.on("HEAD", MANIFESTS, status=status)
    assert (await net.sync(ONE, retries=0)).counts == (0, 1, 0)


@pytest.mark.parametrize("status", [400, 403, 405, 500])
@pytest.mark.usefixtures("known")
async def test_head_refused_for_children_pushes_them(there, net, source, image, status):
    make_index(source.store, "app", "2", children=[image])
    there.on("HEAD", BY_DIGEST, status=status)
    there.on("GET", BY_DIGEST, status=status)
    assert (await net.sync({"here/app:2": "there/app"}, retries=0)).counts == (1, 0, 0)


# --- HEAD of a blob ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [*REFUSALS, 401])
@pytest.mark.usefixtures("known")
async def test_blob_head_refused_uploads_blob(there, net, arrived, status):
    there.on("HEAD", BLOBS, status=status)
    assert (await net.sync(ONE, retries=0)).counts == (1, 0, 0)
    assert arrived()


@pytest.mark.usefixtures("known")
async def test_blob_head_is_not_sent_after_repeated_refusals(there, net, source):
    layers = [make_layer({"x": noise(f"{number}", 3000)}) for number in range(20)]
    make_image(source.store, "app", "2", layers=layers)
    there.on("HEAD", BLOBS, status=403)
    assert (await net.sync({"here/app:2": "there/app"}, retries=0, transfers=1)).counts == (1, 0, 0)
    assert there.count("HEAD", BLOBS) <= MAX_REFUSED_HEADS + 5


# --- manifests by digest -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [400, 403, 404, 405, 500, 501])
@pytest.mark.usefixtures("known")
async def test_manifest_refused_by_digest_is_fetched_by_tag(here, net, arrived, status):
    here.on("*", BY_DIGEST, status=status)
    assert (await net.sync(ONE, retries=0)).counts == (1, 0, 0)
    assert arrived()


@pytest.mark.usefixtures("known")
async def test_tag_moved_after_head_is_copied_as_it_is_now(here, net, source, target):
    old, new = source.store.digest("app", "1"), make_image(source.store, "app", layers=[LARGE]).digest

    def move(_asked):
        source.store.tag("app", "1", new)
        source.store.delete_manifest("app", old)

    here.on("GET", BY_DIGEST, reply=move, times=1)
    outcome = await net.sync(ONE, retries=0)
    assert outcome.counts == (1, 0, 0)
    assert outcome.synced[0].digest == target.store.digest("app", "1") == new


async def test_pinned_digest_is_not_replaced_by_moved_tag(here, net, source, target):
    digest = source.store.digest("app", "1")
    here.on("*", BY_DIGEST, status=404)
    assert (await net.sync({f"here/app:1@{digest}": "there/app"}, retries=0)).counts == (1, 0, 0)
    assert target.store.digest("app", "1") == digest
    source.store.tag("app", "1", make_image(source.store, "app", layers=[LARGE]).digest)
    outcome = await net.sync({f"here/app:1@{digest}": "there/app:2"}, retries=0)
    assert outcome.failed[0].failure.kind == "digest_mismatch"
    assert target.store.digest("app", "2") is None


async def test_tag_is_fetched_if_mirror_and_registry_refuse_digest(here, net, source, known, arrived):
    async with Faults(source.host) as mirror:
        net.registries["mirror"] = mirror
        net.settings["here"] = {"mirrors": [mirror.host]}
        for faults in (here, mirror):
            faults.on("*", BY_DIGEST, status=404)
        assert (await net.sync(ONE, retries=0)).counts == (1, 0, 0)
        assert arrived()
        assert mirror.count("GET", "/v2/app/manifests/1") == 0


# --- ranges of blobs -----------------------------------------------------------------------------------------------


@pytest.fixture
def large(source, monkeypatch):
    """An image with a blob that is requested in ranges."""
    for module in (download, ranges):
        monkeypatch.setattr(module, "PART", 200_000)
        monkeypatch.setattr(module, "SPLIT_THRESHOLD", 1_000_000)
    return make_image(source.store, "app", "1", layers=[LARGE])


def ranged(faults):
    return [asked.headers["range"] for asked in faults.requests if "range" in asked.headers]


def refusing(status, headers=None, body=b""):
    """Return a handler that answers range requests with the given response."""
    return lambda asked: Reply(status, headers or {}, body) if "range" in asked.headers else None


def served(content, *, chunked=False):
    """Return a handler that calls `content(start, end)` the requested range."""

    def answer(asked):
        if "range" not in asked.headers:
            return None
        start, _, last = asked.headers["range"].removeprefix("bytes=").partition("-")
        stated = {"content-range": f"bytes {start}-{last}/{len(LARGE.content)}"}
        body = content(int(start), int(last) + 1)
        if chunked:
            stated["transfer-encoding"] = "chunked"
            body = b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body) if body else b"0\r\n\r\n"
        return Reply(206, stated, body)

    return answer


ALL = f"bytes 0-{len(LARGE.content) - 1}/{len(LARGE.content)}"
NO_PARTS = {
    **{
        str(status): refusing(status)
        for status in (400, 401, 403, 404, 405, 406, 410, 416, 422, 429, 500, 501, 502)
    },
    "429 with a wait": refusing(429, {"retry-after": "1"}),
    "416 with a size": refusing(416, {"content-range": "bytes */7"}),
    "206 without a range": refusing(206, {}, LARGE.content[:200_000]),
    "206 of several parts": refusing(206, {"content-type": "multipart/byteranges; boundary=x"}, b"--x"),
    "206 of what was not asked for": refusing(206, {"content-range": "bytes 500-599/1500000"}, b"x" * 100),
    "206 of several parts with a range": refusing(
        206, {"content-type": "multipart/byteranges; boundary=x", "content-range": ALL}, b"--x"
    ),
    "206 without bytes": refusing(206, {"content-range": ALL}),
    "206 of all, called the part": served(lambda start, end: LARGE.content),
    "206 with other bytes": served(lambda start, end: LARGE.content[: end - start]),
    "206 with fewer bytes": served(lambda start, end: LARGE.content[start : end - 50]),
    "206 with more bytes": served(lambda start, end: LARGE.content[start:]),
    "206 without bytes, chunked": served(lambda start, end: b"", chunked=True),
    "206 with fewer bytes, chunked": served(lambda start, end: LARGE.content[start : end - 50], chunked=True),
    "206 with more bytes, chunked": served(lambda start, end: LARGE.content[start:], chunked=True),
    "206 of a size that is the part's": refusing(
        206, {"content-range": "bytes 0-199999/200000"}, LARGE.content[:200_000]
    ),
    "200 of the part": refusing(200, {}, LARGE.content[:200_000]),
    "200": refusing(200, {}, LARGE.content),
    "206 of all": refusing(
        206,
        {"content-range": ALL},
        LARGE.content,
    ),
}


@pytest.mark.parametrize("reply", NO_PARTS.values(), ids=NO_PARTS.keys())
@pytest.mark.usefixtures("large")
async def test_refused_range_falls_back_to_whole_blob(here, net, arrived, reply):
    here.on("GET", LARGE_BLOB, reply=reply)
    assert (await net.sync(ONE, retries=0)).counts == (1, 0, 0)
    assert arrived()


@pytest.mark.parametrize("reply", NO_PARTS.values(), ids=NO_PARTS.keys())
@pytest.mark.usefixtures("large")
async def test_where_later_parts_are_refused_no_byte_is_lost(here, there, net, arrived, reply):
    def only_later(asked):
        return None if asked.headers.get("range", "").startswith("bytes=0-") else reply(asked)

    here.on("GET", LARGE_BLOB, cut=50_000, times=1)
    here.on("GET", LARGE_BLOB, reply=only_later)
    outcome = await net.sync(ONE, retries=0, transfers=4)
    assert outcome.counts == (1, 0, 0)
    assert arrived()
    # Had bytes been lost, the whole would have been sent a second time. Other bytes are found out at the end.
    assert there.received < 2 * len(LARGE.content) or reply is NO_PARTS["206 with other bytes"]


@pytest.mark.parametrize("begins", ["bytes=", "bytes=2", "bytes=4"])
@pytest.mark.usefixtures("large")
async def test_where_the_end_of_a_range_is_ignored_no_byte_is_taken_twice(here, net, arrived, begins):
    size = len(LARGE.content)

    def the_rest(asked):
        if not asked.headers.get("range", "").startswith(begins):
            return None
        start = int(asked.headers["range"].removeprefix("bytes=").partition("-")[0])
        return Reply(206, {"content-range": f"bytes {start}-{size - 1}/{size}"}, LARGE.content[start:])

    # A pause, so that idle connections fetch further parts.
    here.on("GET", LARGE_BLOB, stall=0.3, stall_at=50_000, reply=the_rest)
    assert (await net.sync(ONE, retries=0, transfers=4)).counts == (1, 0, 0)
    assert arrived()


@pytest.mark.usefixtures("large")
async def test_where_parts_are_hung_up_on_the_whole_blob_is_taken(net, source, target):
    @source.before
    async def hang_up(request):
        if "Range" in request.headers:
            raise DropConnection

    net.registries["bare"] = source
    assert (await net.sync({"bare/app:1": "there/app"}, retries=0)).counts == (1, 0, 0)
    assert same(source.store, target.store, "app")


@pytest.mark.parametrize("reply", NO_PARTS.values(), ids=NO_PARTS.keys())
async def test_refused_range_on_resume_skips_known_bytes(here, net, source, arrived, reply):
    make_image(source.store, "app", "1", layers=[LARGE])
    here.on("GET", LARGE_BLOB, cut=900_000, times=1)
    here.on("GET", LARGE_BLOB, reply=reply)
    assert (await net.sync(ONE, retries=0)).counts == (1, 0, 0)
    assert arrived()


@pytest.mark.parametrize("status", [400, 403, 405, 416, 501])
async def test_refused_range_is_not_requested_again(here, net, source, large, status):
    other = make_layer({"other": noise("other", 1_600_000)})
    make_image(source.store, "app", "2", layers=[other])
    here.on("GET", BLOBS, reply=refusing(status))
    assert (await net.sync(ONE, retries=0)).counts == (1, 0, 0)
    asked = len(ranged(here))
    assert asked <= 2
    here.requests.clear()
    assert (await net.sync({"here/app:1,2": "there/more"}, retries=0)).counts == (2, 0, 0)
    assert len(ranged(here)) <= 2


@pytest.mark.usefixtures("large")
async def test_range_request_has_an_end(here, net, arrived):
    def strict(asked):
        # The registry in crane returns this for "bytes=N-".
        return Reply(416) if asked.headers.get("range", "").endswith("-") else None

    here.on("GET", LARGE_BLOB, cut=150_000, times=1)
    here.on("GET", LARGE_BLOB, reply=strict)
    assert (await net.sync(ONE, retries=0)).counts == (1, 0, 0)
    assert arrived()
    assert not any(asked.status == 416 for asked in here.requests)


@pytest.mark.parametrize("status", [400, 403, 405, 416, 500])
@pytest.mark.usefixtures("large")
async def test_mirror_without_ranges_serves_whole_blob(here, net, source, arrived, status):
    async with Faults(source.host) as mirror:
        net.registries["mirror"] = mirror
        net.settings["here"] = {"mirrors": [mirror.host]}
        mirror.on("GET", LARGE_BLOB, reply=refusing(status))
        assert (await net.sync(ONE, retries=0)).counts == (1, 0, 0)
        assert arrived()
        assert here.count("GET", LARGE_BLOB) == 0


@pytest.mark.parametrize("status", [401, 404])
@pytest.mark.usefixtures("large")
async def test_missing_blob_is_requested_once_without_range(here, net, status):
    here.on("GET", LARGE_BLOB, status=status)
    outcome = await net.sync(ONE, retries=0)
    assert outcome.failed[0].failure.status == status
    whole = [asked for asked in here.requests if asked.path == LARGE_BLOB and "range" not in asked.headers]
    assert len(whole) == 1


@pytest.mark.usefixtures("large")
async def test_rate_limit_on_ranges_does_not_disable_them(here, net, source):
    other = make_layer({"other": noise("other", 1_600_000)})
    make_image(source.store, "app", "2", layers=[other])
    here.on("GET", LARGE_BLOB, reply=refusing(429))
    assert (await net.sync({"here/app:1,2": "there/app"}, retries=0, transfers=1)).counts == (2, 0, 0)
    assert [asked for asked in here.requests if "range" in asked.headers and asked.path != LARGE_BLOB]
