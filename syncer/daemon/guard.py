"""Who may read, and who may change something: holders of a token, or without one, programs and pages of this machine."""

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
"""They say nothing of what is copied, and programs that ask for them often cannot send a token."""

_BEARER = 'Bearer realm="image-syncer"'
_BASIC = 'Basic realm="image-syncer", charset="UTF-8"'

Token = Callable[[], Secret]


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a request is not let through. `challenge` is for `WWW-Authenticate`."""

    status: int
    message: str
    challenge: str = ""


@dataclass(frozen=True, slots=True)
class Guard:
    """`host` is where the daemon listens. The tokens are functions: what they give may change.

    `token` lets clients change something, and read. `read_token` lets them read only; without it anybody may.
    """

    host: str
    token: Token | None = None
    read_token: Token | None = None
    wrong_tokens: WrongTokens = field(default_factory=WrongTokens)

    @property
    def mode(self) -> str:
        """How one gets through: `token`, `local`, or `closed` to everybody."""
        if self.token is not None:
            return "token"
        return "local" if is_loopback(self.host) else "closed"

    def refusal(self, connection: HTTPConnection) -> Refusal | None:
        """Why a request is refused whatever it asks for; None lets it go on.

        Without a token the daemon is for this machine. A page whose name was pointed at this address (DNS rebinding)
        shows that name as `Host`: it must not read anything either.
        """
        if self.mode == "local" and not is_loopback(_hostname(connection.headers.get("host", ""))):
            return Refusal(
                403,
                "expected a Host that is this machine, such as localhost; "
                "to be reached by other names, the daemon needs --api-token-file",
            )
        return None

    def read_refusal(self, connection: HTTPConnection) -> Refusal | None:
        """Why a request may not read; None lets it through."""
        if self.read_token is None or connection.url.path in PROBES:
            return None
        shown = _bearer_token(connection) or _basic_password(connection)
        tokens = (self.read_token, self.token) if self.token is not None else (self.read_token,)
        if any(_same(shown, token) for token in tokens):
            return None
        message = (
            "expected the token of --api-read-token-file, as `Authorization: Bearer` or as Basic's password"
        )
        return Refusal(401, message, f"{_BASIC}, {_BEARER}")

    def change_refusal(self, request: Request) -> Refusal | None:
        """Why a request may not change anything; None lets it through."""
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
                    403, "closed: start the daemon with --api-token-file, or let it listen on 127.0.0.1"
                )

    async def delay(self, connection: HTTPConnection, refusal: Refusal) -> None:
        """Hold the answer to whoever showed a wrong token; who showed none has only to learn that one is wanted."""
        if refusal.status == 401 and connection.headers.get("authorization", "").strip():
            address = connection.client.host if connection.client else ""
            what = f"{connection.scope['method']} {connection.url.path[:80]!r}"
            await self.wrong_tokens.delay(address, what)


def _same(shown: bytes, token: Token) -> bool:
    """In constant time: how long it takes tells nothing."""
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


def _from_elsewhere(request: Request) -> Refusal | None:
    """Browsers of this machine run other people's pages: those must not get through.

    Such a page shows its own origin. Programs send no `Origin`.
    """
    host = request.headers.get("host", "")
    origin = request.headers.get("origin")
    if origin is not None and origin.lower() not in (f"http://{host.lower()}", f"https://{host.lower()}"):
        return Refusal(403, "another origin may not do this")
    if request.headers.get("sec-fetch-site", "none") not in ("same-origin", "none"):
        return Refusal(403, "another site may not do this")
    return None


def _hostname(authority: str) -> str:
    try:
        return urlsplit(f"//{authority}").hostname or ""
    except ValueError:
        return ""


def is_loopback(host: str) -> bool:
    """Whether only this machine gets there."""
    if host.lower().rstrip(".") == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
