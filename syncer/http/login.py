"""Log-ins at a token service, with an account that may be the reason of a refusal: one wrong password ends it for all."""

import logging
from collections.abc import Callable

from syncer.accounts.settings import Account
from syncer.errors import RegistryError
from syncer.http.challenge import Challenge
from syncer.http.request import Scopes
from syncer.http.standing import Standing
from syncer.http.tokens import Token, TokenService

REFUSAL_TTL = 10.0
"""Seconds for which a refusal is believed: neither a fresh token nor the same login would be answered otherwise."""
REFUSED = frozenset({401, 403})
_NOT_THESE_SCOPES = frozenset({400, 401, 403, 404, 422})

_log = logging.getLogger(__name__)


class Login:
    """Gets tokens from `service` in the name of `account`. `current` is who was shown last; None is nobody."""

    def __init__(
        self,
        account: Account | None,
        service: TokenService,
        standing: Standing,
        *,
        clock: Callable[[], float],
    ) -> None:
        self.account = account
        self.current = account
        self._service = service
        self._standing = standing
        self._clock = clock

    async def who(self, *, refused: Account | None = None) -> Account | None:
        """The account to use now: what a provider says, where one knows it. `refused` is one that was not let in.

        Raises `RegistryError` where no account can be had, or its use has ended.
        """
        self._standing.check()
        account = self.account
        if account is not None and account.provider is not None:
            try:
                account = await account.provider.account(refused=refused)
            except RegistryError as error:
                if error.permanent:
                    self._standing.end(error)
                raise
        self.current = account
        return account

    async def has_newer(self, refused: Account | None) -> bool:
        """Whether a provider knows another account than the one that was refused: it is `current` then."""
        if self.account is None or self.account.provider is None:
            return False
        return await self.who(refused=refused) != refused

    async def token(self, scopes: Scopes, challenge: Challenge) -> Token:
        """A token for `scopes`, or for the first of them. The first login of an account is waited for by all others.

        Raises `RegistryError`.
        """
        granted: list[Token] = []

        async def first() -> None:
            granted.append(await self._granted(scopes, challenge))
            self._standing.settled = True

        while self.account is not None and not self._standing.is_settled():
            await self._standing.first_login.do(first)
            if granted:
                return granted[0]
        return await self._granted(scopes, challenge)

    async def check(self, challenge: Challenge) -> None:
        """Find out whether the account is known, after a token of its was refused. Raises the rejection."""
        who = self.current
        if not _has_secret(who) or self._standing.verified:
            return
        rejection = await self._proof(challenge, who)
        if rejection is not None and not await self.has_newer(who):
            self._standing.end(rejection)

    async def _granted(self, scopes: Scopes, challenge: Challenge) -> Token:
        """A token for `scopes`, or for the first of them. Raises the rejection where the account is the reason."""
        who = await self.who()
        if who is not None and who.registry_token is not None:
            return self._service.own_token(who.registry_token)
        if self._standing.rejected:
            # What is public can be read all the same. What else is asked for ends it.
            who = None
        try:
            token, rejection = await self._login(scopes, challenge, who)
            if rejection is not None and await self.has_newer(who):
                # What a helper program said may have died since.
                who = self.current
                token, rejection = await self._login(scopes, challenge, who)
        except RegistryError as error:
            if self._standing.rejected and error.status in REFUSED:
                self._standing.end_if_rejected()
            raise
        if rejection is not None:
            if token is None:
                self._standing.end(rejection)
            self._standing.reject(rejection)
            _log.warning(
                "%s does not take the credentials of the entry %r (%s): only what is public there can be read",
                rejection.registry,
                who.name if who else "",
                rejection.message,
            )
        assert token is not None, "either a token or a reason"
        return token

    async def _login(
        self, scopes: Scopes, challenge: Challenge, who: Account | None
    ) -> tuple[Token | None, RegistryError | None]:
        """A token, and the rejection of the account if that came to light: some services then grant what is public."""
        try:
            token = await self._service.token(challenge, scopes, who)
        except RegistryError as error:
            if _may_be_rejection(error, who):
                rejection = await self._proof(challenge, who, error, scopes=scopes)
                if rejection is not None:
                    return None, rejection
            if len(scopes) < 2 or error.status not in _NOT_THESE_SCOPES:
                raise
            # A service that grants all or nothing, or one scope at a time. What the first one opens, the registry tells.
            return await self._service.token(challenge, scopes[:1], who), None
        if token.subject:
            self._standing.verified = True
        elif token.subject == "" and _has_secret(who) and not self._standing.nameless:
            # Harbor answers a wrong password so.
            return token, await self._proof(challenge, who)
        return token, None

    async def _proof(
        self,
        challenge: Challenge,
        who: Account | None,
        error: RegistryError | None = None,
        *,
        scopes: Scopes | None = None,
    ) -> RegistryError | None:
        """Whether the account itself is refused: a token without scope, as `docker login` asks for it, tells.

        `error` is what was answered to a login for `scopes`. None where the account is known, or nothing can be told.
        """
        if error is not None and scopes == ():
            return error
        standing = self._standing
        async with standing.proof:
            standing.check()
            if standing.refused is not None and standing.refused[0] == who:
                return standing.refused[1]
            if self._clock() - standing.proved_at < REFUSAL_TTL:
                return None
            try:
                token = await self._service.token(challenge, (), who)
            except RegistryError as refusal:
                if not _may_be_rejection(refusal, who):
                    # No such login is known there. What was said to the first one stands, if it speaks of a login.
                    if error is None or error.status == 403:
                        return None
                    refusal = error
                standing.refused = (who, refusal)
                return refusal
            standing.proved_at = self._clock()
            standing.verified = True
            standing.nameless = token.subject == ""
            return None


def _has_secret(account: Account | None) -> bool:
    return account is not None and (account.password is not None or account.identity_token is not None)


def _may_be_rejection(error: RegistryError, who: Account | None) -> bool:
    """Whether a token service may mean the account. An OAuth one says 400 to a refresh token that it does not know."""
    if who is None or not _has_secret(who):
        return False
    return error.status in REFUSED or (error.status == 400 and who.identity_token is not None)
