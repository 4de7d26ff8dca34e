"""Settings that all repositories of a registry share."""

import asyncio

import anyio

from syncer.accounts.settings import Account, HostSettings, Secret
from syncer.demo import Answer
from syncer.events import ConcurrencyChanged
from syncer.http.wire import ConnectionPool
from syncer.oci.reference import Repository
from syncer.places import open as opening
from syncer.places.open import PlaceDirectory
from tests.support.waiting import Waiting
from tests.support.wire import Recorder


async def test_concurrency_is_reported_for_all_accounts_of_a_registry(memory):
    on_retry = Recorder()
    accounts = {"ours": Account("ours", "user", Secret("password"))}
    answers = [Answer(429, {}, b""), Answer(404, {}, b"")]

    @memory.before
    async def throttle(_request):
        return answers.pop(0) if answers else None

    async with ConnectionPool() as transport:
        directory = PlaceDirectory(
            account_for=lambda name: accounts.get(name.path),
            settings_for=lambda _name: HostSettings(plain_http=True),
            transport=transport,
            observer=on_retry,
            connections=4,
        )
        for path in ("ours", "others", "others2"):
            directory.source(Repository(memory.host, path))
        await directory.source(Repository(memory.host, "others")).resolve("1")
    host = memory.host
    assert on_retry.of(ConcurrencyChanged) == [
        ConcurrencyChanged(host, 4),
        ConcurrencyChanged(host, 8),
        ConcurrencyChanged(host, 6),
    ]
    assert not answers


async def test_tag_list_request_prewarms_connections(directory):
    """The server responds only after 4 connections are open, which is the concurrency limit here."""
    waiting = Waiting(4, b'HTTP/1.1 200 OK\r\nContent-Length: 15\r\n\r\n{"tags": ["1"]}')
    opener = directory()
    async with await asyncio.start_server(waiting.serve, "127.0.0.1", 0) as server:
        host = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        with anyio.fail_after(5):
            found = [page async for page in opener.source(Repository(host, "a")).tags()]
            assert not await opener.destination(Repository(host, "b")).is_new()
        await opener._transport.aclose()
    assert found == [["1"]]
    assert waiting.most == 4


async def test_repository_that_was_not_used_for_longest_is_opened_again(memory, monkeypatch):
    monkeypatch.setattr(opening, "MAX_OPEN", 2)
    async with ConnectionPool() as transport:
        directory = PlaceDirectory(
            account_for=lambda _name: None,
            settings_for=lambda _name: HostSettings(plain_http=True),
            transport=transport,
            observer=Recorder(),
            connections=4,
        )
        first, second, third = (Repository(memory.host, path) for path in ("a", "b", "c"))
        kept, dropped = directory.source(first), directory.source(second)
        assert directory.source(first) is kept
        directory.source(third)
        assert directory.source(first) is kept
        assert directory.source(second) is not dropped
