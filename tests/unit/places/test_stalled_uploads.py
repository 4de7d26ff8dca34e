"""An upload whose registry accepts no more data fails after a while; other timeouts are not taken for that."""

import asyncio
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any, cast

import pytest

from syncer.errors import Kind, RegistryError
from syncer.oci.descriptor import Descriptor
from syncer.oci.digest import Digest
from syncer.oci.reference import Repository
from syncer.places.content import Content
from syncer.places.registry import pieces
from syncer.places.registry.capabilities import UploadMethods
from syncer.places.registry.upload import RemoteUpload, Session

CONTENT = b"content" * 100
BLOB = Descriptor("", Digest.of(CONTENT), len(CONTENT))


class Chunks(Content):
    async def chunks(self, offset: int = 0) -> AsyncIterator[bytes]:
        for position in range(offset, len(CONTENT), 100):
            yield CONTENT[position : position + 100]

    chunks_and_splices = chunks


class Client:
    """A registry that takes one chunk, and then no more, or `error` happens. It takes no other request."""

    answer_seconds = 1.0
    limits = SimpleNamespace(metered=False)

    def __init__(self, error: Exception | None = None) -> None:
        self._error = error
        self.retried: list[str] = []
        self.waiting = asyncio.Event()

    async def send(self, method: str, _url: str, *, content: Any = None, **_options: Any) -> None:
        if method != "PUT":
            raise RegistryError(Kind.FORBIDDEN, "only this upload", permanent=True)
        await anext(content)
        if self._error is not None:
            raise self._error
        self.waiting.set()
        await asyncio.sleep(600)

    def tell_retry(self, reason: str, _wait: float) -> None:
        self.retried.append(reason)


def upload(client: Client) -> RemoteUpload:
    async def start() -> Session:
        raise RegistryError(Kind.FORBIDDEN, "only this upload", permanent=True)

    async def has_blob(_digest: Digest) -> bool:
        return False

    return RemoteUpload(
        cast("Any", client),
        Repository("reg.example", "app"),
        (),
        Session("/upload"),
        methods=UploadMethods(),
        start=start,
        has_blob=has_blob,
    )


async def test_upload_is_retried_if_the_registry_accepts_no_data(monkeypatch):
    monkeypatch.setattr(pieces, "STALL_SECONDS", 0.01)
    client = Client()
    with pytest.raises(RegistryError, match="only this upload"):
        await upload(client).put(BLOB, Chunks())
    assert client.retried == ["timeout"]


async def test_timeout_of_the_system_is_not_taken_for_a_stall():
    client = Client(TimeoutError("no answer from the disk"))
    with pytest.raises(TimeoutError, match="no answer from the disk"):
        await upload(client).put(BLOB, Chunks())
    assert client.retried == []


async def test_stalled_upload_can_be_cancelled():
    client = Client()
    put = asyncio.ensure_future(upload(client).put(BLOB, Chunks()))
    await client.waiting.wait()
    put.cancel()
    await asyncio.wait([put])
    assert put.cancelled()


async def test_cancelled_upload_stays_cancelled_if_it_stalls_at_the_same_time(monkeypatch):
    monkeypatch.setattr(pieces, "STALL_SECONDS", -1.0)
    client = Client()
    put = asyncio.ensure_future(upload(client).put(BLOB, Chunks()))
    asyncio.get_running_loop().call_soon(put.cancel)
    client.waiting.set()
    await asyncio.wait([put])
    assert put.cancelled()
