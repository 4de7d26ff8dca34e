"""Client of a token service: requests a token, follows redirects, and parses the response.

It implements distribution's "Token Authentication" (distribution.github.io, spec/auth/token and spec/auth/oauth).
"""

import base64
import time
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from urllib.parse import urlencode, urljoin, urlsplit

import msgspec

from syncer.accounts.settings import Account, Secret
from syncer.errors import Attempt, Kind, RegistryError
from syncer.http.challenge import Challenge
from syncer.http.request import MAX_REDIRECTS, REDIRECTS, Answer, Scopes
from syncer.untrusted import clean

_DEFAULT_LIFETIME = 60.0
_MAX_LIFETIME = 24 * 3600.0
_MAX_TOKEN = 64 * 1024
_CLIENT_ID = "image-syncer"
_NO_METHOD = frozenset({404, 405, 501})
"""Statuses of token services that do not accept the method of a request."""
_NO_GET = _NO_METHOD | {400}
"""The same for GET: an OAuth service may report that the grant is missing (RFC 6749, section 5.2)."""

FetchToken = Callable[[str, str, dict[str, str], bytes | None], Awaitable[Answer]]
"""`(method, url, headers, body) -> answer`. Raises `RegistryError` if the status is 400 or above."""


class _TokenAnswer(msgspec.Struct):
    token: object = None
    access_token: object = None
    expires_in: object = None
    issued_at: object = None


class _Access(msgspec.Struct):
    type: str = ""
    name: str = ""
    actions: list[str] | None = None


class _Claims(msgspec.Struct):
    sub: str | msgspec.UnsetType | None = msgspec.UNSET
    access: list[_Access] | msgspec.UnsetType | None = msgspec.UNSET


class Token(msgspec.Struct, frozen=True):
    """A bearer token. `stale_at` is the time at which to renew it, in seconds of the monotonic clock."""

    secret: Secret
    stale_at: float

    def __repr__(self) -> str:
        return f"<token, stale at {self.stale_at:.0f}>"

    @property
    def header(self) -> str:
        """The value of the `Authorization` header (RFC 6750)."""
        return f"Bearer {self.secret.reveal()}"

    @property
    def subject(self) -> str | None:
        """The user that the token was issued to: empty for an anonymous token, None if it is unknown."""
        claims = self._claims()
        return None if claims.sub is msgspec.UNSET else claims.sub or ""

    @property
    def rights(self) -> Mapping[str, frozenset[str]] | None:
        """The actions that the token grants, by repository. None if they are unknown."""
        access = self._claims().access
        if access is msgspec.UNSET:
            return None
        return {
            entry.name: frozenset(entry.actions or ()) for entry in access or () if entry.type == "repository"
        }

    def _claims(self) -> _Claims:
        """Decode the claims of a JSON Web Token (RFC 7519). The signature is not verified: the claims are only hints."""
        parts = self.secret.reveal().split(".")
        if len(parts) != 3:
            return _Claims()
        try:
            raw = base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4))
            return msgspec.json.decode(raw, type=_Claims)
        except (ValueError, msgspec.MsgspecError, RecursionError):
            return _Claims()


class TokenService:
    """Requests tokens from the token service that a registry names in its challenge.

    `fetch` sends one request. `secure` returns whether the registry uses TLS. `clock` returns monotonic seconds, `now`
    returns seconds since 1970.
    """

    def __init__(
        self,
        host: str,
        *,
        fetch: FetchToken,
        secure: Callable[[], bool],
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
    ) -> None:
        self.host = host
        self._fetch = fetch
        self._secure = secure
        self._clock = clock
        self._now = now
        self._no_post = self._no_get = False

    async def token(self, challenge: Challenge, scopes: Scopes, account: Account | None) -> Token:
        """Request a token for `scopes`. A request without scopes only checks the credentials. Raises `RegistryError`."""
        realm = self._realm(challenge, account)
        fields = [("service", service)] if (service := challenge.parameters.get("service")) else []
        identity = account.identity_token if account else None
        if identity is not None and not self._no_post:
            grant = [("grant_type", "refresh_token"), ("refresh_token", identity.reveal())]
            try:
                return await self._posted(realm, [*fields, *grant], scopes)
            except RegistryError as error:
                if error.status not in _NO_METHOD:
                    raise
                # Services without the OAuth endpoint accept an identity token as a password.
                self._no_post = True
        if account is None or account.password is None or identity is not None:
            return await self._fetched(realm, fields, scopes, account)
        grant = [
            ("grant_type", "password"),
            ("username", account.username),
            ("password", account.password.reveal()),
        ]
        if self._no_get:
            return await self._posted(realm, [*fields, *grant], scopes)
        try:
            return await self._fetched(realm, fields, scopes, account)
        except RegistryError as error:
            # Some services answer 400 or 404 because of the scopes: to several, or to none.
            if error.status not in _NO_GET or (error.status in {400, 404} and len(scopes) != 1):
                raise
            # OAuth services accept only POST (RFC 6749, section 3.2).
            try:
                token = await self._posted(realm, [*fields, *grant], scopes)
            except RegistryError as refusal:
                raise (error if refusal.status in _NO_GET else refusal) from None
        self._no_get = True
        return token

    async def _posted(self, realm: str, fields: list[tuple[str, str]], scopes: Scopes) -> Token:
        """Request a token from the OAuth endpoint (distribution, spec/auth/oauth)."""
        form = [
            *fields,
            ("client_id", _CLIENT_ID),
            *([("scope", " ".join(scopes))] if scopes else []),
        ]
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        return await self._asked("POST", realm, headers, urlencode(form).encode())

    async def _fetched(
        self, realm: str, fields: list[tuple[str, str]], scopes: Scopes, account: Account | None
    ) -> Token:
        """Request a token with GET (distribution, spec/auth/token)."""
        query = urlencode([*fields, *(("scope", scope) for scope in scopes)])
        url = f"{realm}{'&' if '?' in realm else '?'}{query}" if query else realm
        identity = account.identity_token if account else None
        login = (
            basic(account) if identity is None else _encoded(account.username if account else "", identity)
        )
        return await self._asked("GET", url, {"Authorization": login} if login else {}, None)

    async def _asked(self, method: str, url: str, headers: dict[str, str], body: bytes | None) -> Token:
        sent_at = self._clock()
        for _ in range(MAX_REDIRECTS + 1):
            answer = await self._fetch(method, url, headers, body)
            if answer.status not in REDIRECTS:
                return self._read(answer.body, sent_at)
            target = self._redirected(url, answer.headers.get("location", ""))
            if not _may_follow(url, target):
                if body is not None:
                    raise self._failure(
                        Kind.UNAUTHORIZED,
                        f"the token service redirects to {clean(urlsplit(target).netloc)}, where credentials are not sent",
                    )
                headers = {name: value for name, value in headers.items() if name != "Authorization"}
            url = target
        raise self._failure(Kind.INVALID, f"the token service redirects more than {MAX_REDIRECTS} times")

    def _redirected(self, url: str, location: str) -> str:
        try:
            target = urljoin(url, location.partition("#")[0]) if location else ""
        except ValueError:
            target = ""
        if not is_url(target):
            raise self._failure(
                Kind.INVALID, f"the token service redirects to an invalid URL {clean(location)!r}"
            )
        if urlsplit(url).scheme == "https" and urlsplit(target).scheme == "http":
            raise self._failure(
                Kind.TLS, "the token service redirects from https to http, which is not allowed"
            )
        return target

    def _realm(self, challenge: Challenge, account: Account | None) -> str:
        realm = challenge.parameters["realm"].partition("#")[0]
        if not is_url(realm):
            raise self._failure(
                Kind.INVALID, f"the registry names a token service with an invalid URL {clean(realm)!r}"
            )
        if account is not None and urlsplit(realm).scheme == "http" and self._secure():
            raise self._failure(
                Kind.TLS,
                f"{self.host} uses TLS, but its token service {clean(realm)} does not: credentials are not sent there",
            )
        return realm

    def _read(self, raw: bytes, sent_at: float) -> Token:
        try:
            answer = msgspec.json.decode(raw, type=_TokenAnswer)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise self._failure(
                Kind.SERVER_ERROR, "the response of the token service is not the expected JSON object"
            ) from error
        texts = (text for text in (answer.token, answer.access_token) if isinstance(text, str) and text)
        text = next(texts, "")
        if not _is_token(text):
            raise self._failure(
                Kind.UNAUTHORIZED, "the response of the token service contains no valid token"
            )
        lifetime = _lifetime(answer, self._now())
        # Count from the time of the request and renew early: the response took time, and clocks differ.
        early = lifetime * 0.1 + 1.0 if lifetime > 10 else 0.0
        return Token(Secret(text), sent_at + lifetime - early)

    def own_token(self, secret: Secret) -> Token:
        """Return the registry token of an account unchanged. Raises `RegistryError` if it is invalid."""
        if not _is_token(secret.reveal()):
            raise self._failure(Kind.INVALID, "the registry token of the account is invalid")
        return Token(secret, float("inf"))

    def _failure(self, kind: Kind, message: str) -> RegistryError:
        return RegistryError(
            kind, message, attempt=Attempt(self.host, "GET", "token", f"token for {self.host}")
        )


def basic(account: Account | None) -> str | None:
    """Return the Basic header of an account, or None if it has no password."""
    if account is None or account.password is None:
        return None
    return _encoded(account.username, account.password)


def _encoded(username: str, secret: Secret) -> str:
    return "Basic " + base64.b64encode(f"{username}:{secret.reveal()}".encode()).decode()


def is_url(realm: str) -> bool:
    """Whether a realm is a valid URL. User information is rejected: it would be sent as credentials."""
    try:
        parts = urlsplit(realm)
        return (
            parts.scheme in {"http", "https"}
            and bool(parts.hostname)
            and (parts.port is None or parts.port > 0)
            and parts.username is None
            and realm.isascii()
            and realm.isprintable()
            and " " not in realm
        )
    except ValueError:
        return False


def _may_follow(url: str, target: str) -> bool:
    """Whether to send credentials to a redirect target: the same origin (RFC 6454), or https of the same host."""
    old, new = urlsplit(url), urlsplit(target)
    if old.hostname != new.hostname:
        return False
    if (old.scheme, new.scheme) == ("http", "https"):
        return True
    default = {"http": 80, "https": 443}[new.scheme]
    return old.scheme == new.scheme and (old.port or default) == (new.port or default)


def _is_token(text: str) -> bool:
    return 0 < len(text) <= _MAX_TOKEN and text.isascii() and text.isprintable()


def _lifetime(answer: _TokenAnswer, now: float) -> float:
    """Return the remaining lifetime of a token in seconds. Some services return a token that was issued earlier."""
    try:
        stated = float(answer.expires_in)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        stated = 0.0
    lifetime = min(stated, _MAX_LIFETIME) if stated > 0 else _DEFAULT_LIFETIME
    try:
        issued = datetime.fromisoformat(answer.issued_at)  # type: ignore[arg-type]
        age = now - (issued if issued.tzinfo else issued.replace(tzinfo=UTC)).timestamp()
    except (TypeError, ValueError, OverflowError):
        age = 0.0
    # An age beyond the lifetime means that one of the clocks is wrong, so ignore it.
    return max(1.0, lifetime - age if 0 < age < lifetime else lifetime)
