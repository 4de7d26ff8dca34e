"""Challenges answered: Basic, and Bearer with tokens that are fetched once for all who wait.

A registry is asked at `/v2/` how it wants to be spoken to before an account's first request (distribution-spec,
"Determining Support"): some answer an anonymous request with less instead of asking who we are.
"""

import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import TypeVar

import anyio
import httpx
import msgspec

from syncer.accounts.settings import Account
from syncer.errors import Attempt, RegistryError
from syncer.http import failures
from syncer.http.challenge import Challenge, parse_challenges
from syncer.http.login import REFUSAL_TTL, REFUSED, Login
from syncer.http.request import Answer, Scopes
from syncer.http.standing import Shared, Standing
from syncer.http.tokens import FetchToken, Token, TokenService, basic, is_url

MAX_TOKENS = 512
"""Tokens kept for one account at one registry: many more than are in use at once, far fewer than repositories."""

_UNAUTHORIZED = Answer(401, httpx.Headers(), b"", "")
V = TypeVar("V")
_log = logging.getLogger(__name__)


class _Refresh:
    """A token on its way. Who comes meanwhile waits for `done` and takes what came of it."""

    def __init__(self) -> None:
        self.done = anyio.Event()
        self.token: Token | None = None
        self.failure: RegistryError | None = None


class _Refusal(msgspec.Struct, frozen=True):
    """When something was refused for some scopes, and the error where a token service refused it."""

    at: float
    error: RegistryError | None = None


class Authenticator:
    """Knows how one account shows itself at one registry.

    `fetch` sends a request to the token service, `ping` asks `/v2/` with an `Authorization` or without, `secure` says
    whether the registry is spoken to over TLS. `standing` is shared by all who use the account there. `clock` counts
    seconds, `now` is the time of day in seconds since 1970.
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
        """Who was shown last: where a provider knows the account, what it answered; None is nobody."""
        return self._login.current

    async def authorization(self, scopes: Scopes) -> str | None:
        """The `Authorization` header for a request, or None where nothing has asked for one yet.

        Raises `RegistryError`, and at once where the account has been rejected before.
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
        """The header of user name and password, for a registry's own API beside the distribution's."""
        return basic(await self._login.who())

    async def rights(self, scopes: Scopes) -> Mapping[str, frozenset[str]] | None:
        """The actions by repository that a token for `scopes` says it grants; None where nothing says so."""
        if await self.authorization(scopes) is None:
            return None
        token = self._tokens.get(scopes)
        return token.rights if token else None

    def accepted(self, authorization: str) -> None:
        """A request with this header was not refused."""
        if authorization.startswith("Basic ") and authorization == basic(self._login.current):
            self._standing.verified = True

    def forget(self, repository: str) -> None:
        """Drop the tokens for a repository, or for all below it: what they allow has changed."""
        for kept in (self._tokens, self._refusals):
            for scopes in [each for each in kept if any(_is_about(scope, repository) for scope in each)]:
                del kept[scopes]

    async def challenged(self, headers: httpx.Headers, scopes: Scopes, sent: str | None) -> bool:
        """Learn from a 401. True if the request is worth sending again; `sent` is the header it had.

        Raises `RegistryError` where the account turns out to be rejected.
        """
        own = _best(parse_challenges(headers.get_list("www-authenticate")))
        if own is not None and own.scheme == "basic" and (sent or "").startswith("Bearer "):
            # Harbor says so whenever a token lacks a right. Basic would cost it a password hash for each request.
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
        """Whether another token may help where the one for `scopes` was refused."""
        who = self._login.current
        if who is not None and who.registry_token is not None:
            # A token of the user's own cannot be had anew.
            return False
        self._standing.end_if_rejected()
        await self._login.check(challenge)
        refusal = self._refusals.get(scopes)
        if refusal is not None and self._clock() - refusal.at < REFUSAL_TTL:
            # The token is fresh: it is a right that is missing.
            return False
        _put(self._refusals, scopes, _Refusal(self._clock()))
        self._tokens.pop(scopes, None)
        return True

    async def _learn_at_ping(self) -> None:
        """Ask `/v2/` how the registry wants to be spoken to."""
        answer = await self._ping(None)
        if answer.status >= 429 and not self._ping_failed:
            # It may pass. A registry that goes on to answer badly there may still work elsewhere.
            self._ping_failed = True
            raise self._ping_error(answer, self.account)
        self._asks_at_ping = answer.status == 401
        self._challenge = self._challenge or _best(_challenges(answer))
        self._pinged = True
        if self._challenge is None and self.account is not None:
            _log.info(
                "%s asks nobody at /v2/ who they are: it is asked without the account %r, unless it wants one later",
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
        """Show the password at `/v2/` first: a wrong one is not to be shown once for each image."""
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
                # Nothing has shown that the account is known: a wrong password and a missing right look the same.
                self._standing.end(self._ping_error(_UNAUTHORIZED, before))
            await self._check_basic(header)
        return header not in {None, sent}

    async def _check_basic(self, header: str) -> None:
        """Ask `/v2/` again whether the account is known: a password may change. Raises the rejection."""
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
        """What the registry asks for, where it is not what we would: it knows better (a proxy that rewrites paths)."""
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
                # Not once more for everyone who waited: wrong passwords are counted, and lock accounts.
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
    """Bearer before Basic, if it can be followed. Other schemes (Negotiate, NTLM) are passed over."""
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
    """Keep the newest `MAX_TOKENS`."""
    kept.pop(key, None)
    kept[key] = value
    if len(kept) > MAX_TOKENS:
        del kept[next(iter(kept))]


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
