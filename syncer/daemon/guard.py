"""Authorization of requests: by token, or without a token, only for programs and pages on this machine."""

import base64
import binascii
import hmac
import ipaddress
from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from starlette.requests import HTTPConnection, Request

from syncer.accounts.settings import Secret
from syncer.daemon.peers import WrongTokens

PROBES = frozenset({"/healthz", "/readyz"})
"""Paths that never need a token. They reveal nothing about images, and probes often cannot send a token."""

HOOKS = "/hooks/"
"""Prefix of the paths that take events of registries."""

_BEARER = 'Bearer realm="image-syncer"'
_BASIC = 'Basic realm="image-syncer", charset="UTF-8"'

Token = Callable[[], Secret]


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a request is refused. `challenge` is the value of `WWW-Authenticate`, or empty."""

    status: int
    message: str
    challenge: str = ""


@dataclass(frozen=True, slots=True)
class Guard:
    """Decides which requests are allowed. `host` is the address on which the daemon listens.

    `token` returns the token for reading and changing state. `read_token` returns the token for reading; without it,
    reading needs no token. `hook_token` returns the token for events of registries. All are functions because the tokens
    may change.
    """

    host: str
    token: Token | None = None
    read_token: Token | None = None
    hook_token: Token | None = None
    wrong_tokens: WrongTokens = field(default_factory=WrongTokens)

    @property
    def mode(self) -> str:
        """Who may change state: `token` (its holders), `local` (this machine) or `closed` (nobody)."""
        if self.token is not None:
            return "token"
        return "local" if is_loopback(self.host) else "closed"

    def refusal(self, connection: HTTPConnection) -> Refusal | None:
        """Return why a request is refused regardless of its path, or None.

        Without a token, only this machine may send requests. A page of another site whose name resolves to this
        address (DNS rebinding) sends that name as `Host`. It must not read anything. `/hooks` has a check of its own.
        """
        if connection.scope["path"].startswith(HOOKS):
            return None
        if self.mode == "local" and not is_loopback(_hostname(connection.headers.get("host", ""))):
            return Refusal(
                403,
                "expected a Host header that names this machine, such as localhost; "
                "set --api-token-file to allow other names",
            )
        return None

    def read_refusal(self, connection: HTTPConnection) -> Refusal | None:
        """Return why a request may not read, or None."""
        if self.read_token is None or connection.url.path in PROBES:
            return None
        shown = _bearer_token(connection) or _basic_password(connection)
        tokens = (self.read_token, self.token) if self.token is not None else (self.read_token,)
        if any(_same(shown, token) for token in tokens):
            return None
        message = "expected the token of --api-read-token-file as `Authorization: Bearer`, or as the password of Basic"
        return Refusal(401, message, f"{_BASIC}, {_BEARER}")

    def change_refusal(self, request: Request) -> Refusal | None:
        """Return why a request may not change state, or None."""
        match self.mode:
            case "token":
                assert self.token is not None
                if _same(_bearer_token(request), self.token):
                    return None
                message = "expected the header `Authorization: Bearer` with the token of --api-token-file"
                return Refusal(401, message, _BEARER)
            case "local":
                return _from_elsewhere(request) or self.read_refusal(request)
            case _:
                return Refusal(
                    403,
                    "starting and cancelling runs is disabled: set --api-token-file, or listen on 127.0.0.1",
                )

    def plan_refusal(self, request: Request) -> Refusal | None:
        """Return why a request may not ask for a plan, or None. The check of `read_refusal` is made before."""
        return _from_elsewhere(request)

    def hook_refusal(self, request: Request) -> Refusal | None:
        """Return why a request may not send events, or None. The tokens of the API do not count."""
        if self.hook_token is not None:
            shown = (_bearer_token(request), _basic_password(request), _query_token(request))
            if any(_same(each, self.hook_token) for each in shown):
                return None
            message = "expected the token of --hook-token-file as `Authorization: Bearer`, as the password of Basic, or as `?token=`"
            return Refusal(401, message, f"{_BASIC}, {_BEARER}")
        if not is_loopback(self.host):
            return Refusal(403, "events are disabled: set --hook-token-file, or listen on 127.0.0.1")
        if not is_loopback(_hostname(request.headers.get("host", ""))):
            return Refusal(
                403,
                "expected a Host header that names this machine, such as localhost; set --hook-token-file to allow other names",
            )
        return _from_elsewhere(request)

    async def delay(self, connection: HTTPConnection, refusal: Refusal) -> None:
        """Delay the response to a wrong token. A request without a token is not delayed."""
        shown = connection.headers.get("authorization", "").strip() or _query_token(connection)
        if refusal.status == 401 and shown:
            address = connection.client.host if connection.client else ""
            what = f"{connection.scope['method']} {connection.url.path[:80]!r}"
            await self.wrong_tokens.delay(address, what)


def _same(shown: bytes, token: Token) -> bool:
    """Compare in constant time, so that the duration reveals nothing about the token."""
    return hmac.compare_digest(shown, token().reveal().strip().encode())


def _bearer_token(connection: HTTPConnection) -> bytes:
    scheme, _, shown = connection.headers.get("authorization", "").partition(" ")
    return shown.strip().encode("latin-1", "replace") if scheme.lower() == "bearer" else b""


def _basic_password(connection: HTTPConnection) -> bytes:
    scheme, _, shown = connection.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "basic":
        return b""
    try:
        return base64.b64decode(shown.strip(), validate=True).partition(b":")[2].strip()
    except (binascii.Error, ValueError):
        return b""


def _query_token(connection: HTTPConnection) -> bytes:
    """Return `?token=`, for services that can send no header. Only events may be sent with it."""
    return connection.query_params.get("token", "").strip().encode()


def _from_elsewhere(request: Request) -> Refusal | None:
    """Return a refusal if a browser sent the request for a page of another site (CSRF), or None.

    Browsers send the origin of the page. Other programs send no `Origin`.
    """
    host = request.headers.get("host", "")
    origin = request.headers.get("origin")
    if origin is not None and origin.lower() not in (f"http://{host.lower()}", f"https://{host.lower()}"):
        return Refusal(403, "requests from another origin are not allowed")
    if request.headers.get("sec-fetch-site", "none") not in ("same-origin", "none"):
        return Refusal(403, "requests from another site are not allowed")
    return None


def _hostname(authority: str) -> str:
    try:
        return urlsplit(f"//{authority}").hostname or ""
    except ValueError:
        return ""


def is_loopback(host: str) -> bool:
    """Return whether `host` is a loopback address or localhost."""
    if host.lower().rstrip(".") == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
