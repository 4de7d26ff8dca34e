"""Notifications: when, what, how often tried, and what is never shown."""

import hashlib
import hmac
import json
from typing import Any

import anyio
import anyio.to_thread
import httpx
import pytest
from tenacity import wait_none

from syncer.accounts.settings import Secret
from syncer.daemon.notify import SIGNATURE_HEADER, InvalidAddress, Notifier, occasion_of, secrets_of
from syncer.daemon.runs import Ended
from syncer.events import Failure, ImageFailed, RunFinished, RunStarted
from syncer.observe.report import ReportObserver
from syncer.state.history import RuleResult
from tests.support.rules import numbered
from tests.unit.daemon.conftest import reference

URL = "https://hooks.example/services/T000/B000/s3cret"


def ended(outcome="failure", *, failures=1, rules=None, before=None, message="no such image", error=None):
    report = ReportObserver()
    report.notify(RunStarted("r1", "schedule", 1))
    for _ in range(failures):
        failure = Failure("not_found", message, "quay.io", 404)
        report.notify(
            ImageFailed(numbered(0), reference("source.example"), reference("there.example"), failure)
        )
    report.notify(RunFinished("r1", "schedule", outcome, 1.0))
    summary = report.run() | {"totals": report.totals()} | ({"error": error} if error else {})
    results = {rule: RuleResult("r0", 1.0, result) for rule, result in (before or {}).items()}
    return Ended(summary, report, {"app": outcome} if rules is None else rules, results)


class Room:
    """Answers as `statuses` say, the last one for ever; an exception is raised."""

    def __init__(self, *statuses) -> None:
        self.statuses = list(statuses) or [200]
        self.requests: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        status = self.statuses.pop(0) if len(self.statuses) > 1 else self.statuses[0]
        if isinstance(status, Exception):
            raise status
        return httpx.Response(status, headers={"location": "https://elsewhere.example/"})

    async def hear(self, *runs, urls=(URL,), **options) -> list[dict[str, Any]]:
        options = {"wait": wait_none(), **options}
        notifier = Notifier(urls, transport=lambda: httpx.MockTransport(self), **options)
        with anyio.fail_after(10):
            async with anyio.create_task_group() as group:
                group.start_soon(notifier.run)
                for run in runs:
                    await anyio.to_thread.run_sync(notifier.tell, run)
                await notifier.drain()
                group.cancel_scope.cancel()
        return [json.loads(request.content) for request in self.requests]


@pytest.mark.parametrize(
    ("url", "secrets"),
    [
        (URL, ["/services/T000/B000/s3cret"]),
        ("https://room.example/robot/send?access_token=abc", ["/robot/send?access_token=abc"]),
        ("https://user:word@room.example:8443/hook", ["user:word"]),
        ("http://127.0.0.1:8080/", []),
    ],
)
def test_url_is_secret_except_its_host(url, secrets):
    assert list(secrets_of(url)) == secrets


class TestOccasions:
    @pytest.mark.parametrize(
        ("outcome", "before", "occasion"),
        [
            ("failure", {}, "failure"),
            ("partial", {}, "partial"),
            ("success", {}, None),
            ("success", {"app": "success"}, None),
            ("success", {"app": "failure"}, "recovery"),
            ("success", {"app": "partial"}, "recovery"),
            ("success", {"other": "failure"}, None),  # that one has not recovered
            ("interrupted", {"app": "failure"}, None),
        ],
    )
    def test_default_occasions_are_failures_and_recoveries(self, outcome, before, occasion):
        wanted = {"failure", "partial", "recovery"}
        assert occasion_of(ended(outcome, before=before), wanted) == occasion

    def test_only_selected_occasions_are_notified(self):
        assert occasion_of(ended("success"), {"success"}) == "success"
        assert occasion_of(ended("interrupted"), {"interrupted"}) == "interrupted"
        assert occasion_of(ended("failure"), {"success"}) is None
        assert occasion_of(ended("success", before={"app": "failure"}), {"success"}) == "success"


async def test_notification_has_text_and_data():
    (message,) = await Room().hear(ended("partial", failures=7))
    assert message["event"] == "partial"
    assert message["run"]["id"] == "r1"
    assert message["totals"]["images"]["failed"] == 7
    assert len(message["failed"]) == 7
    lines = message["text"].splitlines()
    assert lines[0] == "image-syncer: 7 of 7 images failed (run r1, partial; 0 synced)"
    assert lines[1] == "source.example/team/app:1.0 -&gt; there.example/team/app:1.0: no such image"
    assert lines[-1] == "and 2 more"


async def test_crash_is_named_in_notification():
    (message,) = await Room().hear(ended(failures=0, error="the run was aborted: KeyError"))
    assert "the run was aborted: KeyError" in message["text"]


async def test_registry_text_is_escaped_in_notification():
    (message,) = await Room().hear(ended(message="<!channel> & " + "x" * 5000))
    assert "<!channel>" not in message["text"]
    assert "&lt;!channel&gt; &amp;" in message["text"]
    assert len(message["text"]) < 1000


async def test_notification_is_signed_if_secret_is_set():
    room = Room()
    await room.hear(ended(), secret=Secret("key"))
    (request,) = room.requests
    wanted = hmac.new(b"key", request.content, hashlib.sha256).hexdigest()
    assert request.headers[SIGNATURE_HEADER] == f"sha256={wanted}"
    assert request.headers["content-type"] == "application/json"
    await (other := Room()).hear(ended())
    assert SIGNATURE_HEADER not in other.requests[0].headers


async def test_every_url_gets_the_notification():
    room = Room()
    await room.hear(ended(), urls=[URL, "http://127.0.0.1:9/x"])
    assert {str(request.url) for request in room.requests} == {URL, "http://127.0.0.1:9/x"}


@pytest.mark.parametrize("trouble", [500, 503, 429, httpx.ConnectError("refused"), httpx.ReadTimeout("late")])
async def test_failed_notification_is_retried(trouble, caplog):
    room = Room(trouble, trouble, 200)
    await room.hear(ended())
    assert len(room.requests) == 3
    assert caplog.text == ""


@pytest.mark.parametrize(
    ("answer", "tries"),
    [(500, 5), (400, 1), (302, 1), (httpx.ConnectError(f"cannot reach {URL}"), 5), (RuntimeError(URL), 1)],
)
async def test_permanent_failure_is_logged_without_url(answer, tries, caplog):
    room = Room(answer)
    await room.hear(ended())
    assert len(room.requests) == tries
    assert "https://hooks.example/… failed" in caplog.text
    assert "s3cret" not in caplog.text
    assert "T000" not in caplog.text


async def test_hanging_url_does_not_delay_others(caplog):
    notifier = Notifier([URL], transport=lambda: httpx.MockTransport(never))
    async with anyio.create_task_group() as group:
        group.start_soon(notifier.run)
        for _ in range(100):
            await anyio.to_thread.run_sync(notifier.tell, ended())
        group.cancel_scope.cancel()
    assert "the queue is full" in caplog.text


async def never(_request):
    await anyio.sleep_forever()


@pytest.mark.parametrize(
    "url", ["ftp://host/s3cret", "s3cret", "http://", "http://[s3cret", "http://h:s3cret/"]
)
def test_invalid_url_is_refused_and_not_shown(url):
    with pytest.raises(InvalidAddress) as error:
        Notifier([url])
    assert "s3cret" not in str(error.value)
