"""Answers authentication challenges: Basic, and Bearer with tokens. Concurrent requests share one token request.

Before the first request with an account, `/v2/` is requested for its challenge (distribution-spec, "Determining
Support"): some registries answer an anonymous request with less content instead of a 401.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import TypeVar

import msgspec

from syncer.accounts.settings import Account
from syncer.errors import Attempt, RegistryError
from syncer.http import failures
from syncer.http.challenge import Challenge, parse_challenges
from syncer.http.login import REFUSAL_TTL, REFUSED, Login
from syncer.http.request import Answer, Scopes
from syncer.http.standing import Shared, Standing
from syncer.http.tokens import FetchToken, Token, TokenService, basic, is_url
from syncer.http.transport import Headers

MAX_TOKENS = 512
"""Cached tokens per account and registry: more than are in use at once, fewer than there are repositories."""

_UNAUTHORIZED = Answer(401, Headers(), b"", "")
V = TypeVar("V")
_log = logging.getLogger(__name__)


class _Refresh:
    """A token request in progress. Other requests for the same scopes wait for `done` and share the result."""

    def __init__(self) -> None:
        self.done = asyncio.Event()
        self.token: Token | None = None
        self.failure: RegistryError | None = None


class _Refusal(msgspec.Struct, frozen=True):
    """The time at which some scopes were refused, and the error if the token service refused them."""

    at: float
    error: RegistryError | None = None


class Authenticator:
    """Authenticates the requests of one account at one registry.

    `fetch` sends a request to the token service. `ping` requests `/v2/`, with or without an `Authorization` header.
    `secure` returns whether the registry uses TLS. `standing` is shared by all clients of the account at the registry.
    `clock` returns monotonic seconds, `now` returns seconds since 1970.
    """

    def __init__(
        self,
        host: str,
        account: Account | None,
        *,
        fetch: FetchToken,
        ping: Callable[[str | None], Awaitable[Answer]],
        secure: Callable[[], bool],
        standing: Standing | None = None,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
    ) -> None:
        self.host = host
        self.account = account
        self._ping = ping
        self._clock = clock
        self._standing = standing or Standing()
        self._login = Login(
            account,
            TokenService(host, fetch=fetch, secure=secure, clock=clock, now=now),
            self._standing,
            clock=clock,
        )
        self._challenge: Challenge | None = None
        self._pinging: Shared[None] = Shared()
        self._pinged = account is None
        self._ping_failed = False
        self._asks_at_ping = False
        self._scopes: dict[Scopes, Scopes] = {}
        self._tokens: dict[Scopes, Token] = {}
        self._refusals: dict[Scopes, _Refusal] = {}
        self._refreshing: dict[Scopes, _Refresh] = {}

    @property
    def current(self) -> Account | None:
        """The account that was used last, as its provider returned it. None means anonymous."""
        return self._login.current

    async def authorization(self, scopes: Scopes) -> str | None:
        """Return the `Authorization` header for a request, or None if the registry has not sent a challenge yet.

        Raises `RegistryError`. If the account was rejected before, it raises without sending a request.
        """
        self._standing.check()
        while not self._pinged:
            await self._pinging.do(self._learn_at_ping)
        challenge = self._challenge
        if challenge is None:
            return None
        if challenge.scheme == "basic":
            return await self._basic()
        return (await self._token(scopes, challenge)).header

    async def basic(self) -> str | None:
        """Return the Basic header of the account, for the vendor API of a registry."""
        return basic(await self._login.who())

    async def rights(self, scopes: Scopes) -> Mapping[str, frozenset[str]] | None:
        """Return the actions per repository that the token for `scopes` grants. None if they are unknown."""
        if await self.authorization(scopes) is None:
            return None
        token = self._tokens.get(scopes)
        return token.rights if token else None

    def accepted(self, authorization: str) -> None:
        """Record that the registry accepted a request with this header."""
        if authorization.startswith("Basic ") and authorization == basic(self._login.current):
            self._standing.verified = True

    def forget(self, repository: str) -> None:
        """Drop the cached tokens for a repository and all repositories below it, because its permissions changed."""
        for kept in (self._tokens, self._refusals):
            for scopes in [each for each in kept if any(_is_about(scope, repository) for scope in each)]:
                del kept[scopes]

    async def challenged(self, headers: Headers, scopes: Scopes, sent: str | None) -> bool:
        """Handle the challenge of a 401 response. Return True if the request should be sent again.

        `sent` is the `Authorization` header of the request. Raises `RegistryError` if the account is rejected.
        """
        own = _best(parse_challenges(headers.get_list("www-authenticate")))
        if own is not None and own.scheme == "basic" and (sent or "").startswith("Bearer "):
            # Harbor sends this when a token lacks a permission. With Basic, it would hash the password on each request.
            own = None
        challenge = own or self._challenge or _best(_challenges(await self._ping(None)))
        if challenge is None:
            return False
        self._challenge = challenge
        if challenge.scheme == "basic":
            return await self._basic_refused(sent)
        if own is not None:
            self._learn(scopes, tuple(challenge.parameters.get("scope", "").split()))
        token = self._tokens.get(scopes)
        return token is None or token.header != sent or await self._token_refused(scopes, challenge)

    async def _token_refused(self, scopes: Scopes, challenge: Challenge) -> bool:
        """Whether to try again with a new token after the token for `scopes` was refused."""
        who = self._login.current
        if who is not None and who.registry_token is not None:
            # A registry token from the auth file cannot be renewed.
            return False
        self._standing.end_if_rejected()
        await self._login.check(challenge)
        refusal = self._refusals.get(scopes)
        if refusal is not None and self._clock() - refusal.at < REFUSAL_TTL:
            # The token is new, so the account lacks a permission.
            return False
        _put(self._refusals, scopes, _Refusal(self._clock()))
        self._tokens.pop(scopes, None)
        return True

    async def _learn_at_ping(self) -> None:
        """Request `/v2/` without credentials and store its challenge."""
        answer = await self._ping(None)
        if answer.status >= 429 and not self._ping_failed:
            # Retry once. If `/v2/` keeps failing, other endpoints of the registry may still work.
            self._ping_failed = True
            raise self._ping_error(answer, self.account)
        self._asks_at_ping = answer.status == 401
        self._challenge = self._challenge or _best(_challenges(answer))
        self._pinged = True
        if self._challenge is None and self.account is not None:
            _log.info(
                "%s does not require authentication at /v2/: requests are anonymous until it asks for the account %r",
                self.host,
                self.account.name,
            )

    # --- Basic --------------------------------------------------------------------------------------------------

    async def _basic(self) -> str | None:
        header = basic(await self._login.who())
        while header is not None and not self._standing.is_settled():
            await self._standing.first_login.do(self._first_basic)
            header = basic(await self._login.who())
        return header

    async def _first_basic(self) -> None:
        """Check the password once at `/v2/`, so that a wrong password is not sent again for each image."""
        who = await self._login.who()
        answer = await self._ping(basic(who))
        if answer.status == 401 and await self._login.has_newer(who):
            who = self._login.current
            answer = await self._ping(basic(who))
        if answer.status == 401:
            self._standing.end(self._ping_error(answer, who))
        self._standing.settled = True
        self._standing.verified = self._asks_at_ping and answer.status < 300
        self._standing.proved_at = self._clock()

    async def _basic_refused(self, sent: str | None) -> bool:
        refused = sent is not None and sent == basic(self._login.current)
        before = self._login.current
        header = basic(await self._login.who(refused=before if refused else None))
        if header is not None and header == sent:
            if not self._standing.verified:
                # The account was never accepted: a wrong password and a missing permission look the same here.
                self._standing.end(self._ping_error(_UNAUTHORIZED, before))
            await self._check_basic(header)
        return header not in {None, sent}

    async def _check_basic(self, header: str) -> None:
        """Check the password at `/v2/` again, because it may have changed. Raises the rejection."""
        standing = self._standing
        async with standing.proof:
            standing.check()
            if self._clock() - standing.proved_at < REFUSAL_TTL:
                return
            answer = await self._ping(header)
            if answer.status == 401:
                standing.end(self._ping_error(answer, self._login.current))
            standing.proved_at = self._clock()

    def _ping_error(self, answer: Answer, who: Account | None) -> RegistryError:
        return failures.from_answer(
            answer.status,
            answer.headers,
            answer.body,
            attempt=Attempt(self.host, "GET", "ping", f"/v2/ of {self.host}"),
            account=who,
        )

    # --- Bearer -------------------------------------------------------------------------------------------------

    def _learn(self, scopes: Scopes, asked: Scopes) -> None:
        """Store the scopes of a challenge if they differ from ours, for example behind a proxy that rewrites paths."""
        known = self._scopes.get(scopes, scopes)
        wanted = _merged(known, asked)
        if wanted != known:
            _put(self._scopes, scopes, wanted)

    async def _token(self, scopes: Scopes, challenge: Challenge) -> Token:
        token = self._tokens.get(scopes)
        if token is not None and token.stale_at > self._clock():
            return token
        refusal = self._refusals.get(scopes)
        if refusal is not None and refusal.error and self._clock() - refusal.at < REFUSAL_TTL:
            raise refusal.error.with_changes() from refusal.error.__cause__
        while (other := self._refreshing.get(scopes)) is not None:
            await other.done.wait()
            if other.failure is not None:
                # Do not repeat the login for each waiting request: registries lock accounts after failed logins.
                raise other.failure.with_changes() from other.failure.__cause__
            if other.token is not None:
                return other.token
        refresh = self._refreshing[scopes] = _Refresh()
        try:
            refresh.token = await self._login.token(self._scopes.get(scopes, scopes), challenge)
            self._keep(scopes, refresh.token)
            return refresh.token
        except RegistryError as error:
            refresh.failure = error
            if error.permanent and error.status in REFUSED:
                _put(self._refusals, scopes, _Refusal(self._clock(), error))
            raise
        finally:
            del self._refreshing[scopes]
            refresh.done.set()

    def _keep(self, scopes: Scopes, token: Token) -> None:
        if len(self._tokens) >= MAX_TOKENS:
            now = self._clock()
            for each in [each for each, kept in self._tokens.items() if kept.stale_at <= now]:
                del self._tokens[each]
        _put(self._tokens, scopes, token)


def _challenges(answer: Answer) -> list[Challenge]:
    return parse_challenges(answer.headers.get_list("www-authenticate"))


def _best(offered: Iterable[Challenge]) -> Challenge | None:
    """Return a Bearer challenge with a valid realm, else a Basic one. Ignore other schemes (Negotiate, NTLM)."""
    bearer = plain = None
    for challenge in offered:
        if challenge.scheme == "bearer" and challenge.parameters.get("realm"):
            bearer = bearer or challenge
        elif challenge.scheme == "basic":
            plain = plain or challenge
    if bearer is not None and (plain is None or is_url(bearer.parameters["realm"])):
        return bearer
    return plain


def _is_about(scope: str, repository: str) -> bool:
    name = scope.partition(":")[2].rpartition(":")[0]
    return name == repository or name.startswith(f"{repository}/")


def _put(kept: dict[Scopes, V], key: Scopes, value: V) -> None:
    """Add an entry and drop the oldest one above `MAX_TOKENS`."""
    kept.pop(key, None)
    kept[key] = value
    if len(kept) > MAX_TOKENS:
        del kept[next(iter(kept))]


def _merged(ours: Scopes, asked: Scopes) -> Scopes:
    """Add the actions of `asked` to our scopes. Return `asked` if it names a resource that is not in our scopes."""
    if set(asked) <= set(ours):
        return ours
    actions = {scope.rpartition(":")[0]: scope.rpartition(":")[2].split(",") for scope in ours}
    for scope in asked:
        resource, _, wanted = scope.rpartition(":")
        if resource not in actions:
            return asked
        actions[resource] += [action for action in wanted.split(",") if action not in actions[resource]]
    return tuple(":".join((resource, ",".join(listed))) for resource, listed in actions.items())
