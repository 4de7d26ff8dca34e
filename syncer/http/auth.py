"""Challenges answered: Basic, and Bearer with tokens that are fetched once for all who wait.

The token specification is Docker's "Token Authentication" (distribution.github.io, spec/auth/token and /oauth).
"""

import base64
import time
from collections.abc import Awaitable, Callable, Iterable
from datetime import UTC, datetime
from urllib.parse import urlencode, urlsplit

import anyio
import httpx
import msgspec

from syncer.accounts.settings import Account, Secret
from syncer.errors import Attempt, Kind, RegistryError
from syncer.http.challenge import Challenge, parse_challenges
from syncer.http.request import Scopes
from syncer.untrusted import clean

MAX_TOKENS = 512
"""Tokens kept for one account at one registry: many more than are in use at once, far fewer than repositories."""
_DEFAULT_LIFETIME = 60.0
_MAX_LIFETIME = 24 * 3600.0
_MAX_TOKEN = 64 * 1024
_CLIENT_ID = "image-syncer"
_NO_POST = frozenset({404, 405, 501})
_NOT_THESE_SCOPES = frozenset({400, 401, 403, 404, 422})


class _TokenAnswer(msgspec.Struct):
    token: object = None
    access_token: object = None
    expires_in: object = None
    issued_at: object = None


class _Token(msgspec.Struct, frozen=True):
    header: str
    stale_at: float
    secret: Secret | None = None  # while it lives, texts that repeat the token are masked

    def __repr__(self) -> str:
        return f"<token, stale at {self.stale_at:.0f}>"


class _Refresh:
    """A token on its way. Who comes meanwhile waits for `done` and takes what came of it."""

    def __init__(self) -> None:
        self.done = anyio.Event()
        self.token: _Token | None = None
        self.failure: RegistryError | None = None


FetchToken = Callable[[str, str, dict[str, str], bytes | None], Awaitable[bytes]]
"""`(method, url, headers, body) -> body of the answer`. Raises `RegistryError`."""


class Authenticator:
    """Knows how one account shows itself at one registry.

    `fetch` sends a request to the token service, `challenge_of_ping` asks `/v2/` for the challenge where an
    answer had none, `secure` says whether the registry is spoken to over TLS. `clock` counts seconds, `now` is
    the time of day in seconds since 1970.
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
        now: Callable[[], float] = time.time,
    ) -> None:
        self.host = host
        self.account = account
        self._fetch = fetch
        self._challenge_of_ping = challenge_of_ping
        self._secure = secure
        self._clock = clock
        self._now = now
        self._current = account
        self._challenge: Challenge | None = None
        self._scopes: dict[Scopes, Scopes] = {}
        self._tokens: dict[Scopes, _Token] = {}
        self._refreshing: dict[Scopes, _Refresh] = {}
        self._no_post = False

    @property
    def current(self) -> Account | None:
        """Who was shown last: where a provider knows the account, what it answered; None is nobody."""
        return self._current

    async def authorization(self, scopes: Scopes) -> str | None:
        """The `Authorization` header for a request, or None where nothing has asked for one yet."""
        challenge = self._challenge
        if challenge is None:
            return None
        if challenge.scheme == "basic":
            return _basic(await self._who())
        token = self._tokens.get(scopes)
        if token is None or token.stale_at <= self._clock():
            token = await self._refreshed(scopes, challenge)
        return token.header

    async def basic(self) -> str | None:
        """The header of user name and password, for a registry's own API beside the distribution's."""
        return _basic(await self._who())

    async def challenged(self, headers: httpx.Headers, scopes: Scopes, sent: str | None) -> bool:
        """Learn from a 401. True if the request is worth sending again; `sent` is the header it had."""
        own = _best(parse_challenges(headers.get_list("www-authenticate")))
        challenge = own or self._challenge or _best(await self._challenge_of_ping())
        if challenge is None:
            return False
        self._challenge = challenge
        if challenge.scheme == "basic":
            refused = sent is not None and sent == _basic(self._current)
            return _basic(await self._who(refused=self._current if refused else None)) not in {None, sent}
        if own is not None:
            self._learn(scopes, tuple(challenge.parameters.get("scope", "").split()))
        token = self._tokens.get(scopes)
        if token is not None and token.header == sent:
            del self._tokens[scopes]
            # A token of the user's own cannot be had anew.
            return self._current is None or self._current.registry_token is None
        return True

    def _learn(self, scopes: Scopes, asked: Scopes) -> None:
        """What the registry asks for, where it is not what we would: it knows better (a proxy that rewrites paths)."""
        known = self._scopes.get(scopes, scopes)
        wanted = _merged(known, asked)
        if wanted != known:
            self._scopes.pop(scopes, None)
            self._scopes[scopes] = wanted
            if len(self._scopes) > MAX_TOKENS:
                del self._scopes[next(iter(self._scopes))]

    async def _who(self, *, refused: Account | None = None) -> Account | None:
        account = self.account
        if account is not None and account.provider is not None:
            account = await account.provider.account(refused=refused)
        self._current = account
        return account

    async def _refreshed(self, scopes: Scopes, challenge: Challenge) -> _Token:
        while (other := self._refreshing.get(scopes)) is not None:
            await other.done.wait()
            if other.failure is not None:
                # Not once more for everyone who waited: wrong passwords are counted, and lock accounts.
                raise other.failure
            if other.token is not None:
                return other.token
        refresh = self._refreshing[scopes] = _Refresh()
        try:
            refresh.token = await self._new_token(self._scopes.get(scopes, scopes), challenge)
            self._keep(scopes, refresh.token)
            return refresh.token
        except RegistryError as error:
            refresh.failure = error
            raise
        finally:
            del self._refreshing[scopes]
            refresh.done.set()

    def _keep(self, scopes: Scopes, token: _Token) -> None:
        self._tokens.pop(scopes, None)
        self._tokens[scopes] = token
        if len(self._tokens) > MAX_TOKENS:
            now = self._clock()
            for each in [each for each, kept in self._tokens.items() if kept.stale_at <= now]:
                del self._tokens[each]
        if len(self._tokens) > MAX_TOKENS:
            del self._tokens[next(iter(self._tokens))]

    async def _new_token(self, scopes: Scopes, challenge: Challenge) -> _Token:
        try:
            return await self._granted(scopes, challenge)
        except RegistryError as error:
            if len(scopes) < 2 or error.status not in _NOT_THESE_SCOPES:
                raise
        # A service that grants all or nothing, or one scope at a time. What the first one opens, the registry tells.
        return await self._granted(scopes[:1], challenge)

    async def _granted(self, scopes: Scopes, challenge: Challenge) -> _Token:
        who = await self._who()
        if who is not None and who.registry_token is not None:
            return self._own_token(who.registry_token.reveal())
        try:
            return await self._asked(scopes, challenge, who)
        except RegistryError as error:
            if error.status != 401 or self.account is None or self.account.provider is None:
                raise
            # What a helper program said may have died since.
            newer = await self._who(refused=who)
            if newer == who:
                raise
        return await self._asked(scopes, challenge, newer)

    async def _asked(self, scopes: Scopes, challenge: Challenge, who: Account | None) -> _Token:
        realm = self._realm(challenge, who)
        fields = [("service", service)] if (service := challenge.parameters.get("service")) else []
        sent_at = self._clock()
        identity = who.identity_token if who else None
        if identity is not None and not self._no_post:
            form = [
                *fields,
                ("client_id", _CLIENT_ID),
                ("grant_type", "refresh_token"),
                ("refresh_token", identity.reveal()),
                *([("scope", " ".join(scopes))] if scopes else []),
            ]
            headers = {"Content-Type": "application/x-www-form-urlencoded"}
            try:
                return self._read(
                    await self._fetch("POST", realm, headers, urlencode(form).encode()), sent_at
                )
            except RegistryError as error:
                if error.status not in _NO_POST:
                    raise
                # Services older than the specification's second part take an identity token as a password.
                self._no_post = True
        query = urlencode([*fields, *(("scope", scope) for scope in scopes)])
        url = f"{realm}{'&' if '?' in realm else '?'}{query}" if query else realm
        basic = _basic(who) if identity is None else _encoded(who.username if who else "", identity)
        return self._read(
            await self._fetch("GET", url, {"Authorization": basic} if basic else {}, None), sent_at
        )

    def _realm(self, challenge: Challenge, who: Account | None) -> str:
        realm = challenge.parameters["realm"].partition("#")[0]
        if not _is_url(realm):
            raise self._failure(
                Kind.INVALID, f"the registry names an impossible token service {clean(realm)!r}"
            )
        if who is not None and realm[:5].lower() == "http:" and self._secure():
            raise self._failure(
                Kind.TLS,
                f"the token service {clean(realm)} has no TLS, while {self.host} has: credentials are not sent there",
            )
        return realm

    def _read(self, raw: bytes, sent_at: float) -> _Token:
        try:
            answer = msgspec.json.decode(raw, type=_TokenAnswer)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise self._failure(
                Kind.SERVER_ERROR, "the token service answered with something else than JSON with a token"
            ) from error
        texts = (text for text in (answer.token, answer.access_token) if isinstance(text, str) and text)
        text = next(texts, "")
        if not _is_token(text):
            raise self._failure(Kind.UNAUTHORIZED, "the token service answered with no token")
        lifetime = _lifetime(answer, self._now())
        # Counted from when it was asked for, and given up a little early: the answer took time, clocks differ.
        early = lifetime * 0.1 + 1.0 if lifetime > 10 else 0.0
        return _Token(f"Bearer {text}", sent_at + lifetime - early, Secret(text))

    def _own_token(self, text: str) -> _Token:
        if not _is_token(text):
            raise self._failure(Kind.INVALID, "the registry token of the account is no token")
        return _Token(f"Bearer {text}", float("inf"))

    def _failure(self, kind: Kind, message: str) -> RegistryError:
        return RegistryError(
            kind, message, attempt=Attempt(self.host, "GET", "token", f"token for {self.host}")
        )


def _best(offered: Iterable[Challenge]) -> Challenge | None:
    """Bearer before Basic, if it can be followed. Other schemes (Negotiate, NTLM) are passed over."""
    bearer = basic = None
    for challenge in offered:
        if challenge.scheme == "bearer" and challenge.parameters.get("realm"):
            bearer = bearer or challenge
        elif challenge.scheme == "basic":
            basic = basic or challenge
    if bearer is not None and (basic is None or _is_url(bearer.parameters["realm"])):
        return bearer
    return basic


def _basic(account: Account | None) -> str | None:
    if account is None or account.password is None:
        return None
    return _encoded(account.username, account.password)


def _encoded(username: str, secret: Secret) -> str:
    return "Basic " + base64.b64encode(f"{username}:{secret.reveal()}".encode()).decode()


def _is_url(realm: str) -> bool:
    """Whether a token service can be asked there. A user name in a URL would make credentials of a stranger's text."""
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


def _is_token(text: str) -> bool:
    return 0 < len(text) <= _MAX_TOKEN and text.isascii() and text.isprintable()


def _lifetime(answer: _TokenAnswer, now: float) -> float:
    """Seconds that a token lasts from now on: some services hand out one that they issued a while ago."""
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
    # An age beyond the lifetime tells of a wrong clock, ours or theirs, and of nothing else.
    return max(1.0, lifetime - age if 0 < age < lifetime else lifetime)


def _merged(ours: Scopes, asked: Scopes) -> Scopes:
    """Our scopes with the further actions that a registry asks for; its own where it speaks of other resources."""
    if set(asked) <= set(ours):
        return ours
    actions = {scope.rpartition(":")[0]: scope.rpartition(":")[2].split(",") for scope in ours}
    for scope in asked:
        resource, _, wanted = scope.rpartition(":")
        if resource not in actions:
            return asked
        actions[resource] += [action for action in wanted.split(",") if action not in actions[resource]]
    return tuple(":".join((resource, ",".join(listed))) for resource, listed in actions.items())
