"""Who may read, who may change something, and what wrong tokens lead to."""

import base64
import logging

import pytest

from syncer.accounts.settings import Secret
from syncer.daemon.admission import Admission, RoomForProbes
from syncer.daemon.guard import Guard
from syncer.daemon.peers import WrongTokens, peer_of
from syncer.daemon.web import application

READS = [
    "/",
    "/metrics",
    "/api/v1/status",
    "/api/v1/runs",
    "/api/v1/runs/x",
    "/api/v1/events",
    "/runs",
    "/runs/x",
    "/static/page.css",
    "/nowhere",
]
PROBES = ["/healthz", "/readyz"]
API, READ = "api-s3cret", "read-töken"


class Naps:
    """Sleeps that are only written down."""

    def __init__(self):
        self.taken = []

    async def __call__(self, seconds):
        self.taken.append(seconds)


@pytest.fixture
def naps():
    return Naps()


@pytest.fixture
def guard(naps):
    """`guard(api=…, read=…, host=…)`."""

    def make(*, api=None, read=None, host="0.0.0.0"):
        return Guard(
            host,
            token=None if api is None else lambda: Secret(api),
            read_token=None if read is None else lambda: Secret(read),
            wrong_tokens=WrongTokens(now=lambda: 0.0, sleep=naps),
        )

    return make


def bearer(token):
    return {"authorization": f"Bearer {token}".encode()}


def basic(password, user="prometheus"):
    return {"authorization": b"Basic " + base64.b64encode(f"{user}:{password}".encode())}


# --- the name by which it is asked ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8080", "127.0.0.1.evil.example", "192.0.2.1", "", "["]
)
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "OPTIONS"])
async def test_foreign_host_header_is_refused_in_local_mode(daemon, host, method):
    async with daemon.running(), daemon.client() as client:
        for path in [*READS, *PROBES]:
            answer = await client.request(method, path, headers={"host": host})
            assert answer.status_code == 403, path
    assert daemon.runs == []


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.0.0.1:1", "localhost:8080", "LOCALHOST", "[::1]:8080", "127.9.9.9"]
)
async def test_local_host_header_is_accepted_in_local_mode(daemon, host):
    async with daemon.running(), daemon.client() as client:
        for path in ["/", "/metrics", "/api/v1/status", *PROBES]:
            assert (await client.get(path, headers={"host": host})).status_code == 200


async def test_any_host_header_is_accepted_with_token(daemon, guard):
    daemon.guard = guard(api=API, host="127.0.0.1")
    async with daemon.running(), daemon.client() as client:
        assert (await client.get("/api/v1/status", headers={"host": "syncer.example"})).status_code == 200


# --- the token for reading ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "headers", [{}, bearer("wrong"), basic("wrong"), basic(""), {"authorization": "Basic %"}]
)
async def test_reading_without_read_token_is_refused(daemon, guard, headers):
    daemon.guard = guard(api=API, read=READ)
    async with daemon.running(), daemon.client() as client:
        for path in READS:
            for method in ("GET", "HEAD"):
                answer = await client.request(method, path, headers=headers)
                assert answer.status_code == 401, path
                # A browser then asks for it.
                assert answer.headers["www-authenticate"].startswith("Basic ")
                assert "s3cret" not in answer.text


@pytest.mark.parametrize("headers", [bearer(READ), basic(READ), bearer(API), basic(API, user="")])
async def test_both_tokens_read(daemon, guard, headers):
    daemon.guard = guard(api=API, read=READ)
    async with daemon.running(), daemon.client() as client:
        for path in ["/", "/metrics", "/api/v1/status", "/api/v1/runs"]:
            assert (await client.get(path, headers=headers)).status_code == 200


async def test_probes_need_no_token(daemon, guard):
    daemon.guard = guard(api=API, read=READ)
    async with daemon.running(), daemon.client() as client:
        for path in PROBES:
            assert (await client.get(path)).status_code == 200


@pytest.mark.parametrize("headers", [{}, bearer(READ), basic(API), basic(READ)])
async def test_the_read_token_changes_nothing(daemon, guard, headers):
    daemon.guard = guard(api=API, read=READ)
    async with daemon.running(), daemon.client() as client:
        for path in ("/api/v1/runs", "/runs", "/api/v1/runs/x/cancel"):
            assert (await client.post(path, headers=headers)).status_code == 401
        assert (await client.post("/api/v1/runs", headers=bearer(API))).status_code == 202


async def test_local_start_requires_read_token_if_set(daemon, guard):
    daemon.guard = guard(read=READ, host="127.0.0.1")
    async with daemon.running(), daemon.client() as client:
        assert (await client.post("/api/v1/runs")).status_code == 401
        assert (await client.post("/api/v1/runs", headers=basic(READ))).status_code == 202
        evil = basic(READ) | {"origin": "http://evil.example"}
        assert (await client.post("/api/v1/runs", headers=evil)).status_code == 403


async def test_read_token_does_not_allow_start_on_public_address(daemon, guard):
    daemon.guard = guard(read=READ)
    async with daemon.running(), daemon.client() as client:
        assert (await client.post("/api/v1/runs", headers=bearer(READ))).status_code == 403


# --- wrong tokens ---------------------------------------------------------------------------------------------------


async def test_wrong_tokens_are_logged_and_delayed_increasingly(daemon, guard, naps, caplog):
    daemon.guard = guard(api=API, read=READ)
    with caplog.at_level(logging.WARNING):
        async with daemon.running(), daemon.client() as client:
            for _ in range(4):
                await client.post("/api/v1/runs?token=gu3ss", headers=bearer("gu3ss"))
                await client.get("/api/v1/status", headers=basic("gu3ss"))
            assert (await client.post("/api/v1/runs", headers=bearer(API))).status_code == 202
            assert (await client.get("/api/v1/status")).status_code == 401
    assert naps.taken == [0.25, 0.5, 1.0, 2.0, 4.0, 4.0, 4.0, 4.0]
    told = [record.getMessage() for record in caplog.records if "wrong token" in record.getMessage()]
    assert len(told) == 4
    assert "127.0.0.1 for POST '/api/v1/runs'" in told[0]
    assert "gu3ss" not in caplog.text


async def test_wrong_token_records_are_bounded_and_expire(naps):
    now = 0.0
    wrong = WrongTokens(now=lambda: now, sleep=naps)
    for number in range(5000):
        await wrong.delay(f"10.0.{number // 256}.{number % 256}", "GET '/'")
    assert len(wrong._seen) <= 1024
    for _ in range(3):
        await wrong.delay("192.0.2.1", "GET '/'")
    assert naps.taken[-1] == 1.0
    now = 3600.0
    await wrong.delay("192.0.2.1", "GET '/'")
    assert naps.taken[-1] == 0.25


@pytest.mark.parametrize(
    ("address", "peer"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", ""),
    ],
)
def test_ipv6_addresses_of_a_network_are_one_peer(address, peer):
    assert peer_of(address) == peer


# --- too much at once -----------------------------------------------------------------------------------------------


async def test_probes_are_answered_above_request_limit():
    answered = []

    async def busy(scope, receive, send):
        answered.append(scope["path"])
        if scope["path"] == "/":
            await app(scope_of("/runs"), receive, send)
            await app(scope_of("/metrics"), receive, send)

    def scope_of(path):
        return {"type": "http", "method": "GET", "path": path, "headers": []}

    sent = []

    async def send(message):
        sent.append(message)

    async def receive():
        return {"type": "http.request"}

    app = RoomForProbes(busy, limit=1)
    await app(scope_of("/"), receive, send)
    assert answered == ["/", "/metrics"]
    assert sent[0]["status"] == 503
    await app(scope_of("/runs"), receive, send)
    assert answered[-1] == "/runs"


def test_application_has_both_middlewares(daemon):
    with daemon.built():
        found: list[object] = [each.cls for each in application(daemon.service, daemon.guard).user_middleware]
    assert found.index(RoomForProbes) < found.index(Admission)
