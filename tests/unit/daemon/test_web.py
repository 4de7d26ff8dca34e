"""The HTTP of the daemon: what is answered to whom."""

import gzip
import json
import socket

import pytest

from syncer.accounts.settings import Secret
from syncer.daemon.admission import MAX_BODY
from syncer.daemon.guard import Guard
from syncer.daemon.server import listen
from syncer.daemon.service import Plan
from syncer.observe.metrics import CONTENT_TYPE
from tests.unit.daemon.conftest import until_told

RUNS = "/api/v1/runs"
TOKEN = Guard("0.0.0.0", lambda: Secret("s3cret-töken"))
GETS = [
    "/metrics",
    "/healthz",
    "/readyz",
    "/api/v1/status",
    RUNS,
    f"{RUNS}/unknown",
    "/",
    "/runs",
    "/runs/unknown",
]


async def test_health_and_readiness(daemon):
    async with daemon.running() as service, daemon.client() as client:
        assert (await client.get("/healthz")).status_code == 200
        assert (await client.get("/readyz")).status_code == 200
        service.stop()
        assert (await client.get("/healthz")).status_code == 200
        answer = await client.get("/readyz")
        assert (answer.status_code, answer.text) == (503, "stopping\n")


async def test_daemon_is_not_ready_before_schedules_are_active(daemon):
    with daemon.built():
        async with daemon.client() as client:
            assert (await client.get("/readyz")).status_code == 503


async def test_metrics_are_prometheus_text(daemon):
    async with daemon.running(), daemon.client() as client:
        answer = await client.get("/metrics")
    assert answer.headers["content-type"] == CONTENT_TYPE
    assert 'syncer_build_info{version="' in answer.text


@pytest.mark.parametrize("path", [*GETS, "/nowhere"])
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_every_answer_has_the_security_headers(daemon, method, path):
    async with daemon.running(), daemon.client() as client:
        headers = (await client.request(method, path)).headers
    policy = headers["content-security-policy"]
    assert policy.startswith("default-src 'none'")
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["cache-control"] == "no-store"
    assert "access-control-allow-origin" not in headers


async def test_status_lists_rules_schedules_and_last_run(daemon):
    daemon.plan = Plan(("@hourly",))
    daemon.images["source.example/own:1"] = {"to": "there.example/own", "schedule": "30 * * * *"}
    async with daemon.running() as service, daemon.client() as client:
        before = (await client.get("/api/v1/status")).json()
        run_id = await service.run_now()
        await daemon.settle()
        after = (await client.get("/api/v1/status")).json()
    assert before["ready"] is True
    assert before["run"] is before["last_run"] is None
    assert before["post"] == "local"
    assert [(each["schedule"], each["next"], each["rules"]) for each in before["schedules"]] == [
        ("30 * * * *", "2026-06-01T12:30:00Z", 1),
        ("@hourly", "2026-06-01T13:00:00Z", 1),
    ]
    app, own = before["rules"]
    assert app == {
        "source": "source.example/team/app:1.0",
        "destinations": ["there.example/team/app"],
        "selection": None,
        "schedule": None,
        "next": "2026-06-01T13:00:00Z",
        "last": None,
    }
    assert (own["schedule"], own["next"]) == ("30 * * * *", "2026-06-01T12:30:00Z")
    assert after["last_run"]["id"] == run_id
    assert after["rules"][0]["last"]["outcome"] == "success"
    assert after["rules"][0]["last"]["succeeded"] is not None


async def test_status_shows_the_run_in_progress(daemon):
    async def work(run):
        run.synced()
        run.failed()
        await until_told(run)

    daemon.script = work
    async with daemon.running() as service, daemon.client() as client:
        run_id = await service.run_now()
        await daemon.until(lambda: daemon.blocked)
        run = (await client.get("/api/v1/status")).json()["run"]
        live = (await client.get(f"{RUNS}/{run_id}")).json()
    assert (run["id"], run["images"]["synced"], run["images"]["failed"]) == (run_id, 1, 1)
    assert run["failures"][0]["error"]["kind"] == "not_found"
    assert live["run"] == {
        "id": run_id,
        "trigger": "api",
        "started": run["started"],
        "finished": None,
        "outcome": None,
    }
    assert len(live["images"]) == 2


class TestRuns:
    async def test_the_history_comes_in_pages(self, daemon):
        async with daemon.running() as service, daemon.client() as client:
            ids: list[str] = []
            for _ in range(4):
                ids.insert(0, await service.run_now())
                await daemon.settle()
            assert [run["id"] for run in (await client.get(RUNS)).json()] == ids
            page = (await client.get(RUNS, params={"limit": 2, "before": ids[1]})).json()
            assert [run["id"] for run in page] == ids[2:]
            assert set(page[0]) == {"id", "trigger", "started", "finished", "outcome", "totals"}
            assert (await client.get(RUNS, params={"before": "2020-01-01T00:00:00Z"})).json() == []
            assert len((await client.get(RUNS, params={"before": "2999-01-01T00:00:00+02:00"})).json()) == 4

    @pytest.mark.parametrize(
        "query",
        ["limit=0", "limit=-1", "limit=x", "limit=", "limit=99999999999", "before=unknown", "before=T"],
    )
    async def test_invalid_query_is_refused(self, daemon, query):
        async with daemon.running(), daemon.client() as client:
            answer = await client.get(f"{RUNS}?{query}")
        assert answer.status_code == 400
        assert answer.json()["error"]

    async def test_report_is_gzip_if_client_accepts_it(self, daemon):
        async def work(run):
            run.synced()

        daemon.script = work
        async with daemon.running() as service, daemon.client() as client:
            run_id = await service.run_now()
            await daemon.settle()
            plain = await client.get(f"{RUNS}/{run_id}", headers={"accept-encoding": "identity"})
            async with client.stream("GET", f"{RUNS}/{run_id}") as packed:
                raw = b"".join([chunk async for chunk in packed.aiter_raw()])
        assert "content-encoding" not in plain.headers
        assert packed.headers["content-encoding"] == "gzip"
        assert json.loads(gzip.decompress(raw)) == plain.json()
        assert plain.json()["run"]["id"] == run_id

    async def test_unknown_run_is_404(self, daemon):
        async with daemon.running(), daemon.client() as client:
            for method, path in [
                ("GET", f"{RUNS}/nope"),
                ("POST", f"{RUNS}/nope/cancel"),
                ("GET", "/api/v1/nope"),
            ]:
                answer = await client.request(method, path)
                assert answer.status_code == 404
                assert "error" in answer.json()


class TestPosts:
    async def test_a_run_is_started_and_cancelled(self, daemon):
        daemon.script = until_told
        async with daemon.running(), daemon.client() as client:
            started = await client.post(RUNS)
            assert started.status_code == 202
            run_id = started.json()["id"]
            assert started.headers["location"] == f"{RUNS}/{run_id}"
            assert (await client.post(RUNS)).status_code == 409
            assert (await client.post(f"{RUNS}/{run_id}/cancel")).status_code == 202
            await daemon.settle()
            assert (await client.post(f"{RUNS}/{run_id}/cancel")).status_code == 409
            assert (await client.get(f"{RUNS}/{run_id}")).json()["run"]["outcome"] == "interrupted"

    async def test_start_is_refused_while_stopping(self, daemon):
        async with daemon.running() as service, daemon.client() as client:
            service.stop()
            assert (await client.post(RUNS)).status_code == 503

    @pytest.mark.parametrize(
        "headers",
        [
            {},
            {"host": "localhost:8080"},
            {"host": "[::1]:8080"},
            {"host": "localhost:9000", "origin": "http://localhost:9000"},  # through a tunnel
            {"origin": "http://127.0.0.1:8080", "sec-fetch-site": "same-origin"},
            {"sec-fetch-site": "none"},
        ],
    )
    async def test_local_programs_and_pages_may_start_runs(self, daemon, headers):
        async with daemon.running(), daemon.client() as client:
            assert (await client.post(RUNS, headers=headers)).status_code == 202

    @pytest.mark.parametrize(
        "headers",
        [
            {"host": "evil.example"},  # rebinding: the name leads here
            {"host": "evil.example:8080", "origin": "http://evil.example:8080"},
            {"host": "127.0.0.1.evil.example"},
            {"host": ""},
            {"host": "["},
            {"origin": "http://evil.example"},
            {"origin": "http://localhost:3000"},
            {"origin": "http://127.0.0.1"},
            {"origin": "null"},
            {"sec-fetch-site": "cross-site"},
            {"sec-fetch-site": "same-site"},
        ],
    )
    async def test_pages_of_other_sites_may_not_start_runs(self, daemon, headers):
        async with daemon.running(), daemon.client() as client:
            for path in (RUNS, f"{RUNS}/x/cancel"):
                assert (await client.post(path, headers=headers)).status_code == 403
        assert daemon.runs == []

    async def test_start_is_refused_on_public_address_without_token(self, daemon):
        daemon.guard = Guard("0.0.0.0")
        async with daemon.running(), daemon.client() as client:
            answer = await client.post(RUNS)
            assert answer.status_code == 403
            assert "--api-token-file" in answer.json()["error"]
            assert (await client.get("/api/v1/status")).json()["post"] == "closed"

    @pytest.mark.parametrize(
        "header",
        [
            None,
            "",
            "Bearer",
            "Bearer ",
            "Bearer wrong",
            "Basic s3cret-töken",
            "s3cret-töken",
            "Bearer s3cret-töken2",
        ],
    )
    async def test_start_requires_token_if_set(self, daemon, header):
        daemon.guard = TOKEN
        headers = {} if header is None else {"authorization": header.encode()}
        async with daemon.running(), daemon.client() as client:
            answer = await client.post(RUNS, headers=headers)
            assert answer.status_code == 401
            assert answer.headers["www-authenticate"].startswith("Bearer")
            assert (await client.get("/api/v1/status")).json()["post"] == "token"
        assert daemon.runs == []

    async def test_valid_token_is_accepted_from_any_origin(self, daemon):
        daemon.guard = TOKEN
        headers = {"authorization": "bearer s3cret-töken".encode(), "host": "syncer.example"}
        async with daemon.running(), daemon.client() as client:
            assert (await client.post(RUNS, headers=headers)).status_code == 202

    async def test_body_over_limit_is_refused(self, daemon):
        async def endless():
            for _ in range(100):
                yield bytes(MAX_BODY // 10)

        async with daemon.running(), daemon.client() as client:
            assert (await client.post(RUNS, content=b" " * MAX_BODY)).status_code == 202
            assert (await client.post(RUNS, content=b" " * (MAX_BODY + 1))).status_code == 413
            assert (await client.post(RUNS, content=endless())).status_code == 413

    @pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS"])
    async def test_other_methods_are_refused(self, daemon, method):
        async with daemon.running(), daemon.client() as client:
            assert (await client.request(method, RUNS)).status_code == 405


def test_listening_socket_has_tcp_nodelay():
    with listen("127.0.0.1", 0) as bound, socket.create_connection(bound.getsockname()):
        bound.setblocking(True)
        accepted, _ = bound.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


async def test_no_secret_is_served(daemon):
    daemon.guard = TOKEN
    async with daemon.running() as service, daemon.client() as client:
        await service.run_now()
        await daemon.settle()
        for path in GETS:
            assert "s3cret" not in (await client.get(path)).text
