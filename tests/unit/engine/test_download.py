"""Downloads are resumed after interruptions, and corrupted content is never passed on."""

import anyio
import pytest

from syncer.engine.download import RESUMES, Download
from syncer.errors import DigestMismatch, Kind, RegistryError
from tests.unit.engine.parts import CHUNK, CONTENT, Part, Script, descriptor


async def fetched(script: Script, **blob) -> bytes:
    """Return all bytes that are passed on, also if the download fails."""
    received = []
    async with Download(script.source, descriptor(**blob), lambda _count: None) as download:
        async for chunk in download.chunks():
            received.append(chunk)
    assert script.open == 0
    return b"".join(received)


async def test_blob_is_downloaded_in_one_request():
    script = Script()
    assert await fetched(script) == CONTENT
    assert script.asked == [0]


@pytest.mark.parametrize("start", [None, 0, 250], ids=["from there", "from the start", "from earlier"])
async def test_interrupted_download_resumes_at_its_offset(start):
    script = Script([Part(end=350), Part(start=start)])
    assert await fetched(script) == CONTENT
    assert script.asked == [0, 350]


async def test_download_is_resumed_as_long_as_it_progresses():
    script = Script([Part(end=end) for end in range(50, 1000, 50)])
    assert await fetched(script) == CONTENT
    assert len(script.asked) == 20


async def test_download_fails_without_progress():
    script = Script([Part(end=100), *[Part(start=100, end=100)] * 100])
    with pytest.raises(RegistryError, match="broken"):
        await fetched(script)
    assert len(script.asked) == 1 + RESUMES + 1
    assert script.open == 0


@pytest.mark.parametrize("offset", [350, 0], ids=["after a break", "for a repeated upload"])
async def test_download_that_cannot_go_on_gives_up_while_an_upload_waits(monkeypatch, offset):
    monkeypatch.setattr("syncer.engine.download.HELD_SECONDS", 0.01)
    script = Script([Part(end=350), Part(waits=True)])
    async with Download(script.source, descriptor(), lambda _count: None) as download:
        await download.open()
        if offset == 0:
            assert await anext(aiter(download.chunks())) == CONTENT[:CHUNK]
        with anyio.fail_after(10), pytest.raises(RegistryError, match="could not go on") as raised:
            async for _ in download.chunks():
                pass
        assert download.error is raised.value
    assert not raised.value.permanent
    assert script.asked == [0, offset]
    assert script.open == 0


async def test_blob_in_memory_waits_for_its_download(monkeypatch):
    monkeypatch.setattr("syncer.engine.download.HELD_SECONDS", 0.0)
    script = Script([Part(end=350)])
    async with Download(script.source, descriptor(), lambda _count: None) as download:
        assert await download.whole() == CONTENT


async def test_truncated_body_is_resumed():
    script = Script([Part(content=CONTENT[:300], size=1000)])
    assert await fetched(script) == CONTENT
    assert script.asked == [0, 300]


@pytest.mark.parametrize("status", [404, 416])
async def test_refused_resume_fails(status):
    refusal = RegistryError(Kind.INVALID, "no", status=status)
    script = Script([Part(end=350), Part(refused=refusal)])
    with pytest.raises(RegistryError) as raised:
        await fetched(script)
    assert raised.value is refusal
    assert script.open == 0


async def test_last_chunk_of_corrupted_content_is_not_passed_on():
    script = Script([Part(content=CONTENT[:-1] + b"!")])
    async with Download(script.source, descriptor(), lambda _count: None) as download:
        chunks = download.chunks()
        received = [await anext(chunks) for _ in range(len(CONTENT) // CHUNK - 1)]
        with pytest.raises(DigestMismatch, match="different content"):
            await anext(chunks)
        assert isinstance(download.error, DigestMismatch)
    assert b"".join(received) == CONTENT[:-CHUNK]
    assert script.open == 0


async def test_resumed_download_is_verified_as_a_whole():
    other = bytes(reversed(CONTENT))
    script = Script([Part(end=350), Part(content=other)])
    with pytest.raises(DigestMismatch):
        await fetched(script)


@pytest.mark.parametrize("size", [0, 999, 1001])
async def test_wrong_size_is_rejected_before_reading(size):
    script = Script([Part(content=bytes(size))] * 9)
    with pytest.raises(DigestMismatch, match=f"{size} bytes"):
        await fetched(script)
    assert script.given == 0


async def test_surplus_bytes_are_rejected_without_content_length():
    script = Script([Part(content=CONTENT * 2, size=-1)] * 9)
    with pytest.raises(DigestMismatch):
        await fetched(script)


async def test_empty_blob_needs_no_request():
    script = Script()
    assert await fetched(script, content=b"") == b""
    assert script.asked == []


async def test_empty_blob_with_wrong_digest_fails():
    with pytest.raises(DigestMismatch):
        await fetched(Script(), size=0)


async def test_unknown_size_is_taken_from_registry():
    script = Script()
    assert await fetched(script, size=-1) == CONTENT


async def test_blob_without_any_known_size_fails():
    with pytest.raises(RegistryError, match="neither the manifest nor the registry states"):
        await fetched(Script([Part(size=-1)] * 9), size=-1)


async def test_repeated_bytes_are_reported_once():
    told: list[int] = []
    script = Script([Part(end=350), Part(start=0)])
    async with Download(script.source, descriptor(), told.append) as download:
        async for _ in download.chunks():
            pass
        assert sum(told) == 1000
        # Bytes that are sent twice are received twice.
        assert download.received == 1350


async def test_exit_closes_connection_after_partial_read():
    script = Script()
    async with Download(script.source, descriptor(), lambda _count: None) as download:
        await download.open()
        assert script.open == 1
        assert await anext(download.chunks()) == CONTENT[:CHUNK]
    assert script.open == 0


async def test_exit_ends_reading():
    script = Script()
    async with Download(script.source, descriptor(), lambda _count: None) as download:
        chunks = download.chunks()
        await anext(chunks)
    assert [chunk async for chunk in chunks] == []
    assert script.asked == [0]
    assert script.open == 0
