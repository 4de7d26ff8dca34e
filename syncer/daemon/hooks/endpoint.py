"""`POST /hooks/{kind}`: takes the events of registries. docs/api.md describes it."""

from typing import Literal

import anyio.to_thread
import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from syncer.daemon.admission import admit_hook
from syncer.daemon.guard import HOOKS, Guard
from syncer.daemon.hooks.payloads import READERS, NoEvent, Pushed, read_event
from syncer.daemon.service import Service, Stopping

Outcome = Literal["taken", "ignored", "refused"]

LARGE_EVENT = 32 * 1024
"""Bytes of a body from which on a thread reads it."""


class Hooks:
    """The handler of the events. Pass `routes` to `syncer.daemon.web.application`."""

    def __init__(self, service: Service, guard: Guard) -> None:
        self._service = service
        self._guard = guard

    def routes(self) -> list[BaseRoute]:
        return [Route(f"{HOOKS}{{kind}}", self.take, methods=["POST"])]

    async def take(self, request: Request) -> Response:
        """Answer 202 if a rule selects one of the pushed tags, and 200 if none does."""
        kind = request.path_params["kind"]
        if kind not in READERS:
            raise HTTPException(404, f"unknown kind of event: expected one of {', '.join(READERS)}")
        try:
            pushes = await self._read(kind, request)
        except HTTPException:
            self._count(kind, "refused")
            raise
        try:
            taken = await self._service.take_events(pushes)
        except Stopping:
            # The registry sends the event again.
            raise HTTPException(503, "the daemon is stopping") from None
        self._count(kind, "taken" if taken else "ignored")
        body = msgspec.json.encode({"pushed": len(pushes), "taken": taken})
        return Response(body, 202 if taken else 200, media_type="application/json")

    async def _read(self, kind: str, request: Request) -> tuple[Pushed, ...]:
        body = await admit_hook(self._guard, request)
        try:
            if len(body) < LARGE_EVENT:
                return read_event(kind, body, request.headers)
            # It has hundreds of pushes: other requests are answered meanwhile.
            return await anyio.to_thread.run_sync(read_event, kind, body, request.headers)
        except NoEvent as error:
            raise HTTPException(400, f"no event of the kind {kind}: {error}") from None

    def _count(self, kind: str, outcome: Outcome) -> None:
        self._service.metrics.count_event(kind, outcome)
