"""Renders the pages in the language of the browser, and serves their static files."""

import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlencode

import jinja2
import msgspec
from markupsafe import Markup
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from syncer import __version__
from syncer.daemon.base_path import base_of
from syncer.daemon.chart import HEIGHT, STEP, chart_of, seconds_of
from syncer.daemon.languages import LANGUAGES, Language, language_of
from syncer.daemon.overview import fails
from syncer.observe import words
from syncer.state.history import Document, utc

_HERE = Path(__file__).parent
_TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
_YEAR = "max-age=31536000, immutable"


@dataclass(frozen=True, slots=True)
class _Static:
    """A static file. `address` contains its digest, so browsers may cache it forever. It follows the base path."""

    address: str
    content: bytes
    media_type: str


class Renderer:
    """Renders templates. `static` answers requests for the files that they name."""

    def __init__(self) -> None:
        self._static = _static_files()
        addresses = {name: file.address for name, file in self._static.items()}
        self._templates = {language.tag: _environment(language, addresses) for language in LANGUAGES}
        self._charts: dict[tuple[str, str], tuple[str, Markup]] = {}

    def page(
        self,
        request: Request,
        template: str,
        *,
        status: int = 200,
        headers: dict[str, str] | None = None,
        **content: object,
    ) -> Response:
        """Return a page. `content` is what the template shows."""
        language = _language(request)
        content = {"now": utc(time.time()), "status_code": status, "base": base_of(request)} | content
        html = self._templates[language.tag].get_template(template).render(content)
        return HTMLResponse(
            html,
            status,
            {
                **(headers or {}),
                "content-language": language.tag,
                "vary": "accept-language, x-forwarded-prefix",
            },
        )

    def chart(self, request: Request, runs: Sequence[Document], now: str) -> Markup:
        """Return the chart. It is cached until another run finishes, because rendering it is half of the work."""
        finished = [run for run in runs if run["finished"]]
        newest = finished[0]["id"] if finished else ""
        tag, base = _language(request).tag, base_of(request)
        if not newest:
            return Markup()
        if self._charts.get((tag, base), ("", ""))[0] != newest:
            if len(self._charts) > 2 * len(LANGUAGES):
                self._charts.clear()  # the base path can come from a client
            template = self._templates[tag].get_template("chart.html")
            html = template.render(chart=chart_of(finished, now), now=now, base=base)
            self._charts[tag, base] = newest, Markup(html)  # noqa: S704 - the template escapes it
        return self._charts[tag, base][1]

    async def static(self, request: Request) -> Response:
        file = self._static.get(request.path_params["name"])
        if file is None:
            raise HTTPException(404)
        return Response(file.content, media_type=file.media_type, headers={"cache-control": _YEAR})


def _language(request: Request) -> Language:
    return language_of(request.headers.get("accept-language", ""))


def _static_files() -> dict[str, _Static]:
    files = {}
    for path in sorted((_HERE / "static").iterdir()):
        if media_type := _TYPES.get(path.suffix):
            content = path.read_bytes()
            digest = hashlib.sha256(content).hexdigest()[:12]
            files[path.name] = _Static(f"/static/{path.name}?v={digest}", content, media_type)
    return files


def _environment(language: Language, static: dict[str, str]) -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_HERE / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )

    def took(run: Document, now: str) -> str:
        """Return the duration of a run. Its times are whole seconds."""
        seconds = seconds_of(run, now)
        return words.duration(seconds) if seconds >= 1 else language.word("under 1 s")

    environment.globals |= {
        "static": static,
        "version": __version__,
        "step": STEP,
        "tall": HEIGHT,
        "_": language.text,
        "language": language.tag,
        "script_texts": msgspec.json.encode(language.script).decode(),
    }
    environment.filters |= {
        "size": words.size,
        "rate": words.rate,
        "duration": words.duration,
        "short": words.short,
        "number": "{:,}".format,
        "counted": language.counted,
        "word": language.word,
        "reason": language.reason,
        "told": language.told,
        "time": language.time,
        "ago": language.ago,
        "took": took,
        "address": urlencode,
    }
    environment.tests |= {"failing": fails}
    return environment
