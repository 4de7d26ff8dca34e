"""The HTML pages: the status page, the list of runs, one run. docs/operations.md describes them."""

import sqlite3
from collections.abc import Awaitable, Callable
from functools import partial
from glob import escape
from urllib.parse import parse_qs, urlencode

import anyio.to_thread
import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from syncer.daemon.admission import admit
from syncer.daemon.base_path import base_of
from syncer.daemon.guard import Guard
from syncer.daemon.image_view import Images
from syncer.daemon.overview import RECENT_RUNS, Overview
from syncer.daemon.rendering import Renderer
from syncer.daemon.rule_view import plan_view, rule_view
from syncer.daemon.run_view import PER_PAGE, Reports, Search
from syncer.daemon.selection import Selection, UnknownRule
from syncer.daemon.service import Service
from syncer.daemon.web import cancel_run, plan_rule, start_run

RUNS_PER_PAGE = 50

Handler = Callable[[Request], Awaitable[Response]]


class Pages:
    """Handlers of the HTML pages. Pass `routes` to `syncer.daemon.web.application`."""

    def __init__(self, service: Service, guard: Guard) -> None:
        self._service = service
        self._guard = guard
        self._reports = Reports(service)
        self._overview = Overview(service, guard, self._reports)
        self._images = Images(service, self._reports)
        self._renderer = Renderer()
        self._page = self._renderer.page

    def routes(self) -> list[BaseRoute]:
        get: list[tuple[str, Handler]] = [
            ("/", self.overview),
            ("/runs", self.runs),
            ("/runs/{run_id}", self.run),
            ("/rule", self.rule),
            ("/plan", self.plan),
            ("/images", self.images),
            ("/image", self.image),
        ]
        post: list[tuple[str, Handler]] = [
            ("/runs", self.start),
            ("/runs/{run_id}/cancel", self.cancel),
        ]
        return [
            *(Route(path, partial(self._explained, handler)) for path, handler in get),
            *(Route(path, partial(self._explained, handler), methods=["POST"]) for path, handler in post),
            Route("/static/{name}", self._renderer.static),
        ]

    # --- reading --------------------------------------------------------------------------------------------------

    async def overview(self, request: Request) -> Response:
        view = await self._overview.view(request.query_params)
        now = view.status["now"]
        chart = self._renderer.chart(request, view.runs, now)
        return self._page(request, "overview.html", view=view, now=now, recent=RECENT_RUNS, chart=chart)

    async def runs(self, request: Request) -> Response:
        before = request.query_params.get("before")
        history = self._service.history
        try:
            found = await anyio.to_thread.run_sync(
                lambda: history.summaries(RUNS_PER_PAGE + 1, before=before)
            )
        except KeyError:
            raise HTTPException(404, "The first run of this page is no longer in the history.") from None
        runs = [msgspec.json.decode(text) for text in found]
        return self._page(
            request, "runs.html", runs=runs[:RUNS_PER_PAGE], more=len(runs) > RUNS_PER_PAGE, before=before
        )

    async def run(self, request: Request) -> Response:
        run_id = request.path_params["run_id"]
        try:
            view = await self._reports.view(run_id, Search.of(request.query_params))
        except KeyError:
            raise HTTPException(404, "The history has no such run. It keeps only the latest runs.") from None
        progress = self._service.live.progress()
        current = progress if progress and progress["id"] == run_id else None
        return self._page(
            request,
            "run.html",
            view=view,
            progress=current,
            post=self._guard.mode,
            unsettled=current is None and not view.run["finished"],
            per_page=PER_PAGE,
        )

    async def rule(self, request: Request) -> Response:
        name = request.query_params.get("name", "")
        try:
            view = await rule_view(self._service, self._reports, name)
        except UnknownRule:
            raise HTTPException(404, "The configuration has no rule of this name.") from None
        return self._page(
            request,
            "rule.html",
            view=view,
            post=self._guard.mode,
            stopping=self._service.stopping,
            unsettled=self._service.runner.busy,
        )

    async def plan(self, request: Request) -> Response:
        """Show what a run of a rule would do. The request is checked as that of the API."""
        name = request.query_params.get("name", "")
        plan = await plan_rule(self._service, self._guard, request, name)
        return self._page(request, "plan.html", name=name, view=plan_view(plan, request.query_params))

    async def images(self, request: Request) -> Response:
        found = await self._images.search(request.query_params)
        return self._page(request, "images.html", view=found)

    async def image(self, request: Request) -> Response:
        view = await self._images.view(request.query_params.get("destination", ""))
        return self._page(request, "image.html", view=view, post=self._guard.mode)

    # --- forms, which also work without JavaScript ----------------------------------------------------------------

    async def start(self, request: Request) -> Response:
        body = await admit(self._guard, request)
        names = parse_qs(body.decode("latin-1")).get("rule", []) if body else []
        selection = Selection(tuple(escape(name) for name in names))
        await start_run(self._service, selection)
        to = f"rule?{urlencode({'name': names[0]})}" if names else ""
        return RedirectResponse(f"{base_of(request)}/{to}", 303)

    async def cancel(self, request: Request) -> Response:
        await admit(self._guard, request)
        run_id = request.path_params["run_id"]
        await cancel_run(self._service, run_id)
        return RedirectResponse(f"{base_of(request)}/runs/{run_id}", 303)

    # --- responses ------------------------------------------------------------------------------------------------

    async def _explained(self, handler: Handler, request: Request) -> Response:
        """Call a handler. If it fails, return the error as an HTML page."""
        try:
            return await handler(request)
        except HTTPException as error:
            return self._page(
                request,
                "message.html",
                status=error.status_code,
                text=error.detail,
                headers=dict(error.headers or {}),
            )
        except sqlite3.Error:
            return self._page(
                request, "message.html", status=500, text="Cannot read the history. See the log for details."
            )
