"""Webhooks: what is sent, how often it is tried, and what is never shown."""

import asyncio
import hashlib
import hmac
import json

import anyio
import anyio.to_thread
import httpx
import pytest
from tenacity import wait_none

from syncer.accounts.settings import Secret
from syncer.notify.channel import InvalidAddress
from syncer.notify.notifier import Notifier
from syncer.notify.open import open_channel
from syncer.notify.webhook import SIGNATURE_HEADER, Webhook
from tests.unit.notify.conftest import ended

URL = "https://hooks.example/services/T000/B000/s3cret"


class Room:
    """Answers as `statuses` say, the last one for ever; an exception is raised."""

    def __init__(self, watch, *statuses) -> None:
        self.watch = watch
        self.statuses = list(statuses) or [200]
        self.requests: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        status = self.statuses.pop(0) if len(self.statuses) > 1 else self.statuses[0]
        if isinstance(status, Exception):
            raise status
        return httpx.Response(status, headers={"location": "https://elsewhere.example/"})

    async def hear(self, *runs, urls=(URL,), secret=None):
        channels = [Webhook(url, secret=secret, transport=lambda: httpx.MockTransport(self)) for url in urls]
        notifier = Notifier(channels, self.watch, wait=wait_none())
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
    assert list(open_channel(url).secret_texts()) == secrets


async def test_notification_has_text_and_data(watch):
    (message,) = await Room(watch).hear(ended(failed=["1.0"], synced=["1.1"]))
    assert message["event"] == "partial"
    assert message["run"]["id"] == "r1"
    assert message["totals"]["images"]["failed"] == 1
    assert message["text"].splitlines()[0] == "image-syncer: 1 of 2 images failed"


async def test_registry_text_is_escaped_in_notification(watch):
    (message,) = await Room(watch).hear(ended(failed=["1.0"], message="<!channel> & so on"))
    assert "<!channel>" not in message["text"]
    assert "&lt;!channel&gt; &amp;" in message["text"]


async def test_notification_is_signed_if_secret_is_set(watch):
    room = Room(watch)
    await room.hear(ended(failed=["1.0"]), secret=Secret("key"))
    (request,) = room.requests
    wanted = hmac.new(b"key", request.content, hashlib.sha256).hexdigest()
    assert request.headers[SIGNATURE_HEADER] == f"sha256={wanted}"
    assert request.headers["content-type"] == "application/json"
    other = Room(watch)
    await other.hear(ended(failed=["1.1"]))
    assert SIGNATURE_HEADER not in other.requests[0].headers


async def test_every_url_gets_the_notification(watch):
    room = Room(watch)
    await room.hear(ended(failed=["1.0"]), urls=[URL, "http://127.0.0.1:9/x"])
    assert {str(request.url) for request in room.requests} == {URL, "http://127.0.0.1:9/x"}


@pytest.mark.parametrize("trouble", [500, 503, 429, httpx.ConnectError("refused"), httpx.ReadTimeout("late")])
async def test_failed_notification_is_retried(watch, trouble, caplog):
    room = Room(watch, trouble, trouble, 200)
    await room.hear(ended(failed=["1.0"]))
    assert len(room.requests) == 3
    assert caplog.text == ""


@pytest.mark.parametrize(
    ("answer", "tries"),
    [(500, 5), (400, 1), (302, 1), (httpx.ConnectError(f"cannot reach {URL}"), 5), (RuntimeError(URL), 1)],
)
async def test_permanent_failure_is_logged_without_url(watch, answer, tries, caplog):
    room = Room(watch, answer)
    await room.hear(ended(failed=["1.0"]))
    assert len(room.requests) == tries
    assert "https://hooks.example/… failed" in caplog.text
    assert "s3cret" not in caplog.text
    assert "T000" not in caplog.text


async def test_response_with_any_bytes_in_its_headers_is_accepted(watch, caplog):
    taken = []

    async def serve(reader, writer):
        head = await reader.readuntil(b"\r\n\r\n")
        taken.append(await reader.readexactly(int(head.lower().partition(b"content-length:")[2].split()[0])))
        writer.write(
            b"HTTP/1.1 200 OK\r\nX-Room: caf\xe9\r\nx-room: \xff\r\nX-Empty:\r\nContent-Length: 0\r\n\r\n"
        )
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        channel = Webhook(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/hook")
        notifier = Notifier([channel], watch, wait=wait_none())
        with anyio.fail_after(10):
            async with anyio.create_task_group() as group:
                group.start_soon(notifier.run)
                await anyio.to_thread.run_sync(notifier.tell, ended(failed=["1.0"]))
                await notifier.drain()
                group.cancel_scope.cancel()
    assert len(taken) == 1
    assert caplog.text == ""


async def test_failure_that_no_url_accepted_is_named_after_the_next_run(watch):
    room = Room(watch, 400, 200)
    await room.hear(ended(failed=["1.0"]), ended(failed=["1.0"]), ended(failed=["1.0"]))
    assert len(room.requests) == 2


async def test_failure_that_one_url_accepted_is_not_repeated(watch):
    room = Room(watch, 400, 200)
    await room.hear(ended(failed=["1.0"]), ended(failed=["1.0"]), urls=[URL, "http://127.0.0.1:9/x"])
    assert len(room.requests) == 2


async def test_hanging_url_does_not_delay_others(watch, caplog):
    notifier = Notifier([Webhook(URL, transport=lambda: httpx.MockTransport(never))], watch)
    async with anyio.create_task_group() as group:
        group.start_soon(notifier.run)
        for number in range(40):
            await anyio.to_thread.run_sync(notifier.tell, ended(failed=[f"1.{number}"]))
        group.cancel_scope.cancel()
    assert "the queue is full" in caplog.text


async def test_notification_that_is_cut_off_is_sent_after_the_next_run(watch):
    notifier = Notifier([Webhook(URL, transport=lambda: httpx.MockTransport(never))], watch)
    async with anyio.create_task_group() as group:
        group.start_soon(notifier.run)
        await anyio.to_thread.run_sync(notifier.tell, ended(failed=["1.0"]))
        group.cancel_scope.cancel()
    assert len(await Room(watch).hear(ended(failed=["1.0"]))) == 1


async def test_delivery_ends_after_its_time(watch, caplog):
    notifier = Notifier([Webhook(URL, transport=lambda: httpx.MockTransport(never))], watch)
    with anyio.fail_after(10):
        await notifier.deliver(ended(failed=["1.0"]), seconds=0.01)
    assert "notification to https://hooks.example/… failed: no time left" in caplog.text


async def never(_request):
    await anyio.sleep_forever()


@pytest.mark.parametrize("url", ["s3cret", "http://", "http://[s3cret", "http://h:s3cret/", "://s3cret"])
def test_invalid_url_is_refused_and_not_shown(url):
    with pytest.raises(InvalidAddress) as error:
        open_channel(url)
    assert "s3cret" not in str(error.value)
