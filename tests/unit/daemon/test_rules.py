"""What the API says of the rules, what a run of one would do, and how far the mirror is behind."""

from datetime import timedelta

import jsonschema
import pytest

from syncer.daemon.guard import Guard
from syncer.daemon.lag import Lag
from syncer.demo import MemoryRegistry
from syncer.demo.images import make_image, make_layer
from syncer.events import Failure
from syncer.state.behind import BehindTable
from tests.unit.daemon.conftest import auth_book, until_told
from tests.unit.daemon.test_runs import SCHEMA

RULES = {
    "source.example/team/app:1.0": "there.example/team/app",
    "source.example/b:/^v/": {"to": ["there.example/b", "other.example/b"], "name": "base images/plan"},
}
HOST = {"destination": "there.example"}


async def rules_of(client):
    return (await client.get("/api/v1/rules")).json()


class TestRules:
    async def test_rules_say_what_they_mean(self, daemon):
        daemon.images = RULES
        async with daemon.running(), daemon.client() as client:
            first, second = await rules_of(client)
        assert first["name"] == first["source"] == "source.example/team/app:1.0"
        assert (first["selects"], second["selects"]) == ("1.0", "tags that match /^v/")
        assert second["name"] == "base images/plan"
        assert second["destinations"] == ["there.example/b", "other.example/b"]
        assert (first["last"], first["images"], first["behind"], first["lag"]) == (None, None, 0, 0.0)

    async def test_images_of_the_last_run_are_counted(self, daemon):
        async def some(run):
            run.synced()
            run.failed()

        daemon.script = some
        async with daemon.running() as service, daemon.client() as client:
            await service.run_now()
            await daemon.settle()
            (rule,) = await rules_of(client)
        assert rule["images"] == {"synced": 1, "skipped": 0, "failed": 1}
        assert rule["last"]["outcome"] == "partial"


class TestPlan:
    @pytest.fixture
    async def registries(self, daemon):
        async with MemoryRegistry() as source, MemoryRegistry() as there:
            make_image(source.store, "app", "1", layers=[make_layer({"a": b"b"})])
            daemon.images = {f"{source.host}/app": {"to": f"{there.host}/app", "name": "a/b c"}}
            daemon.auth = auth_book({host: {"plain_http": True} for host in (source.host, there.host)})
            yield source, there

    async def test_plan_is_a_dry_run(self, daemon, registries):
        async with daemon.running(), daemon.client() as client:
            answer = await client.get("/api/v1/rules/a%2Fb%20c/plan")
        assert answer.status_code == 200, answer.text
        plan = answer.json()
        assert plan["images"][0]["plan"]["action"] == "copy"
        assert plan["run"]["dry_run"] is True
        # What each step of the selection left, and what pruning would change: a report has only what was removed.
        assert [plan.pop(key) for key in ("selections", "pruned", "not_pruned")] == [[], [], []]
        jsonschema.validate(plan, SCHEMA)
        assert {request.method for request in registries[1].requests} <= {"GET", "HEAD"}
        assert daemon.summaries() == []
        assert daemon.sample("syncer_mirror_lag_seconds", destination=registries[1].host) == 0

    @pytest.mark.parametrize("name", ["none", "a", "a%2Fb", "a%2Fb%20*"])
    async def test_unknown_rule_is_not_found(self, daemon, registries, name):
        async with daemon.running(), daemon.client() as client:
            assert (await client.get(f"/api/v1/rules/{name}/plan")).status_code == 404
        assert not registries[0].requests

    async def test_page_of_another_site_gets_no_plan(self, daemon, registries):
        daemon.guard = Guard("127.0.0.1")
        async with daemon.running(), daemon.client() as client:
            answer = await client.get(
                "/api/v1/rules/a%2Fb%20c/plan", headers={"sec-fetch-site": "cross-site"}
            )
            assert answer.status_code == 403
        assert not registries[0].requests


class TestLag:
    async def fail(self, run):
        run.failed(failure=Failure("server_error", "busy", "there.example", 500))

    async def copy(self, run):
        run.synced()

    async def test_lag_grows_until_the_image_is_complete(self, daemon):
        daemon.script = self.fail
        async with daemon.running() as service:
            assert daemon.sample("syncer_mirror_lag_seconds", **HOST) == 0
            await service.run_now()
            await daemon.settle()
            await daemon.advance(minutes=10)
            daemon.clock.now += timedelta(minutes=5)
            lag = daemon.sample("syncer_mirror_lag_seconds", **HOST)
            assert lag >= 300
            await service.run_now()
            await daemon.settle()
            assert daemon.sample("syncer_mirror_lag_seconds", **HOST) >= lag
            daemon.script = self.copy
            await service.run_now()
            await daemon.settle()
            assert daemon.sample("syncer_mirror_lag_seconds", **HOST) == 0

    @pytest.mark.parametrize(
        "failure",
        [
            Failure("not_found", "gone", "source.example", 404),
            Failure("conflict", "another rule", "there.example"),
        ],
        ids=["gone at the source", "conflict"],
    )
    async def test_image_that_is_not_to_come_is_not_behind(self, daemon, failure):
        async def run_script(run):
            run.failed(failure=failure)

        daemon.script = run_script
        async with daemon.running() as service:
            await service.run_now()
            await daemon.settle()
            daemon.clock.now += timedelta(minutes=5)
            assert daemon.sample("syncer_mirror_lag_seconds", **HOST) == 0

    async def test_image_is_behind_from_its_event_on(self, daemon):
        daemon.script = until_told
        async with daemon.running() as service, daemon.client() as client:
            push = {"action": "push", "target": {"repository": "team/app", "tag": "1.0"}}
            push["request"] = {"host": "source.example"}
            assert (await client.post("/hooks/distribution", json={"events": [push]})).status_code == 202
            daemon.clock.now += timedelta(minutes=1)
            assert daemon.sample("syncer_mirror_lag_seconds", **HOST) == 60
            (rule,) = await rules_of(client)
            assert (rule["behind"], rule["lag"]) == (1, 60.0)
            assert service.lag.by_repository() == {"there.example/team/app": (1, 60.0)}

    async def test_lag_survives_a_restart_and_ends_when_the_tag_is_no_longer_selected(self, daemon):
        daemon.script = self.fail
        async with daemon.running() as service:
            await service.run_now()
            await daemon.settle()
            later = daemon.clock.now + timedelta(hours=1)
            restarted = Lag(BehindTable(daemon.database), now=later.timestamp)
            restarted.restore()
            rules = daemon.files.config.rules
            assert restarted.by_host(rules)["there.example"] >= 3600
            restarted.complete(rules, before=later.timestamp())
            assert restarted.by_host(rules) == {"there.example": 0.0}
            restarted.flush()
            assert BehindTable(daemon.database).load() == {}
