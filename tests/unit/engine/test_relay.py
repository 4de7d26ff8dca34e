"""Relays of one download to several uploads. Each upload has its own pace and its own failures."""

import asyncio
from collections.abc import AsyncIterator

import anyio
import pytest

from syncer.engine.download import Download
from syncer.engine.relay import relay, relay_whole
from syncer.errors import DigestMismatch, Kind, RegistryError
from tests.unit.engine.parts import CONTENT, FakeUpload, Part, Script, broken, descriptor

WINDOW = 4


async def relayed(script: Script, *uploads: FakeUpload, how=relay, content: bytes = CONTENT):
    """Return the outcome of each upload. Assert that no connection is left open."""
    try:
        with anyio.fail_after(10):
            async with Download(script.source, descriptor(content), lambda _count: None) as download:
                return await how(download, uploads)
    finally:
        assert script.open == 0


@pytest.fixture(autouse=True)
async def nothing_left_running() -> AsyncIterator[None]:
    before = asyncio.all_tasks()
    yield
    await anyio.lowlevel.checkpoint()
    assert len(asyncio.all_tasks()) <= len(before)


@pytest.mark.parametrize("how", [relay, relay_whole])
@pytest.mark.parametrize("count", [1, 2, 5])
async def test_every_upload_receives_whole_blob(how, count):
    script, uploads = Script(), [FakeUpload() for _ in range(count)]
    assert await relayed(script, *uploads, how=how) == [None] * count
    assert all(upload.taken == CONTENT for upload in uploads)
    assert script.asked == [0]


@pytest.mark.parametrize("how", [relay, relay_whole])
async def test_without_uploads_nothing_is_read(how):
    script = Script()
    assert await relayed(script, how=how) == []
    assert script.given == 0


@pytest.mark.parametrize("how", [relay, relay_whole])
async def test_empty_blob_is_uploaded(how):
    upload = FakeUpload()
    assert await relayed(Script(), upload, how=how, content=b"") == [None]
    assert upload.taken == b""


@pytest.mark.parametrize("how", [relay, relay_whole])
@pytest.mark.parametrize("fails_at", [0, 1, 500, 1000])
async def test_failing_upload_does_not_stop_others(how, fails_at):
    bad, good, fine = FakeUpload(fails_at=fails_at), FakeUpload(), FakeUpload()
    outcome = await relayed(Script(), good, bad, fine, how=how)
    assert outcome == [None, bad.error, None]
    assert good.taken == fine.taken == CONTENT


@pytest.mark.parametrize("how", [relay, relay_whole])
async def test_all_uploads_may_fail(how):
    bad = [FakeUpload(fails_at=0), FakeUpload(fails_at=300)]
    assert await relayed(Script(), *bad, how=how) == [upload.error for upload in bad]


async def test_the_download_stays_close_to_the_slowest_upload():
    gate, script = anyio.Event(), Script()
    slow, fast = FakeUpload(gate=gate), FakeUpload()
    prefetcher: list[int] = []

    async def watch() -> None:
        for _ in range(200):
            await anyio.lowlevel.checkpoint()
        prefetcher.append(script.given)
        gate.set()

    async with anyio.create_task_group() as group:
        group.start_soon(watch)
        assert await relayed(script, slow, fast) == [None, None]
    # The window, the chunk in the slow upload, and the chunk in the download.
    assert prefetcher[0] <= WINDOW + 2
    assert slow.taken == fast.taken == CONTENT


async def test_failing_slow_upload_does_not_block_others():
    gate = anyio.Event()
    slow, fast = FakeUpload(gate=gate, fails_at=100), FakeUpload()
    asyncio.get_running_loop().call_later(0.01, gate.set)
    assert await relayed(Script(), slow, fast) == [slow.error, None]
    assert fast.taken == CONTENT


async def test_upload_canceled_while_waiting_does_not_stop_others():
    class Impatient(FakeUpload):
        async def put(self, blob, content):
            with anyio.move_on_after(0.01):
                await super().put(blob, content)
            raise self.error

    impatient, retry = Impatient(gate=anyio.Event()), FakeUpload()
    assert await relayed(Script(), impatient, retry) == [impatient.error, None]
    assert retry.taken == CONTENT


@pytest.mark.parametrize("how", [relay, relay_whole])
@pytest.mark.parametrize("count", [1, 3])
async def test_failing_source_fails_all_uploads(how, count):
    refusal = RegistryError(Kind.NOT_FOUND, "gone")
    uploads = [FakeUpload() for _ in range(count)]
    script = Script([Part(end=500), Part(refused=refusal)])
    with pytest.raises(RegistryError) as raised:
        await relayed(script, *uploads, how=how)
    assert raised.value is refusal
    assert all(len(upload.taken) <= 500 for upload in uploads)


@pytest.mark.parametrize("how", [relay, relay_whole])
@pytest.mark.parametrize("count", [1, 3])
async def test_corrupted_content_completes_no_upload(how, count):
    uploads = [FakeUpload() for _ in range(count)]
    script = Script([Part(content=CONTENT[:-1] + b"!")] * 9)
    with pytest.raises(DigestMismatch):
        await relayed(script, *uploads, how=how)
    assert all(len(upload.taken) < len(CONTENT) for upload in uploads)


@pytest.mark.parametrize("how", [relay, relay_whole])
async def test_corrupted_content_is_downloaded_twice(how):
    uploads = [FakeUpload(), FakeUpload()]
    script = Script([Part(content=CONTENT[:-1] + b"!")])
    assert await relayed(script, *uploads, how=how) == [None, None]
    assert script.asked == [0, 0]


async def test_interrupted_download_is_resumed_for_all_uploads():
    uploads = [FakeUpload(), FakeUpload()]
    script = Script([Part(end=350), Part(end=700)])
    assert await relayed(script, *uploads) == [None, None]
    assert script.asked == [0, 350, 700]


async def test_upload_that_fell_behind_gets_its_own_download():
    class Second(FakeUpload):
        async def put(self, blob, content):
            try:
                await super().put(blob, content)
            finally:
                self.fails_at = None

    late, good = Second(fails_at=300, error=broken("the line")), FakeUpload()
    assert await relayed(Script(), late, good) == [None, None]
    assert late.taken == good.taken == CONTENT


async def test_canceled_relay_closes_everything():
    uploads = [FakeUpload(gate=anyio.Event()), FakeUpload(gate=anyio.Event())]
    script = Script()
    with anyio.move_on_after(0.01) as scope:
        await relayed(script, *uploads)
    assert scope.cancelled_caught
    assert script.open == 0
