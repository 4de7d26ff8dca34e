"""What `POST /hooks/{kind}` answers, and what comes of it: with runs that do as they are told."""

import json
import sqlite3
import threading
from contextlib import contextmanager

import anyio
import pytest

from syncer.accounts.book import AuthBook
from syncer.accounts.settings import Secret
from syncer.config import Config
from syncer.config.rule_reader import rules_from
from syncer.daemon.admission import MAX_EVENT
from syncer.daemon.guard import Guard
from syncer.daemon.hooks import arrivals
from syncer.daemon.hooks.arrivals import Arrivals
from syncer.daemon.hooks.endpoint import LARGE_EVENT
from syncer.daemon.hooks.journal import Journal
from syncer.daemon.service import Plan
from syncer.events import ImageSynced, RunFinished
from syncer.oci.digest import Digest
from syncer.oci.reference import Reference
from syncer.rules.allowlist import Allowlist
from syncer.state.database import open_database
from syncer.state.lock import StateLocked
from syncer.state.waiting_events import ALL_TAGS, EventKey, WaitingEvents
from tests.unit.daemon.conftest import auth_book, until_told

DIGEST = Digest.of(b"pushed")
HOOK = "/hooks/distribution"


def pushed(*tags, path="team/app", host="source.example", digest=DIGEST):
    """An envelope of distribution, with one push for each tag."""
    events = [
        {"action": "push", "target": {"repository": path, "tag": tag, "digest": digest}, "request": {"host": host}}
        for tag in tags
    ]  # fmt: skip
    return json.dumps({"events": events}).encode()


async def event_run(daemon, number=1):
    """Let the delay pass, and wait for the end of the run that the events start."""
    await daemon.advance(seconds=6)
    await daemon.until(lambda: len(daemon.ended) == number)


def announced(work):
    return {each.rule.name: dict(each.tags) for each in work.announced}


class TestMatching:
    RULES = {
        "source.example/team/app": "there.example/app",
        "source.example/team/named:1,2": "there.example/named",
        "source.example/team/some:/^v/": "there.example/some",
        f"source.example/team/fixed@{DIGEST}": "there.example/fixed:x",
        "nginx:1.27": "there.example/nginx",
    }

    @pytest.mark.parametrize(
        ("event", "status"),
        [
            (pushed("any"), 202),
            (pushed("any", host="SOURCE.example:443"), 202),
            (pushed("any", host="other.example"), 200),
            (pushed("any", host=""), 200),
            (pushed("any", path="team/other"), 200),
            (pushed("2", path="team/named"), 202),
            (pushed("3", path="team/named"), 200),
            (pushed("3", "1", path="team/named"), 202),
            (pushed("v1", path="team/some"), 202),
            (pushed("1", path="team/some"), 200),
            (pushed("1", path="team/fixed"), 202),
            (pushed("1", path="team/fixed", digest=Digest.of(b"other")), 200),
            (pushed(str(DIGEST)), 200),
            (pushed("1.27", path="library/nginx", host="registry-1.docker.io"), 202),
            (b'{"events": []}', 200),
            (b'{"no": "event"}', 400),
            (b" " * (MAX_EVENT + 1), 413),
        ],
        ids=range(17),
    )
    async def test_event_is_answered(self, daemon, event, status):
        daemon.images = self.RULES
        async with daemon.running(), daemon.client() as client:
            assert (await client.post(HOOK, content=event)).status_code == status
        outcome = {202: "taken", 200: "ignored"}.get(status, "refused")
        assert daemon.sample("syncer_events_total", kind="distribution", outcome=outcome) == 1

    async def test_host_of_events_from_is_taken(self, daemon):
        daemon.auth = auth_book({"source.example": {"events_from": ["harbor-core", "10.0.0.7:8080"]}})
        async with daemon.running(), daemon.client() as client:
            for host, status in (("harbor-core", 202), ("10.0.0.7:8080", 202), ("10.0.0.8", 200)):
                assert (await client.post(HOOK, content=pushed("1.0", host=host))).status_code == status

    async def test_region_of_alibaba_is_enough(self, daemon):
        daemon.images = {"registry.cn-hangzhou.aliyuncs.com/ns/app": "there.example/app"}
        body = {
            "push_data": {"tag": "1"},
            "repository": {"repo_full_name": "ns/app", "region": "cn-hangzhou"},
        }
        async with daemon.running(), daemon.client() as client:
            assert (await client.post("/hooks/acr", json=body)).status_code == 202
            body["repository"]["region"] = "cn-beijing"
            assert (await client.post("/hooks/acr", json=body)).status_code == 200

    async def test_unknown_kind_is_not_found(self, daemon):
        async with daemon.running(), daemon.client() as client:
            assert (await client.post("/hooks/other", content=pushed("1"))).status_code == 404
            assert (await client.get(HOOK)).status_code == 405

    async def test_contested_tag_runs_both_rules_as_a_whole(self, daemon):
        daemon.images = {"a.example/x": "there.example/x", "b.example/x": "there.example/x"}
        async with daemon.running(), daemon.client() as client:
            await client.post(HOOK, content=pushed("1", path="x", host="b.example"))
            await event_run(daemon)
            assert daemon.sources() == ["a.example/x", "b.example/x"]
            await client.post(HOOK, content=pushed("1", path="x", host="a.example"))
            await event_run(daemon, 2)
        assert announced(daemon.runs[1].first) == {"a.example/x": {"1": DIGEST}}


class TestPatterns:
    RULES = {
        "source.example/team/**": {
            "to": "there.example/mirror/{path}",
            "repositories": {"exclude": ["old/*"]},
            "tags": "v*",
        }
    }

    @pytest.mark.parametrize(
        ("event", "status"),
        [
            (pushed("v1", path="team/app"), 202),
            (pushed("v1", path="team/group/app"), 202),
            (pushed("v1", path="team/old/app"), 200),
            (pushed("latest", path="team/app"), 200),
            (pushed("v1", path="other/app"), 200),
            (pushed("v1", path="team/app", host="other.example"), 200),
        ],
        ids=range(6),
    )
    async def test_event_of_a_repository_that_a_pattern_selects_is_taken(self, daemon, event, status):
        daemon.images = self.RULES
        async with daemon.running(), daemon.client() as client:
            assert (await client.post(HOOK, content=event)).status_code == status

    async def test_only_the_announced_tags_of_each_repository_are_copied(self, daemon):
        daemon.images = self.RULES
        async with daemon.running(), daemon.client() as client:
            for name in ("a", "b"):
                await client.post(HOOK, content=pushed("v1", path=f"team/{name}"))
            await event_run(daemon)
        work = daemon.runs[0].first
        assert [(str(each.rule.source), str(each.rule.destinations[0].repository)) for each in work.announced] == [
            (f"source.example/team/{name}", f"there.example/mirror/team/{name}") for name in ("a", "b")
        ]  # fmt: skip
        assert [dict(each.tags) for each in work.announced] == [{"v1": DIGEST}] * 2
        assert not work.rules

    async def test_pattern_that_moved_in_the_file_still_copies_the_tag(self, daemon):
        daemon.images = self.RULES
        async with daemon.running() as service, daemon.client() as client:
            await client.post(HOOK, content=pushed("v1"))
            daemon.images = {"other.example/x": "there.example/x", **daemon.images}
            await service.reload()
            await event_run(daemon)
        (found,) = daemon.runs[0].first.announced
        assert (found.rule.number, str(found.rule.source)) == (1, "source.example/team/app")

    @pytest.mark.parametrize(
        ("images", "path", "whole"),
        [
            (
                {"a.example/**": "there.example/{path}", "source.example/x": "there.example/x"},
                "x",
                ["a.example/**", "source.example/x"],
            ),
            ({"source.example/**": "there.example/{name}"}, "a/x", ["source.example/**"]),
            (
                {"source.example/**": "there.example/{path}", "source.example/x": "there.example/x:{tag}"},
                "x",
                [],
            ),
        ],
        ids=["another pattern", "the same pattern", "the same image"],
    )
    async def test_pattern_that_may_write_the_same_tag_runs_as_a_whole(self, daemon, images, path, whole):
        daemon.images = images
        async with daemon.running(), daemon.client() as client:
            await client.post(HOOK, content=pushed("1", path=path))
            await event_run(daemon)
        assert [rule.name for rule in daemon.runs[0].first.rules] == whole

    async def test_repository_that_is_not_allowed_is_ignored(self, daemon):
        daemon.load = lambda: Config(
            AuthBook(), rules_from(self.RULES), allowed=Allowlist(sources=("source.example/team/[*ab]*",))
        )
        async with daemon.running(), daemon.client() as client:
            assert (await client.post(HOOK, content=pushed("v1", path="team/app"))).status_code == 202
            assert (await client.post(HOOK, content=pushed("v1", path="team/xyz"))).status_code == 200


class TestTokens:
    GUARD = Guard("0.0.0.0", token=lambda: Secret("api-s3cret"), hook_token=lambda: Secret("hook-s3cret+/="))

    @pytest.mark.parametrize(
        ("headers", "query", "status"),
        [
            ({"authorization": "Bearer hook-s3cret+/="}, {}, 202),
            ({"authorization": "Basic YW55Omhvb2stczNjcmV0Ky89"}, {}, 202),
            ({}, {"token": "hook-s3cret+/="}, 202),
            ({}, {}, 401),
            ({}, {"token": "wrong"}, 401),
            ({"authorization": "Bearer api-s3cret"}, {}, 401),
            ({"authorization": "hook-s3cret+/="}, {}, 401),
        ],
    )  # fmt: skip
    async def test_token_decides(self, daemon, headers, query, status, caplog):
        daemon.guard = self.GUARD
        async with daemon.running(), daemon.client() as client:
            answer = await client.post(
                HOOK, content=pushed("1.0"), headers={"host": "any.example"} | headers, params=query
            )
            assert answer.status_code == status
        assert "s3cret" not in caplog.text + answer.text
        assert "wrong" not in answer.text

    async def test_hook_token_starts_no_run(self, daemon):
        daemon.guard = self.GUARD
        headers = {"authorization": "Bearer hook-s3cret+/="}
        async with daemon.running(), daemon.client() as client:
            assert (await client.post("/api/v1/runs", headers=headers)).status_code == 401
            assert (await client.post("/api/v1/runs", params={"token": "api-s3cret"})).status_code == 401
        assert daemon.runs == []

    @pytest.mark.parametrize(
        ("listen", "headers", "status"),
        [
            ("127.0.0.1", {}, 202),
            ("127.0.0.1", {"host": "evil.example"}, 403),
            ("127.0.0.1", {"origin": "http://evil.example"}, 403),
            ("0.0.0.0", {}, 403),
        ],
    )
    @pytest.mark.parametrize("token", [None, lambda: Secret("api-s3cret")], ids=["", "api token"])
    async def test_without_hook_token_only_this_machine_is_heard(
        self, daemon, listen, headers, status, token
    ):
        daemon.guard = Guard(listen, token=token)
        async with daemon.running(), daemon.client() as client:
            answer = await client.post(HOOK, content=pushed("1.0"), headers=headers)
            assert answer.status_code == status


class TestRuns:
    async def test_burst_becomes_one_run_after_the_delay(self, daemon):
        daemon.images = {"source.example/team/app": "there.example/app"}
        async with daemon.running(), daemon.client() as client:
            for number in range(20):
                await client.post(HOOK, content=pushed(f"1.{number}"))
            await daemon.advance(seconds=4)
            assert daemon.runs == []
            await client.post(HOOK, content=pushed("1.0", digest=Digest.of(b"newer")))
            await event_run(daemon)
        assert daemon.triggers == ["event"]
        (tags,) = announced(daemon.runs[0].first).values()
        assert len(tags) == 20
        assert tags["1.0"] == Digest.of(b"newer")
        assert daemon.sample("syncer_runs_total", trigger="event", outcome="success") == 1

    async def test_event_joins_the_run_in_progress(self, daemon):
        daemon.script = until_told
        async with daemon.running() as service, daemon.client() as client:
            await service.run_now()
            await daemon.settle()
            await client.post(HOOK, content=pushed("1.0"))
            await daemon.until(lambda: len(daemon.runs[0].added) == 2)
            daemon.runs[0].go_on.set()
            await daemon.settle()
            await daemon.advance(seconds=60)
        assert daemon.triggers == ["api"]
        assert announced(daemon.runs[0].added[1]) == {"source.example/team/app:1.0": {"1.0": DIGEST}}

    async def test_events_wait_while_the_state_folder_is_locked(self, daemon):
        locked = True

        @contextmanager
        def lock():
            if locked:
                raise StateLocked("used by another process")
            yield

        daemon.lock = lock
        async with daemon.running(), daemon.client() as client:
            await client.post(HOOK, content=pushed("1.0"))
            await daemon.advance(seconds=7)
            await daemon.until(lambda: daemon.sample("syncer_runs_skipped_total", reason="locked") == 1)
            assert daemon.summaries() == []
            locked = False
            await daemon.advance(seconds=20)
            await daemon.until(lambda: len(daemon.ended) == 1)
        assert [run["trigger"] for run in daemon.summaries()] == ["event"]

    async def test_rule_that_moved_in_the_file_is_still_copied(self, daemon):
        daemon.images = {"source.example/team/app": "there.example/app"}
        async with daemon.running() as service, daemon.client() as client:
            await client.post(HOOK, content=pushed("1.0"))
            daemon.images = {"other.example/x": "there.example/x", **daemon.images}
            await service.reload()
            await event_run(daemon)
        assert announced(daemon.runs[0].first) == {"source.example/team/app": {"1.0": DIGEST}}

    async def test_flood_of_distinct_tags_becomes_a_run_of_the_whole_rule(self, daemon, monkeypatch):
        monkeypatch.setattr(arrivals, "MAX_WAITING", 200)
        daemon.images = {"source.example/team/app": "there.example/app"}
        async with daemon.running(), daemon.client() as client:
            for start in range(0, 220, 20):
                await client.post(HOOK, content=pushed(*(f"t{start + each}" for each in range(20))))
            await event_run(daemon)
        assert daemon.sources() == ["source.example/team/app"]
        assert daemon.runs[0].first.announced == ()

    async def test_run_that_is_behind_gets_no_more_events(self, daemon, monkeypatch):
        monkeypatch.setattr("syncer.daemon.service.MAX_WAITING", 2)
        daemon.images = {"source.example/team/app": "there.example/app"}
        daemon.script = until_told
        async with daemon.running() as service, daemon.client() as client:
            await service.run_now()
            await daemon.settle()
            run = daemon.runs[0]
            run.behind = 2
            for _ in range(3):
                await client.post(HOOK, content=pushed("1.0"))
            await anyio.sleep(0.2)
            assert run.added == []
            run.behind = 0
            await daemon.until(lambda: run.added)
            run.go_on.set()
            await daemon.settle()
        assert announced(run.added[1]) == {"source.example/team/app": {"1.0": DIGEST}}

    async def test_event_with_many_pushes_is_taken_whole(self, daemon):
        daemon.images = {"source.example/team/app": "there.example/app"}
        tags = [f"t{number}" for number in range(500)]
        body = pushed(*tags)
        assert len(body) > LARGE_EVENT
        async with daemon.running(), daemon.client() as client:
            assert (await client.post(HOOK, content=body)).json() == {"pushed": 500, "taken": 500}
            assert (await client.post(HOOK, content=body.replace(b"t7", b"/7"))).status_code == 400
            await event_run(daemon)
        assert announced(daemon.runs[0].first) == {"source.example/team/app": dict.fromkeys(tags, DIGEST)}

    async def test_rule_with_own_schedule_joins_the_run_of_other_rules(self, daemon):
        daemon.images = {
            "source.example/a:1": "there.example/a",
            "source.example/b:1": {"to": "there.example/b", "schedule": "0 14 * * *"},
        }
        daemon.plan = Plan(("0 * * * *",))
        daemon.script = until_told
        async with daemon.running() as service:
            await daemon.advance(minutes=61)
            assert daemon.sources() == ["source.example/a:1"]
            # At two, both rules are due. The one that the run copies already is skipped.
            await daemon.advance(minutes=60)
            assert [rule.name for rule in daemon.runs[0].added[0].rules] == ["source.example/b:1"]
            assert service.queued is False
            daemon.runs[0].go_on.set()
            await daemon.settle()
        assert len(daemon.runs) == 1
        assert daemon.history.rule_results().keys() == {"source.example/a:1", "source.example/b:1"}
        assert daemon.sample("syncer_runs_skipped_total", reason="overlap") == 1


class TestReferrers:
    SIGNATURE = f"sha256-{DIGEST.hex}.sig"

    @pytest.mark.parametrize(
        ("extra", "event", "status"),
        [
            ({"referrers": True}, pushed(SIGNATURE), 202),
            ({"referrers": True}, pushed(f"sha256-{DIGEST.hex}"), 202),
            ({"referrers": True}, pushed(str(DIGEST)), 202),
            ({"referrers": True}, pushed("other"), 200),
            ({}, pushed(SIGNATURE), 200),
            ({}, pushed(str(DIGEST)), 200),
        ],
        ids=range(6),
    )
    async def test_referrer_is_taken_by_a_rule_that_needs_it(self, daemon, extra, event, status):
        daemon.images = {"source.example/team/app:1.0": {"to": "there.example/app", **extra}}
        async with daemon.running() as service, daemon.client() as client:
            assert (await client.post(HOOK, content=event)).status_code == status
            assert service.lag.behind() == {}


class TestJournal:
    """What is left of the events for the next process."""

    IMAGES = {"source.example/team/app": "there.example/app", "source.example/x/**": "there.example/{path}"}

    @pytest.fixture
    def daemon(self, daemon):
        daemon.keeps_events = True
        daemon.images = self.IMAGES
        return daemon

    @pytest.fixture
    def database(self):
        opened = open_database(None)
        yield opened
        opened.close()

    def rows(self, daemon):
        return {
            (key.rule, key.source, key.tag): digest
            for key, digest in WaitingEvents(daemon.database).load().items()
        }

    async def test_answered_event_is_stored(self, daemon):
        async with daemon.running(), daemon.client() as client:
            assert (await client.post(HOOK, content=pushed("1.0"))).status_code == 202
            await client.post(HOOK, content=pushed("2.0", path="x/y"))
            assert self.rows(daemon) == {
                ("source.example/team/app", "source.example/team/app", "1.0"): DIGEST,
                ("source.example/x/**", "source.example/x/y", "2.0"): DIGEST,
            }

    async def test_event_of_an_earlier_process_is_copied(self, daemon):
        digest = str(DIGEST)
        daemon.left = {
            EventKey("source.example/team/app", "source.example/team/app", "1.0"): digest,
            EventKey("source.example/x/**", "source.example/x/y", "2.0"): "",
            EventKey("gone", "source.example/gone", "1.0"): digest,
        }
        async with daemon.running():
            await event_run(daemon)
            assert announced(daemon.runs[0].first) == {
                "source.example/team/app": {"1.0": DIGEST},
                "source.example/x/**": {"2.0": None},
            }
        assert self.rows(daemon) == {}

    async def test_rule_to_be_run_as_a_whole_is_kept(self, daemon):
        daemon.images = {"a.example/x": "there.example/x", "b.example/x": "there.example/x"}
        async with daemon.running(), daemon.client() as client:
            await client.post(HOOK, content=pushed("1", path="x", host="b.example"))
            left = WaitingEvents(daemon.database).load()
        assert {key.tag for key in left} == {ALL_TAGS}
        again = Arrivals()
        assert again.restore(left, daemon.files.config.rules) == []
        assert [rule.name for rule in again.take(daemon.files.config.rules).rules] == [
            "a.example/x",
            "b.example/x",
        ]

    @pytest.mark.parametrize(
        ("outcome", "left"),
        [("success", set()), ("partial", set()), ("failure", set()), ("interrupted", {"1.0"})],
    )
    async def test_events_of_a_run_are_removed_unless_it_was_interrupted(self, daemon, outcome, left):
        async def end(_run):
            return outcome

        daemon.script = end
        async with daemon.running(), daemon.client() as client:
            await client.post(HOOK, content=pushed("1.0"))
            await event_run(daemon)
        assert {tag for _, _, tag in self.rows(daemon)} == left

    async def test_event_that_comes_during_its_copy_is_kept(self, database):
        newer = Digest.of(b"newer")
        journal = Journal(WaitingEvents(database))
        key = EventKey("source.example/team/app", "source.example/team/app", "1.0")
        rule = rules_from(self.IMAGES)[0]
        source, destination = Reference(rule.source, "1.0"), Reference(rule.destinations[0].repository, "1.0")
        async with anyio.create_task_group() as group:
            group.start_soon(journal.run)
            journal.put({key: str(DIGEST)})
            await journal.stored()
            journal.take()
            journal.put({key: str(newer)})
            await journal.stored()
            journal.notify(ImageSynced(rule, source, destination, DIGEST, None, 1, 0.1))
            journal.notify(RunFinished("r", "event", "success", 0.1))
            group.cancel_scope.cancel()
        assert WaitingEvents(database).load() == {key: str(newer)}

    async def test_complete_image_is_removed_before_the_run_ends(self, database):
        journal = Journal(WaitingEvents(database))
        rule = rules_from(self.IMAGES)[0]
        keys = {tag: EventKey(rule.name, str(rule.source), tag) for tag in ("1.0", "2.0")}
        async with anyio.create_task_group() as group:
            group.start_soon(journal.run)
            journal.put(dict.fromkeys(keys.values(), str(DIGEST)))
            await journal.stored()
            journal.take()
            for tag, digest in (("1.0", DIGEST), ("2.0", Digest.of(b"another image"))):
                there = Reference(rule.destinations[0].repository, tag)
                journal.notify(ImageSynced(rule, Reference(rule.source, tag), there, digest, None, 1, 0.1))
            group.cancel_scope.cancel()
        assert WaitingEvents(database).load() == {keys["2.0"]: str(DIGEST)}

    async def test_event_whose_write_fails_after_the_stop_is_written_again(self, database):
        began, locked = threading.Event(), threading.Event()

        class Locked(WaitingEvents):
            def save(self, changes):
                if not began.is_set():
                    began.set()
                    locked.wait(30)
                    raise sqlite3.OperationalError("database is locked")
                super().save(changes)

        journal = Journal(Locked(database))
        key = EventKey("source.example/team/app", "source.example/team/app", "1.0")
        async with anyio.create_task_group() as group:
            group.start_soon(journal.run)
            journal.put({key: str(DIGEST)})
            await anyio.to_thread.run_sync(began.wait, 30)
            group.cancel_scope.cancel()
        locked.set()
        assert WaitingEvents(database).load() == {key: str(DIGEST)}

    async def test_event_is_answered_although_it_cannot_be_stored(self, daemon, caplog):
        async with daemon.running(), daemon.client() as client:
            with daemon.database.transaction() as connection:
                connection.execute("DROP TABLE waiting_events")
            for tag in ("1.0", "2.0"):
                assert (await client.post(HOOK, content=pushed(tag))).status_code == 202
            await event_run(daemon)
            assert len(announced(daemon.runs[0].first)["source.example/team/app"]) == 2
        assert caplog.text.count("cannot store waiting events") == 1


class TestTargetedRuns:
    RULES = {
        "source.example/a:1": "there.example/a",
        "source.example/b": {"to": "there.example/b", "name": "base images"},
        "other.example/c": "there.example/c",
    }

    @pytest.mark.parametrize(
        ("body", "rules"),
        [
            ({"rules": ["base images"]}, ["base images"]),
            ({"rules": ["source.example/b"]}, ["base images"]),
            ({"rules": ["source.example/*"]}, ["source.example/a:1", "base images"]),
            ({"rules": ["other.example/c", "base*", "base*"]}, ["base images", "other.example/c"]),
            ({"rules": []}, ["source.example/a:1", "base images", "other.example/c"]),
            ({"tags": ["1.*"]}, ["source.example/a:1", "base images", "other.example/c"]),
        ],
    )
    async def test_body_narrows_the_run(self, daemon, body, rules):
        daemon.images = self.RULES
        async with daemon.running(), daemon.client() as client:
            answer = await client.post("/api/v1/runs", json=body)
            assert answer.status_code == 202
            await daemon.settle()
        assert daemon.sources() == rules
        assert daemon.runs[0].first.tags == tuple(body.get("tags", ()))

    @pytest.mark.parametrize(
        "body",
        [
            b"{",
            b"[]",
            b'{"rule": ["a"]}',
            b'{"rules": "a"}',
            b'{"rules": [1]}',
            b'{"rules": null}',
            b'{"tags": ["{a,b}"]}',
            b'{"rules": ["source.example/none"]}',
            b'{"rules": ["base images", "none"]}',
        ],
    )
    async def test_invalid_body_is_refused(self, daemon, body):
        daemon.images = self.RULES
        async with daemon.running(), daemon.client() as client:
            assert (await client.post("/api/v1/runs", content=body)).status_code == 400
        assert daemon.runs == []

    async def test_run_of_some_tags_leaves_the_rules_results(self, daemon):
        daemon.images = self.RULES
        async with daemon.running(), daemon.client() as client:
            await client.post("/api/v1/runs", json={"tags": ["1"]})
            await daemon.settle()
        assert daemon.history.rule_results() == {}
