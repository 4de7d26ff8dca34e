"""The path under which a reverse proxy serves the daemon: `--base-path`, or else the header `X-Forwarded-Prefix`."""

from starlette.datastructures import Headers
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Receive, Scope, Send

from syncer.lazy_pattern import lazy_pattern

_KEY = "syncer.base_path"
_PATH = lazy_pattern(r"(?:/[A-Za-z0-9._~-]{1,100}){1,10}")


class InvalidBasePath(ValueError):
    """Text that is not a base path."""


def check_base_path(text: str) -> str:
    """Return the path without the slash at its end; empty for `/`. Raises `InvalidBasePath`."""
    path = text.removesuffix("/")
    if not path:
        return ""
    if not _PATH.fullmatch(path) or any(part in (".", "..") for part in path.split("/")):
        raise InvalidBasePath(
            f"expected a path such as /image-syncer (letters, digits and - . _ ~), found {text[:80]!r}"
        )
    return path


def base_of(connection: HTTPConnection) -> str:
    """Return what the addresses of a page begin with, such as `/image-syncer`; empty without a base path."""
    return str(connection.scope.get(_KEY, ""))


class BasePath:
    """Removes the base path from requests, whether the proxy left it there or not.

    A header that is no valid path is ignored: what comes from a client must not decide where links lead.
    """

    def __init__(self, app: ASGIApp, base_path: str = "") -> None:
        self._app = app
        self._base_path = base_path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and (base := self._base_path or _forwarded_prefix(scope)):
            path: str = scope["path"]
            if path == base or path.startswith(f"{base}/"):
                path = path[len(base) :] or "/"
            scope = {**scope, "path": path, _KEY: base}
        await self._app(scope, receive, send)


def _forwarded_prefix(scope: Scope) -> str:
    try:
        return check_base_path(Headers(scope=scope).get("x-forwarded-prefix", "").strip())
    except InvalidBasePath:
        return ""
