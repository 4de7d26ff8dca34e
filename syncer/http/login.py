"""Logs in to a token service, and finds out if a refusal means that the account's credentials are wrong.

One wrong password ends the use of the account at the registry.
"""

import logging
from collections.abc import Callable

from syncer.accounts.settings import Account
from syncer.errors import RegistryError
from syncer.http.challenge import Challenge
from syncer.http.request import Scopes
from syncer.http.standing import Standing
from syncer.http.tokens import Token, TokenService

REFUSAL_TTL = 10.0
"""Seconds to cache a refusal: the same login would be refused again."""
REFUSED = frozenset({401, 403})
_NOT_THESE_SCOPES = frozenset({400, 401, 403, 404, 422})

_log = logging.getLogger(__name__)


class Login:
    """Gets tokens from `service` with `account`. `current` is the account that was used last; None means anonymous."""

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
        """Return the account to use, from its provider if it has one. `refused` is an account that was rejected.

        Raises `RegistryError` if the provider fails or the use of the account has ended.
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
        """Ask the provider again after `refused` was rejected. Return True if `current` is now a different account."""
        if self.account is None or self.account.provider is None:
            return False
        return await self.who(refused=refused) != refused

    async def token(self, scopes: Scopes, challenge: Challenge) -> Token:
        """Get a token for `scopes`, or for the first scope only. Other logins wait for the account's first login.

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
        """Check the credentials after the registry refused a token. Raises the rejection if they are wrong."""
        who = self.current
        if not _has_secret(who) or self._standing.verified:
            return
        rejection = await self._proof(challenge, who)
        if rejection is not None and not await self.has_newer(who):
            self._standing.end(rejection)

    async def _granted(self, scopes: Scopes, challenge: Challenge) -> Token:
        """Get a token for `scopes`, or for the first scope only. Raises the rejection if the credentials are wrong."""
        who = await self.who()
        if who is not None and who.registry_token is not None:
            return self._service.own_token(who.registry_token)
        if self._standing.rejected:
            # Continue anonymously with public repositories. A refusal then ends the use of the account.
            who = None
        try:
            token, rejection = await self._login(scopes, challenge, who)
            if rejection is not None and await self.has_newer(who):
                # The cached answer of a credential helper may have expired.
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
                "%s rejects the credentials of the entry %r (%s): only public repositories can be read",
                rejection.registry,
                who.name if who else "",
                rejection.message,
            )
        assert token is not None, "either a token or a reason"
        return token

    async def _login(
        self, scopes: Scopes, challenge: Challenge, who: Account | None
    ) -> tuple[Token | None, RegistryError | None]:
        """Return a token and a rejection. Both are set if a service grants public access despite a wrong password."""
        try:
            token = await self._service.token(challenge, scopes, who)
        except RegistryError as error:
            if _may_be_rejection(error, who):
                rejection = await self._proof(challenge, who, error, scopes=scopes)
                if rejection is not None:
                    return None, rejection
            if len(scopes) < 2 or error.status not in _NOT_THESE_SCOPES:
                raise
            # The service grants all scopes or none, or one scope at a time. Try the first scope only.
            return await self._service.token(challenge, scopes[:1], who), None
        if token.subject:
            self._standing.verified = True
        elif token.subject == "" and _has_secret(who) and not self._standing.nameless:
            # Harbor answers a wrong password with an anonymous token.
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
        """Check the credentials with a token request without scopes, as `docker login` does. Return the rejection.

        `error` is the response to a login for `scopes`. Returns None if the credentials are valid or cannot be checked.
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
                    # The service does not support this check. Use the first response unless it was a 403.
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
    """Whether an error may mean wrong credentials. OAuth services answer 400 to an unknown refresh token."""
    if who is None or not _has_secret(who):
        return False
    return error.status in REFUSED or (error.status == 400 and who.identity_token is not None)
