"""Downloads: carried on where they broke off, and never let through when they are wrong."""

import pytest

from syncer.engine.relay import RESUMES, Download
from syncer.errors import DigestMismatch, Kind, RegistryError
from tests.unit.engine.parts import CHUNK, CONTENT, Part, Script, descriptor


async def fetched(script: Script, **blob) -> bytes:
    """All that comes through, also when it ends in an error."""
    received = []
    async with Download(script.source, descriptor(**blob), lambda _count: None) as download:
        async for chunk in download.chunks():
            received.append(chunk)
    assert script.open == 0
    return b"".join(received)


async def test_the_whole_comes_in_one_request():
    script = Script()
    assert await fetched(script) == CONTENT
    assert script.asked == [0]


@pytest.mark.parametrize("start", [None, 0, 250], ids=["from there", "from the start", "from earlier"])
async def test_it_goes_on_where_it_broke_off(start):
    script = Script([Part(end=350), Part(start=start)])
    assert await fetched(script) == CONTENT
    assert script.asked == [0, 350]


async def test_it_goes_on_as_often_as_it_gets_further():
    script = Script([Part(end=end) for end in range(50, 1000, 50)])
    assert await fetched(script) == CONTENT
    assert len(script.asked) == 20


async def test_it_gives_up_when_it_gets_no_further():
    script = Script([Part(end=100), *[Part(start=100, end=100)] * 100])
    with pytest.raises(RegistryError, match="broken"):
        await fetched(script)
    assert len(script.asked) == 1 + RESUMES + 1
    assert script.open == 0


async def test_a_body_that_ends_early_without_an_error_is_carried_on():
    script = Script([Part(content=CONTENT[:300], size=1000)])
    assert await fetched(script) == CONTENT
    assert script.asked == [0, 300]


@pytest.mark.parametrize("status", [404, 416])
async def test_a_refusal_to_go_on_is_the_end(status):
    refusal = RegistryError(Kind.INVALID, "no", status=status)
    script = Script([Part(end=350), Part(refused=refusal)])
    with pytest.raises(RegistryError) as raised:
        await fetched(script)
    assert raised.value is refusal
    assert script.open == 0


async def test_of_wrong_content_the_last_chunk_is_held_back():
    script = Script([Part(content=CONTENT[:-1] + b"!")])
    async with Download(script.source, descriptor(), lambda _count: None) as download:
        chunks = download.chunks()
        received = [await anext(chunks) for _ in range(len(CONTENT) // CHUNK - 1)]
        with pytest.raises(DigestMismatch, match="other content"):
            await anext(chunks)
        assert isinstance(download.error, DigestMismatch)
    assert b"".join(received) == CONTENT[:-CHUNK]
    assert script.open == 0


async def test_a_resumed_download_is_checked_as_a_whole():
    other = bytes(reversed(CONTENT))
    script = Script([Part(end=350), Part(content=other)])
    with pytest.raises(DigestMismatch):
        await fetched(script)


@pytest.mark.parametrize("size", [0, 999, 1001])
async def test_another_size_than_was_said_is_refused_at_once(size):
    script = Script([Part(content=bytes(size))] * 9)
    with pytest.raises(DigestMismatch, match=f"{size} bytes"):
        await fetched(script)
    assert script.given == 0


async def test_more_than_was_said_is_refused_where_the_size_is_not_told():
    script = Script([Part(content=CONTENT * 2, size=-1)] * 9)
    with pytest.raises(DigestMismatch):
        await fetched(script)


async def test_nothing_is_asked_for_an_empty_blob():
    script = Script()
    assert await fetched(script, content=b"") == b""
    assert script.asked == []


async def test_an_empty_blob_has_the_digest_of_nothing():
    with pytest.raises(DigestMismatch):
        await fetched(Script(), size=0)


async def test_the_size_is_learnt_where_the_manifest_does_not_tell():
    script = Script()
    assert await fetched(script, size=-1) == CONTENT


async def test_a_blob_of_no_known_size_is_refused():
    with pytest.raises(RegistryError, match="neither the manifest nor the registry tells"):
        await fetched(Script([Part(size=-1)] * 9), size=-1)


async def test_bytes_are_told_once_as_they_come():
    told: list[int] = []
    script = Script([Part(end=350), Part(start=0)])
    async with Download(script.source, descriptor(), told.append) as download:
        async for _ in download.chunks():
            pass
        assert sum(told) == 1000
        # What came twice counts as received twice.
        assert download.received == 1350


async def test_leaving_closes_the_connection_whatever_was_read():
    script = Script()
    async with Download(script.source, descriptor(), lambda _count: None) as download:
        await download.open()
        assert script.open == 1
        assert await anext(download.chunks()) == CONTENT[:CHUNK]
    assert script.open == 0


async def test_nobody_reads_on_after_it_was_left():
    script = Script()
    async with Download(script.source, descriptor(), lambda _count: None) as download:
        chunks = download.chunks()
        await anext(chunks)
    assert [chunk async for chunk in chunks] == []
    assert script.asked == [0]
    assert script.open == 0
