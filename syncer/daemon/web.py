"""The HTTP endpoints of the daemon: metrics, health and the API under /api/v1. docs/api.md describes them."""

import sqlite3
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import anyio
import anyio.to_thread
import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from syncer.daemon.admission import Admission, RoomForProbes, admit
from syncer.daemon.base_path import BasePath, base_of
from syncer.daemon.guard import Guard
from syncer.daemon.hooks.endpoint import Hooks
from syncer.daemon.live import Client, TooManyClients
from syncer.daemon.packing import pack_report
from syncer.daemon.runs import RunInProgress, summary_of
from syncer.daemon.selection import EVERYTHING, InvalidSelection, Selection, UnknownRule
from syncer.daemon.service import Service, Stopping
from syncer.daemon.status import rules_of, status_of
from syncer.observe.metrics import CONTENT_TYPE
from syncer.state.history import unpacked
from syncer.state.lock import StateLocked, StateUnusable

MAX_RUNS = 500
DEFAULT_RUNS = 50
_ALIVE_SECONDS = 15.0
"""Seconds after which an idle stream sends a comment, because proxies close idle connections."""
_STUCK_SECONDS = 30.0
"""Seconds after which a client that reads nothing is disconnected."""

_POLICY = (
    b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    b"form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_HEADERS = [
    (b"content-security-policy", _POLICY),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    # Not `no-referrer`: browsers would then send forms with `Origin: null`, which the guard refuses.
    (b"referrer-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(), geolocation=(), microphone=()"),
]

Handler = Callable[[Request], Any]


def application(
    service: Service, guard: Guard, *, pages: Sequence[BaseRoute] = (), base_path: str = ""
) -> Starlette:
    """Return the ASGI application. `pages` are the routes of `syncer.daemon.page.Pages`; `base_path` is `--base-path`."""
    return Starlette(
        # Routes are tried in order. Events come more often than anything else.
        routes=[*Hooks(service, guard).routes(), *_Api(service, guard).routes(), *pages],
        middleware=[
            Middleware(BasePath, base_path),
            Middleware(_SecurityHeaders),
            Middleware(RoomForProbes),
            Middleware(Admission, guard),
        ],
        exception_handlers={HTTPException: _explain, sqlite3.Error: _explain_database},
    )


async def start_run(service: Service, selection: Selection = EVERYTHING) -> str:
    """Start a run and return its id. Raises `HTTPException` with the reason if it cannot start."""
    try:
        return await service.run_now(selection)
    except UnknownRule as error:
        raise HTTPException(400, str(error)) from None
    except RunInProgress:
        raise HTTPException(409, "a run is in progress") from None
    except StateLocked as error:
        raise HTTPException(409, str(error)) from None
    except (Stopping, StateUnusable) as error:
        raise HTTPException(503, str(error) or "the daemon is stopping") from None


async def cancel_run(service: Service, run_id: str) -> None:
    """Stop a run. Raises `HTTPException` if it is not in progress or does not exist."""
    if await service.cancel(run_id):
        return
    try:
        await anyio.to_thread.run_sync(service.history.outcome, run_id)
    except KeyError:
        raise HTTPException(404, f"run {run_id[:50]} not found") from None
    raise HTTPException(409, f"run {run_id} is already finished")


async def plan_rule(service: Service, guard: Guard, request: Request, name: str) -> dict[str, Any]:
    """Return a dry run. It sends requests to registries, so pages of other sites may not ask for it: `HTTPException`."""
    if refusal := guard.plan_refusal(request):
        raise HTTPException(refusal.status, refusal.message)
    try:
        return await service.plan_rule(name)
    except UnknownRule as error:
        raise HTTPException(404, str(error)) from None
    except TimeoutError:
        raise HTTPException(504, "the plan took too long") from None


class _Api:
    def __init__(self, service: Service, guard: Guard) -> None:
        self._service = service
        self._guard = guard

    def routes(self) -> list[BaseRoute]:
        get: list[tuple[str, Handler]] = [
            ("/metrics", self.metrics),
            ("/healthz", self.healthz),
            ("/readyz", self.readyz),
            ("/api/v1/status", self.status),
            ("/api/v1/rules", self.rules),
            ("/api/v1/rules/{name:path}/plan", self.plan),
            ("/api/v1/runs", self.runs),
            ("/api/v1/runs/{run_id}", self.report),
            ("/api/v1/events", self.events),
        ]
        post: list[tuple[str, Handler]] = [
            ("/api/v1/runs", self.start),
            ("/api/v1/runs/{run_id}/cancel", self.cancel),
        ]
        return [
            *(Route(path, handler) for path, handler in get),
            *(Route(path, handler, methods=["POST"]) for path, handler in post),
        ]

    # --- health ---------------------------------------------------------------------------------------------------

    async def metrics(self, _request: Request) -> Response:
        return Response(self._service.metrics.render(), media_type=CONTENT_TYPE)

    async def healthz(self, _request: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def readyz(self, _request: Request) -> Response:
        if self._service.ready:
            return PlainTextResponse("ready\n")
        return PlainTextResponse("stopping\n" if self._service.stopping else "not ready\n", 503)

    # --- reading --------------------------------------------------------------------------------------------------

    async def status(self, _request: Request) -> Response:
        return _json(await status_of(self._service, post=self._guard.mode))

    async def rules(self, _request: Request) -> Response:
        return _json(await rules_of(self._service))

    async def plan(self, request: Request) -> Response:
        return _json(await plan_rule(self._service, self._guard, request, request.path_params["name"]))

    async def runs(self, request: Request) -> Response:
        limit = _limit(request.query_params.get("limit"))
        before = _before(request.query_params.get("before"))
        history = self._service.history
        try:
            found = await anyio.to_thread.run_sync(lambda: history.summaries(limit, before=before))
        except KeyError:
            raise HTTPException(400, f"before: run {str(before)[:50]} not found") from None
        return Response(b"[" + b",\n".join(found) + b"]", media_type="application/json")

    async def report(self, request: Request) -> Response:
        run_id = request.path_params["run_id"]
        current = self._service.runner.current
        if current is not None and current.id == run_id:
            run = summary_of(current.report)
            del run["totals"]
            packed: bytes | None = await anyio.to_thread.run_sync(pack_report, current.report, run)
        else:
            packed = await anyio.to_thread.run_sync(self._service.history.report, run_id)
        if packed is None:
            raise HTTPException(404, f"run {run_id[:50]} not found")
        headers = {"vary": "accept-encoding"}
        if "gzip" in request.headers.get("accept-encoding", "").lower():
            headers["content-encoding"] = "gzip"
            return Response(packed, media_type="application/json", headers=headers)
        return StreamingResponse(unpacked(packed), media_type="application/json", headers=headers)

    async def events(self, request: Request) -> Response:
        stream = _EventStream(self._service)
        return Response(headers=stream.headers) if request.method == "HEAD" else stream

    # --- actions --------------------------------------------------------------------------------------------------

    async def start(self, request: Request) -> Response:
        body = await admit(self._guard, request)
        try:
            selection = Selection.parse(body)
        except InvalidSelection as error:
            raise HTTPException(400, f'expected {{"rules": ["…"], "tags": ["…"]}}: {error}') from None
        run_id = await start_run(self._service, selection)
        return _json({"id": run_id}, 202, {"location": f"{base_of(request)}/api/v1/runs/{run_id}"})

    async def cancel(self, request: Request) -> Response:
        await admit(self._guard, request)
        run_id = request.path_params["run_id"]
        await cancel_run(self._service, run_id)
        return _json({"id": run_id}, 202)


class _EventStream(Response):
    """A stream of server-sent events. Ends if the client disconnects or stops reading, or if the daemon stops."""

    def __init__(self, service: Service) -> None:
        super().__init__(
            media_type="text/event-stream", headers={"cache-control": "no-store", "x-accel-buffering": "no"}
        )
        del self.headers["content-length"]
        self._live = service.live

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            with self._live.client() as client:
                async with anyio.create_task_group() as group:
                    group.start_soon(_until_gone, receive, group)
                    await self._stream(client, send)
                    group.cancel_scope.cancel()
        except TooManyClients:
            answer = _json({"error": "too many open event streams"}, 503, {"retry-after": "10"})
            await answer(scope, receive, send)

    async def _stream(self, client: Client, send: Send) -> None:
        await send(
            {"type": "http.response.start", "status": self.status_code, "headers": list(self.raw_headers)}
        )
        text = b"retry: 3000\n\n"
        try:
            while not client.closed:
                with anyio.fail_after(_STUCK_SECONDS):
                    await send({"type": "http.response.body", "body": text, "more_body": True})
                text = await client.take(patience=_ALIVE_SECONDS) or b": still here\n\n"
            await send({"type": "http.response.body", "body": b""})
        except (TimeoutError, OSError):
            pass


async def _until_gone(receive: Receive, group: anyio.abc.TaskGroup) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    group.cancel_scope.cancel()


class _SecurityHeaders:
    """Adds the security headers to every response, and `Cache-Control: no-store` if the response has no `Cache-Control`."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = list(message.get("headers", ()))
                headers += _HEADERS
                if not any(name == b"cache-control" for name, _ in headers):
                    headers.append((b"cache-control", b"no-store"))
                message = {**message, "headers": headers}
            await send(message)

        await self._app(scope, receive, with_headers)


async def _explain(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return _json({"error": error.detail}, error.status_code, error.headers)


async def _explain_database(_request: Request, _error: Exception) -> Response:
    return _json({"error": "cannot read the history; see the log for details"}, 500)


def _json(document: object, status: int = 200, headers: Any = None) -> Response:
    return Response(
        msgspec.json.encode(document), status, media_type="application/json", headers=dict(headers or {})
    )


def _limit(text: str | None) -> int:
    if text is None:
        return DEFAULT_RUNS
    if not (text.isascii() and text.isdigit() and int(text[:10]) >= 1 and len(text) <= 10):
        raise HTTPException(400, "limit: expected a positive number of runs")
    return min(int(text), MAX_RUNS)


def _before(text: str | None) -> str | float | None:
    """Return a run id, or a time in seconds since the epoch."""
    if text is None or "T" not in text:
        return text
    try:
        moment = datetime.fromisoformat(text.replace(" ", "+"))
    except ValueError:
        raise HTTPException(
            400, "before: expected a run id, or a time such as 2026-11-21T03:00:00Z"
        ) from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
