"""A server that responds only after a given number of connections are open."""

import asyncio
from contextlib import suppress

import anyio

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Waiting:
    """Gives each request the same `answer`, as soon as there are `wanted` connections; `most` is how many there ever were."""

    def __init__(self, wanted: int, answer: bytes = OK) -> None:
        self.wanted = wanted
        self.answer = answer
        self.most = 0
        self.enough = anyio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.most += 1
        if self.most >= self.wanted:
            self.enough.set()
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while await reader.readuntil(b"\r\n\r\n"):
                await self.enough.wait()
                writer.write(self.answer)
        writer.close()
