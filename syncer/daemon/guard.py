"""Who may change something: holders of the token, or where there is none, programs and pages of this machine."""

import hmac
import ipaddress
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import urlsplit

from starlette.requests import Request

from syncer.accounts.settings import Secret


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a request is not let through."""

    status: int
    message: str


@dataclass(frozen=True, slots=True)
class Guard:
    """`host` is where the daemon listens. `token` gives the token that is wanted now, which may change."""

    host: str
    token: Callable[[], Secret] | None = None

    @property
    def mode(self) -> str:
        """How one gets through: `token`, `local`, or `closed` to everybody."""
        if self.token is not None:
            return "token"
        return "local" if is_loopback(self.host) else "closed"

    def refusal(self, request: Request) -> Refusal | None:
        """None lets the request through."""
        match self.mode:
            case "token":
                return self._without_token(request)
            case "local":
                return _from_elsewhere(request)
            case _:
                return Refusal(
                    403, "closed: start the daemon with --api-token-file, or let it listen on 127.0.0.1"
                )

    def _without_token(self, request: Request) -> Refusal | None:
        assert self.token is not None
        scheme, _, shown = request.headers.get("authorization", "").partition(" ")
        wanted = self.token().reveal().strip().encode()
        # Compared in any case, and in constant time: how long it takes tells nothing.
        same = hmac.compare_digest(shown.strip().encode("latin-1", "replace"), wanted)
        if scheme.lower() == "bearer" and same:
            return None
        return Refusal(401, "expected the header `Authorization: Bearer` with the token of --api-token-file")


def _from_elsewhere(request: Request) -> Refusal | None:
    """Browsers of this machine run other people's pages: those must not get through.

    A page that had its name pointed at us (rebinding) shows that name as `Host`; any other page shows its own
    origin. Programs send no `Origin`.
    """
    host = request.headers.get("host", "")
    if not is_loopback(_hostname(host)):
        return Refusal(403, "expected a Host that is this machine, such as localhost")
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
