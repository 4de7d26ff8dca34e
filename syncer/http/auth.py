"""Challenges answered: Basic, and Bearer with tokens that are fetched once for all who wait.

The token specification is Docker's "Token Authentication" (distribution.github.io, spec/auth/token and /oauth).
"""

import base64
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from urllib.parse import urlencode, urlsplit

import anyio
import httpx
import msgspec

from syncer.config.settings import Account
from syncer.http.challenge import Challenge, parse_challenges
from syncer.http.errors import Kind, RegistryError

_DEFAULT_LIFETIME = 60.0
_MAX_LIFETIME = 24 * 3600.0
_CLIENT_ID = "image-syncer"

Scopes = tuple[str, ...]
"""Such as `("repository:library/nginx:pull",)`; empty for what belongs to no repository."""


class _TokenAnswer(msgspec.Struct):
    token: str | None = None
    access_token: str | None = None
    expires_in: float | None = None


@dataclass(frozen=True, slots=True)
class _Token:
    header: str
    stale_at: float


FetchToken = Callable[[str, str, dict[str, str], bytes | None], Awaitable[bytes]]
"""`(method, url, headers, body) -> body of the answer`. Raises `RegistryError`."""


class Authenticator:
    """Knows how one account shows itself at one registry.

    `fetch` sends a request to the token service, `challenge_of_ping` asks `/v2/` for the challenge where an
    answer had none, `secure` says whether the registry is spoken to over TLS.
    """

    def __init__(
        self,
        host: str,
        account: Account | None,
        *,
        fetch: FetchToken,
        challenge_of_ping: Callable[[], Awaitable[list[Challenge]]],
        secure: Callable[[], bool],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.host = host
        self.account = account
        self._fetch = fetch
        self._challenge_of_ping = challenge_of_ping
        self._secure = secure
        self._clock = clock
        self._challenge: Challenge | None = None
        self._scopes: dict[Scopes, Scopes] = {}
        self._tokens: dict[Scopes, _Token] = {}
        self._locks: dict[Scopes, anyio.Lock] = {}

    async def authorization(self, scopes: Scopes) -> str | None:
        """The `Authorization` header for a request, or None where nothing has asked for one yet."""
        if self._challenge is None:
            return None
        if self._challenge.scheme == "basic":
            return self._basic()
        token = self._tokens.get(scopes)
        if token is None or token.stale_at <= self._clock():
            token = await self._refreshed(scopes, token)
        return token.header

    async def challenged(self, headers: httpx.Headers, scopes: Scopes, sent: str | None) -> bool:
        """Learn from a 401. True if the request is worth sending again; `sent` is the header it had."""
        offered = parse_challenges(headers.get_list("www-authenticate")) or await self._challenge_of_ping()
        challenge = self._choose(offered)
        if challenge is None:
            return False
        self._challenge = challenge
        if challenge.scheme == "basic":
            return self._basic() not in {None, sent}
        asked = tuple(challenge.parameters.get("scope", "").split())
        if asked and not _same_resources(asked, scopes):
            # A registry behind a path-rewriting proxy, or one with scopes of its own: it knows better.
            self._scopes[scopes] = asked
        token = self._tokens.get(scopes)
        if token is not None and token.header == sent:
            del self._tokens[scopes]
        return True

    def _choose(self, offered: Iterable[Challenge]) -> Challenge | None:
        by_scheme = {challenge.scheme: challenge for challenge in reversed(list(offered))}
        bearer = by_scheme.get("bearer")
        if bearer and bearer.parameters.get("realm"):
            return bearer
        return by_scheme.get("basic")

    def _basic(self) -> str | None:
        account = self.account
        if account is None or account.password is None:
            return None
        pair = f"{account.username}:{account.password.reveal()}".encode()
        return "Basic " + base64.b64encode(pair).decode()

    async def _refreshed(self, scopes: Scopes, seen: _Token | None) -> _Token:
        async with self._locks.setdefault(scopes, anyio.Lock()):
            token = self._tokens.get(scopes)
            if token is None or token is seen:
                token = self._tokens[scopes] = await self._new_token(self._scopes.get(scopes, scopes))
            return token

    async def _new_token(self, scopes: Scopes) -> _Token:
        assert self._challenge is not None
        realm = self._challenge.parameters["realm"]
        account = self.account
        has_secret = account is not None and (account.password or account.identity_token)
        parts = urlsplit(realm)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise self._failure(
                Kind.INVALID, f"the registry names an impossible token service {realm[:200]!r}"
            )
        if has_secret and parts.scheme == "http" and self._secure():
            raise self._failure(
                Kind.TLS,
                f"the token service {realm[:200]} has no TLS, while {self.host} has: credentials are not sent there",
            )
        fields = [("service", service)] if (service := self._challenge.parameters.get("service")) else []
        sent_at = self._clock()
        if account and account.identity_token:
            form = [
                *fields,
                ("client_id", _CLIENT_ID),
                ("grant_type", "refresh_token"),
                ("refresh_token", account.identity_token.reveal()),
                *([("scope", " ".join(scopes))] if scopes else []),
            ]
            headers = {"Content-Type": "application/x-www-form-urlencoded"}
            raw = await self._fetch("POST", realm, headers, urlencode(form).encode())
        else:
            query = urlencode([*fields, *(("scope", scope) for scope in scopes)])
            url = f"{realm}{'&' if parts.query else '?'}{query}" if query else realm
            basic = self._basic()
            raw = await self._fetch("GET", url, {"Authorization": basic} if basic else {}, None)
        return self._read(raw, sent_at)

    def _read(self, raw: bytes, sent_at: float) -> _Token:
        try:
            answer = msgspec.json.decode(raw, type=_TokenAnswer)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise self._failure(
                Kind.SERVER_ERROR, f"the token service answered with no token: {error}"
            ) from error
        text = answer.token or answer.access_token
        if not text or not text.isascii() or not text.isprintable():
            raise self._failure(Kind.UNAUTHORIZED, "the token service answered with no token")
        lifetime = min(max(answer.expires_in or _DEFAULT_LIFETIME, 1.0), _MAX_LIFETIME)
        # Counted from when it was asked for, and given up a little early: the answer took time, clocks differ.
        return _Token(
            f"Bearer {text}", sent_at + lifetime * 0.9 - 1.0 if lifetime > 10 else sent_at + lifetime
        )

    def _failure(self, kind: Kind, message: str) -> RegistryError:
        return RegistryError(kind, message, registry=self.host, attempt=f"fetch a token for {self.host}")


def _same_resources(asked: Scopes, ours: Scopes) -> bool:
    """Whether a challenge's scopes name the resources that ours do (actions aside)."""

    def resources(scopes: Scopes) -> set[str]:
        return {scope.rpartition(":")[0] for scope in scopes}

    return resources(asked) <= resources(ours)
