"""How one account stands at one registry: whether it is known to be let in, or has been rejected."""

from collections.abc import Awaitable, Callable
from typing import Generic, NoReturn, TypeVar

import anyio

from syncer.accounts.settings import Account
from syncer.errors import RegistryError

T = TypeVar("T")


class Shared(Generic[T]):
    """Work that one does for all who wait for it."""

    def __init__(self) -> None:
        self._underway: _Underway | None = None

    async def do(self, work: Callable[[], Awaitable[T]]) -> T | None:
        """What `work` returns; None for who waited while another did it, and has to look what came of it.

        A failure that may pass is that of all who waited: they would only meet it one after the other.
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
        self.done = anyio.Event()
        self.failure: RegistryError | None = None


class Standing:
    """Shared by all clients that use the account, so that one rejection ends it for all of them.

    `settled`: a first login has been answered, so that further ones need not wait for each other. `verified`: the
    registry has shown that it knows the account. `first_login` is what all others wait for, `proof` is held while a login
    without scope tells whether the account is the reason of a refusal; `proved_at` is when it was not, `refused` who
    was refused, and how. `nameless`: the tokens of the service name nobody, whoever asks.
    """

    def __init__(self) -> None:
        self.settled = False
        self.verified = False
        self.nameless = False
        self.proved_at = float("-inf")
        self.refused: tuple[Account | None, RegistryError] | None = None
        self.first_login: Shared[object] = Shared()
        self.proof = anyio.Lock()
        self._rejection: RegistryError | None = None
        self._ended = False

    def is_settled(self) -> bool:
        """Whether a first login has been answered."""
        return self.settled or self.verified

    @property
    def rejected(self) -> bool:
        """Whether its credentials are known to be wrong: they are not sent again."""
        return self._rejection is not None

    def reject(self, rejection: RegistryError) -> None:
        """Keep why the account is not let in. Anonymous access goes on until something else is asked for."""
        self._rejection = self._rejection or rejection
        self.settled = True

    def end(self, rejection: RegistryError) -> NoReturn:
        """End every use of the account. Raises the rejection."""
        self.reject(rejection)
        self._ended = True
        assert self._rejection is not None
        raise self._rejection.with_changes() from self._rejection.__cause__

    def end_if_rejected(self) -> None:
        """End every use of an account that is `rejected`: what was asked for is not public. Raises the rejection."""
        if self._rejection is not None:
            self.end(self._rejection)

    def check(self) -> None:
        """Raises the rejection that ended the use of the account."""
        if self._ended:
            self.end_if_rejected()
