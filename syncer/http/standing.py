"""The login state of one account at one registry: unknown, verified or rejected."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, NoReturn, TypeVar

from syncer.accounts.settings import Account
from syncer.errors import RegistryError

T = TypeVar("T")


class Shared(Generic[T]):
    """Runs work once for all concurrent callers."""

    def __init__(self) -> None:
        self._underway: _Underway | None = None

    async def do(self, work: Callable[[], Awaitable[T]]) -> T | None:
        """Run `work` and return its result. If another call is already running, wait for it and return None.

        If `work` raises a retryable error, all waiting callers raise it too, instead of repeating the work in turn.
        """
        other = self._underway
        if other is not None:
            await other.done.wait()
            if other.failure is not None:
                raise other.failure.with_changes() from other.failure.__cause__
            return None
        mine = self._underway = _Underway()
        try:
            return await work()
        except RegistryError as error:
            mine.failure = None if error.permanent else error
            raise
        finally:
            self._underway = None
            mine.done.set()


class _Underway:
    def __init__(self) -> None:
        self.done = asyncio.Event()
        self.failure: RegistryError | None = None


class Standing:
    """Shared by all clients of the account, so that one rejection ends its use in all of them.

    `settled`: the first login is done, so further logins do not wait for each other. `verified`: the registry has
    accepted the credentials. `first_login`: the login that all others wait for. `proof`: the lock for the check of the
    credentials after a refusal. `proved_at`: the time of the last successful check. `refused`: the account and error of
    a failed check. `nameless`: the tokens of the service never contain a user name.
    """

    def __init__(self) -> None:
        self.settled = False
        self.verified = False
        self.nameless = False
        self.proved_at = float("-inf")
        self.refused: tuple[Account | None, RegistryError] | None = None
        self.first_login: Shared[object] = Shared()
        self.proof = asyncio.Lock()
        self._rejection: RegistryError | None = None
        self._ended = False

    def is_settled(self) -> bool:
        """Whether the first login is done."""
        return self.settled or self.verified

    @property
    def rejected(self) -> bool:
        """Whether the credentials are wrong. They are not sent again."""
        return self._rejection is not None

    def reject(self, rejection: RegistryError) -> None:
        """Store the rejection. Requests continue anonymously until one of them is refused."""
        self._rejection = self._rejection or rejection
        self.settled = True

    def end(self, rejection: RegistryError) -> NoReturn:
        """End the use of the account. Raises the rejection."""
        self.reject(rejection)
        self._ended = True
        assert self._rejection is not None
        raise self._rejection.with_changes() from self._rejection.__cause__

    def end_if_rejected(self) -> None:
        """End the use of a `rejected` account after anonymous access was refused, too. Raises the rejection."""
        if self._rejection is not None:
            self.end(self._rejection)

    def check(self) -> None:
        """Raise the rejection if the use of the account has ended."""
        if self._ended:
            self.end_if_rejected()
