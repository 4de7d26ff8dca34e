"""The registry's HTTP server.

It uses only the connection protocol of uvicorn. uvicorn's server checks for its end ten times a second, and a test with
three registries would wait for each of them.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from syncer.demo.messages import Answer, Headers, Request
from syncer.serving import embedded

Handler = Callable[[Request], Awaitable[Answer | None]]
_Message = MutableMapping[str, Any]
_Receive = Callable[[], Awaitable[_Message]]
_Send = Callable[[_Message], Awaitable[None]]

_SLICE = 256 * 1024
"""Bytes per write. Larger bodies are written in pieces, so that a slow client does not require a second copy."""
_BACKLOG = 1024
"""Length of the accept queue: runs open hundreds of connections at once."""
_IDLE_SECONDS = 75
_BODILESS = (204, 304)


class Server:
    """Calls `handler` for each request. If it returns None, the connection is closed without a response.

    If the client disconnects while a handler reads the body, `ConnectionError` is raised in the handler.
    """

    def __init__(self, handler: Handler) -> None:
        self.config = embedded(self._serve, http="httptools", timeout_keep_alive=_IDLE_SECONDS)
        self.config.load()
        self.state = ServerState()
        self.closed = False
        self._handler = handler
        self._listeners: list[asyncio.Server] = []

    async def listen(self, host: str, port: int) -> int:
        """Accept connections, and return the port. Port 0 selects a free one. Raises `OSError`."""
        loop = asyncio.get_running_loop()
        listener = await loop.create_server(lambda: _Connection(self), host, port, backlog=_BACKLOG)
        self._listeners.append(listener)
        bound: int = listener.sockets[0].getsockname()[1]
        return bound

    async def close(self) -> None:
        """Close all connections, including those with a request in progress."""
        self.closed = True
        for listener in self._listeners:
            listener.close()
        for connection in list(self.state.connections):
            connection.transport.abort()
        # The event loop closes the sockets in its next iteration, and notifies the tasks that wait for them.
        await asyncio.sleep(0)
        for task in self.state.tasks:
            task.cancel()
        await asyncio.gather(*self.state.tasks, return_exceptions=True)

    async def _serve(self, scope: _Message, receive: _Receive, send: _Send) -> None:
        query = scope["query_string"].decode("latin-1")
        request = Request(scope["method"], scope["path"], query, Headers(scope["headers"]), _body(receive))
        transport: asyncio.Transport = scope["state"]["transport"]
        try:
            answer = await self._handler(request)
            if answer is None:
                transport.abort()
            elif not await _send(answer, request.method, send):
                transport.close()
            else:
                return
            # uvicorn logs an incomplete response as an error, unless the connection is marked as lost.
            while (await receive())["type"] != "http.disconnect":
                pass
        except asyncio.CancelledError:
            # The server is closing. uvicorn would log this with a traceback.
            return


class _Connection(HttpToolsProtocol):
    """Lets an application abort a connection, for which ASGI has no message, and copies bodies less often."""

    def __init__(self, server: Server) -> None:
        super().__init__(server.config, server.state, {})
        self._server = server

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.app_state["transport"] = transport
        if self._server.closed:
            # The connection was accepted just before the server was closed.
            transport.abort()

    def on_body(self, body: bytes) -> None:
        # uvicorn copies each piece into and out of a buffer, and pauses reading after each large piece. Neither is
        # necessary while the reader keeps up.
        cycle = self.cycle
        if cycle.body or cycle.response_complete:
            super().on_body(body)
        else:
            cycle.body = body  # type: ignore[assignment]
            cycle.message_event.set()


async def _body(receive: _Receive) -> AsyncIterator[bytes]:
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ConnectionResetError("the client went away before the end of its request")
        yield message["body"]
        more = message["more_body"]


async def _send(answer: Answer, method: str, send: _Send) -> bool:
    """Send the response. Return False if the body is shorter than its `Content-Length`."""
    headers = dict(answer.headers)
    length = int(headers.pop("Content-Length", len(answer.body)))
    if answer.status not in _BODILESS:
        headers["Content-Length"] = str(length)
    raw = [(name.encode("latin-1"), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": answer.status, "headers": raw})
    if method != "HEAD" and answer.status not in _BODILESS:
        body = memoryview(answer.body)[:length]
        for start in range(0, len(body), _SLICE):
            piece = body[start : start + _SLICE]
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        if len(body) < length:
            return False
    await send({"type": "http.response.body"})
    return True
