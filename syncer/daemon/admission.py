"""Admission of HTTP requests: authorization, and limits on concurrent requests and body size."""

import anyio
import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, HTTPConnection, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from syncer.daemon.guard import PROBES, Guard, Refusal

MAX_BODY = 64 * 1024
"""Maximum size of a request body, in bytes."""
MAX_EVENT = 1024 * 1024
"""Maximum size of an event of a registry, in bytes."""
MAX_REQUESTS = 256
"""Maximum number of concurrent requests, including open streams. Probes and `/metrics` do not count."""
_BODY_SECONDS = 10.0
_ALWAYS_ANSWERED = PROBES | {"/metrics"}
_READING = ("GET", "HEAD")


async def admit(guard: Guard, request: Request) -> bytes:
    """Admit a request that changes state, and return its body, up to `MAX_BODY` bytes.

    Raises `HTTPException` if the request is not authorized, or if its body is too large or too slow.
    """
    if refusal := guard.change_refusal(request):
        await guard.delay(request, refusal)
        raise HTTPException(refusal.status, refusal.message, _headers(refusal))
    return await read_body(request, MAX_BODY)


async def admit_hook(guard: Guard, request: Request) -> bytes:
    """Admit an event of a registry, and return its body, up to `MAX_EVENT` bytes. Raises `HTTPException`."""
    if refusal := guard.hook_refusal(request):
        await guard.delay(request, refusal)
        raise HTTPException(refusal.status, refusal.message, _headers(refusal))
    return await read_body(request, MAX_EVENT)


async def read_body(request: Request, limit: int) -> bytes:
    """Return the body of a request. Raises `HTTPException` if it has more than `limit` bytes, or is too slow."""
    body = bytearray()
    try:
        with anyio.fail_after(_BODY_SECONDS):
            async for chunk in request.stream():
                body += chunk
                if len(body) > limit:
                    raise HTTPException(
                        413, f"the request body is larger than {limit} bytes", {"connection": "close"}
                    )
    except (TimeoutError, ClientDisconnect):
        raise HTTPException(408, "timed out reading the request body", {"connection": "close"}) from None
    return bytes(body)


class Admission:
    """Refuses requests from other hosts, and reads without the required token. `admit` checks requests that change state."""

    def __init__(self, app: ASGIApp, guard: Guard) -> None:
        self._app = app
        self._guard = guard

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            connection = HTTPConnection(scope)
            refusal = self._guard.refusal(connection)
            if refusal is None and scope["method"] in _READING:
                refusal = self._guard.read_refusal(connection)
            if refusal is not None:
                await self._guard.delay(connection, refusal)
                answer = _error(refusal.status, refusal.message, _headers(refusal))
                await answer(scope, receive, send)
                return
        await self._app(scope, receive, send)


class RoomForProbes:
    """Answers 503 to requests above `limit` concurrent ones. Always answers probes and `/metrics`."""

    def __init__(self, app: ASGIApp, *, limit: int = MAX_REQUESTS) -> None:
        self._app = app
        self._limit = limit
        self._requests = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in _ALWAYS_ANSWERED:
            await self._app(scope, receive, send)
        elif self._requests >= self._limit:
            answer = _error(503, "too many concurrent requests", {"retry-after": "1", "connection": "close"})
            await answer(scope, receive, send)
        else:
            self._requests += 1
            try:
                await self._app(scope, receive, send)
            finally:
                self._requests -= 1


def _headers(refusal: Refusal) -> dict[str, str] | None:
    return {"www-authenticate": refusal.challenge} if refusal.challenge else None


def _error(status: int, message: str, headers: dict[str, str] | None) -> Response:
    return Response(
        msgspec.json.encode({"error": message}), status, media_type="application/json", headers=headers
    )
