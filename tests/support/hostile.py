"""A registry that means ill: it has images, and answers some kinds of requests in bad faith."""

import asyncio
from collections import Counter
from contextlib import suppress
from typing import Self

from syncer.demo.store import Store

FLOOD = 1 << 20
_PAUSE = 0.02


class HostileRegistry:
    """Up while the `async with` block runs, at `host`. `store` is what it has, all of it in the repository `app`.

    `on` says what becomes of requests, by the word in their path (`tags`, `manifests`, `blobs`): `drip_head` and `drip`
    send byte after byte, `silent` sends nothing, `flood` never ends, `redirect` leads in a circle, `lie` sends other
    content.
    """

    def __init__(self, **on: str) -> None:
        self.on = on
        self.store = Store()
        self.host = ""
        self.asked: Counter[str] = Counter()
        self._at_work: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.host = f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_exc: object) -> None:
        self._server.close()
        for task in self._at_work:
            task.cancel()
        await asyncio.gather(*self._at_work, return_exceptions=True)
        await self._server.wait_closed()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._serve(reader, writer))
        task.add_done_callback(lambda _task: writer.close())
        self._at_work.add(task)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while head := await reader.readuntil(b"\r\n\r\n"):
                method, target, _ = head.decode().split(" ", 2)
                await self._answer(writer, method, target)
                await writer.drain()

    async def _answer(self, writer: asyncio.StreamWriter, method: str, target: str) -> None:
        kind = next((word for word in ("tags", "manifests", "blobs") if f"/{word}/" in target), "")
        self.asked[kind] += 1
        headers, body = self._content(kind, target.rpartition("/")[2])
        way = self.on.get(kind, "")
        if way == "silent":
            await asyncio.sleep(3600)
        elif way == "redirect":
            writer.write(f"HTTP/1.1 307 X\r\nLocation: {target}x\r\nContent-Length: 0\r\n\r\n".encode())
        elif way == "drip_head":
            await _drip(writer, b"HTTP/1.1 200 OK\r\n" + b"X-More: and more\r\n" * 3000)
        elif way == "flood":
            writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n" + headers + b"\r\n")
            while True:
                writer.write(b"%x\r\n%b\r\n" % (FLOOD, b" " * FLOOD))
                await writer.drain()
        else:
            if way == "lie":
                body = bytes(len(body))
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n%b\r\n" % (len(body), headers))
            if method == "HEAD":
                return
            if way == "drip":
                await _drip(writer, body)
            else:
                writer.write(body)

    def _content(self, kind: str, reference: str) -> tuple[bytes, bytes]:
        if kind == "tags":
            tags = ", ".join(f'"{tag}"' for tag in self.store.tags("app"))
            return b"", f'{{"tags": [{tags}]}}'.encode()
        if kind == "manifests":
            stored = self.store.get_manifest("app", reference)
            head = f"Content-Type: {stored.media_type}\r\nDocker-Content-Digest: {stored.digest}\r\n"
            return head.encode(), stored.raw
        if kind == "blobs":
            return b"", self.store.get_blob("app", reference)
        return b"", b"{}"


async def _drip(writer: asyncio.StreamWriter, body: bytes) -> None:
    for byte in body:
        writer.write(bytes((byte,)))
        await writer.drain()
        await asyncio.sleep(_PAUSE)
