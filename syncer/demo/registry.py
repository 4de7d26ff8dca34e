"""A registry in memory that speaks the OCI distribution specification 1.1 over real HTTP.

It is for the demo, tests and benchmarks. Its content is lost when it stops.
"""

import base64
import errno
import hmac
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Self

from syncer.demo.errors import Refusal
from syncer.demo.handlers import Endpoints, blob_answer
from syncer.demo.messages import Answer, Recorded, Request, kept_headers
from syncer.demo.server import Server
from syncer.demo.store import Store

HOST = "127.0.0.1"
_BLOBS_ELSEWHERE = "/elsewhere/"

Before = Callable[[Request], Awaitable[Answer | None]]


class PortInUse(OSError):
    """Another process uses the port."""


class DropConnection(Exception):
    """Raised by a `before` handler to close the connection without a response."""


class MemoryRegistry:
    """A registry on 127.0.0.1 that runs during the `async with` block.

    `port` 0 selects a free port; `host` is the address, such as `127.0.0.1:41234`. If `username` and `password` are set,
    Basic authentication is required. `redirect_blobs` redirects blob downloads to another port, which refuses requests
    with credentials, as object stores do. `requests` keeps the last `record` requests. `chunk_min_length` (bytes) and
    `max_page` (tags) are limits that the registry announces and enforces.
    """

    def __init__(
        self,
        *,
        port: int = 0,
        username: str | None = None,
        password: str | None = None,
        redirect_blobs: bool = False,
        record: int = 100_000,
        chunk_min_length: int | None = None,
        max_page: int | None = None,
        store: Store | None = None,
    ) -> None:
        self.store = Store() if store is None else store
        self.requests: deque[Recorded] = deque(maxlen=record)
        self.host = ""
        self.blob_host = ""
        self._port = port
        self._redirect_blobs = redirect_blobs
        self._before: list[Before] = []
        self._authorization = None if username is None else _basic(username, password or "")
        self._endpoints = Endpoints(
            self.store,
            chunk_min_length=chunk_min_length,
            max_page=max_page,
            blob_location=self._blob_location if redirect_blobs else None,
        )

    def before(self, handler: Before) -> Before:
        """Call `handler` before each request. If it returns an answer, that is sent; otherwise processing continues.

        The handler that was added last is called first. It may raise `DropConnection`. Can be used as a decorator.
        """
        self._before.insert(0, handler)
        return handler

    @property
    def open_uploads(self) -> int:
        """The number of upload sessions that were neither finished nor canceled."""
        return len(self._endpoints.uploads)

    async def __aenter__(self) -> Self:
        self._server = Server(self._handle)
        try:
            self.host = await self._listen(self._port)
            if self._redirect_blobs:
                self.blob_host = await self._listen(0)
        except BaseException:
            await self._server.close()
            raise
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self._server.close()

    async def _listen(self, port: int) -> str:
        try:
            return f"{HOST}:{await self._server.listen(HOST, port)}"
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            message = f"port {port} of {HOST} is in use: stop what listens there, or choose another port"
            raise PortInUse(errno.EADDRINUSE, message) from error

    def _blob_location(self, name: str, digest: str) -> str:
        return f"http://{self.blob_host}{_BLOBS_ELSEWHERE}{name}@{digest}"

    async def _handle(self, request: Request) -> Answer | None:
        try:
            answer = await self._answer(request)
        except (DropConnection, ConnectionError):
            self._record(request, status=0, sent=0)
            return None
        self._record(request, status=answer.status, sent=len(answer.body))
        return answer

    async def _answer(self, request: Request) -> Answer:
        try:
            for handler in self._before:
                if (scripted := await handler(request)) is not None:
                    return scripted
            if request.path.startswith(_BLOBS_ELSEWHERE):
                return self._blob_elsewhere(request)
            if not self._admits(request.headers.get("Authorization", "")):
                challenge = {"WWW-Authenticate": 'Basic realm="demo"'}
                raise Refusal("UNAUTHORIZED", "authentication required", headers=challenge)
            return await self._endpoints.answer(request)
        except Refusal as refusal:
            return Answer.refusal(refusal)

    def _admits(self, authorization: str) -> bool:
        wanted = self._authorization
        return wanted is None or hmac.compare_digest(authorization.encode(), wanted.encode())

    def _blob_elsewhere(self, request: Request) -> Answer:
        if "Authorization" in request.headers:
            return Answer(400, body=b"only one authentication mechanism is allowed")
        name, _, digest = request.path.removeprefix(_BLOBS_ELSEWHERE).partition("@")
        return blob_answer(self.store.get_blob(name, digest), digest, request.headers.get("Range", ""))

    def _record(self, request: Request, *, status: int, sent: int) -> None:
        self.requests.append(
            Recorded(
                request.method,
                request.path,
                request.query_string,
                status,
                kept_headers(request.headers),
                request.received,
                0 if request.method == "HEAD" else sent,
            )
        )


def _basic(username: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{username}:{password}".encode()).decode()
