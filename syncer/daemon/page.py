"""The HTML pages: the status page, the list of runs, one run. docs/operations.md describes them."""

import hashlib
import sqlite3
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from urllib.parse import urlencode

import anyio.to_thread
import jinja2
import msgspec
from markupsafe import Markup
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from syncer import __version__
from syncer.daemon.admission import admit
from syncer.daemon.chart import HEIGHT, STEP, chart_of, seconds_of
from syncer.daemon.guard import Guard
from syncer.daemon.overview import RECENT_RUNS, Overview, fails
from syncer.daemon.run_view import PER_PAGE, Reports, Search
from syncer.daemon.service import Service
from syncer.daemon.web import cancel_run, start_run
from syncer.observe import words
from syncer.state.history import Document, utc

RUNS_PER_PAGE = 50
_HERE = Path(__file__).parent
_TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
_YEAR = "max-age=31536000, immutable"
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")

Handler = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class _Static:
    """A static file. `address` contains its digest, so browsers may cache it forever."""

    address: str
    content: bytes
    media_type: str


class Pages:
    """Handlers of the HTML pages. Pass `routes` to `syncer.daemon.web.application`."""

    def __init__(self, service: Service, guard: Guard) -> None:
        self._service = service
        self._guard = guard
        self._reports = Reports(service)
        self._overview = Overview(service, guard, self._reports)
        self._static = _static_files()
        self._charted = "", Markup()
        self._templates = _environment({name: file.address for name, file in self._static.items()})

    def routes(self) -> list[BaseRoute]:
        get: list[tuple[str, Handler]] = [
            ("/", self.overview),
            ("/runs", self.runs),
            ("/runs/{run_id}", self.run),
        ]
        post: list[tuple[str, Handler]] = [
            ("/runs", self.start),
            ("/runs/{run_id}/cancel", self.cancel),
        ]
        return [
            *(Route(path, partial(self._explained, handler)) for path, handler in get),
            *(Route(path, partial(self._explained, handler), methods=["POST"]) for path, handler in post),
            Route("/static/{name}", self.static),
        ]

    # --- reading --------------------------------------------------------------------------------------------------

    async def overview(self, request: Request) -> Response:
        view = await self._overview.view(request.query_params)
        now = view.status["now"]
        return self._page(
            "overview.html", view=view, now=now, recent=RECENT_RUNS, chart=self._chart(view.runs, now)
        )

    def _chart(self, runs: Sequence[Document], now: str) -> Markup:
        """Return the chart. It is cached until another run finishes, because rendering it is half of the work."""
        finished = [run for run in runs if run["finished"]]
        newest = finished[0]["id"] if finished else ""
        if self._charted[0] != newest:
            template = self._templates.get_template("chart.html")
            self._charted = newest, Markup(template.render(chart=chart_of(finished, now), now=now))  # noqa: S704 - the template escapes it
        return self._charted[1]

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
            "runs.html", runs=runs[:RUNS_PER_PAGE], more=len(runs) > RUNS_PER_PAGE, before=before
        )

    async def run(self, request: Request) -> Response:
        run_id = request.path_params["run_id"]
        try:
            view = await self._reports.view(run_id, Search.of(request.query_params))
        except KeyError:
            raise HTTPException(
                404, f"Run {run_id[:50]} not found. The history keeps only the latest runs."
            ) from None
        progress = self._service.live.progress()
        current = progress if progress and progress["id"] == run_id else None
        return self._page(
            "run.html",
            view=view,
            progress=current,
            post=self._guard.mode,
            unsettled=current is None and not view.run["finished"],
            per_page=PER_PAGE,
        )

    async def static(self, request: Request) -> Response:
        file = self._static.get(request.path_params["name"])
        if file is None:
            raise HTTPException(404)
        return Response(file.content, media_type=file.media_type, headers={"cache-control": _YEAR})

    # --- forms, which also work without JavaScript ----------------------------------------------------------------

    async def start(self, request: Request) -> Response:
        await admit(self._guard, request)
        await start_run(self._service)
        return RedirectResponse("/", 303)

    async def cancel(self, request: Request) -> Response:
        await admit(self._guard, request)
        run_id = request.path_params["run_id"]
        await cancel_run(self._service, run_id)
        return RedirectResponse(f"/runs/{run_id}", 303)

    # --- responses ------------------------------------------------------------------------------------------------

    async def _explained(self, handler: Handler, request: Request) -> Response:
        """Call a handler. If it fails, return the error as an HTML page."""
        try:
            return await handler(request)
        except HTTPException as error:
            return self._page(
                "message.html", status=error.status_code, text=error.detail, headers=dict(error.headers or {})
            )
        except sqlite3.Error:
            return self._page(
                "message.html", status=500, text="Cannot read the history. See the log for details."
            )

    def _page(
        self, template: str, *, status: int = 200, headers: dict[str, str] | None = None, **content: object
    ) -> Response:
        content = {"now": utc(time.time()), "status_code": status} | content
        return HTMLResponse(self._templates.get_template(template).render(content), status, headers)


def _static_files() -> dict[str, _Static]:
    files = {}
    for path in sorted((_HERE / "static").iterdir()):
        if media_type := _TYPES.get(path.suffix):
            content = path.read_bytes()
            digest = hashlib.sha256(content).hexdigest()[:12]
            files[path.name] = _Static(f"/static/{path.name}?v={digest}", content, media_type)
    return files


def _environment(static: dict[str, str]) -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_HERE / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    environment.globals |= {"static": static, "version": __version__, "step": STEP, "tall": HEIGHT}
    environment.filters |= {
        "size": words.size,
        "rate": words.rate,
        "duration": words.duration,
        "short": words.short,
        "counted": words.count,
        "time": shown_time,
        "ago": ago,
        "took": took,
        "address": urlencode,
    }
    environment.tests |= {"failing": fails}
    return environment


def shown_time(moment: str | None, now: str) -> str:
    """Return a time in UTC, such as `21 Nov 03:00`. The script converts it to the time zone of the browser."""
    if moment is None:
        return Markup('<span class="none">never</span>')
    when = datetime.fromisoformat(moment)
    year = "" if moment[:4] == now[:4] else f" {when.year}"
    text = f"{when.day} {_MONTHS[when.month - 1]}{year} {when:%H:%M}"
    return Markup('<time datetime="{}" title="{:%Y-%m-%d %H:%M:%S} UTC">{}</time>').format(moment, when, text)


def took(run: Document, now: str) -> str:
    """Return the duration of a run. Its times are whole seconds."""
    seconds = seconds_of(run, now)
    return words.duration(seconds) if seconds >= 1 else "under 1 s"


def ago(moment: str | None, now: str) -> str:
    """Return the distance to `now`, such as `3 h ago` or `in 5 min`. The script keeps it up to date."""
    if moment is None:
        return ""
    seconds = (datetime.fromisoformat(now) - datetime.fromisoformat(moment)).total_seconds()
    return Markup('<span class="ago" data-since="{}">{}</span>').format(moment, _distance(seconds))


def _distance(seconds: float) -> str:
    whole = abs(seconds)
    if whole < 45:
        return "just now" if seconds >= 0 else "in a moment"
    for unit, length, limit in (("min", 60, 90 * 60), ("h", 3600, 36 * 3600), ("days", 86400, float("inf"))):
        if whole < limit:
            text = f"{max(1, round(whole / length))} {unit}"
            break
    return f"{text} ago" if seconds >= 0 else f"in {text}"
