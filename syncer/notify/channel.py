"""What a notification is sent through, and how that fails."""

from collections.abc import Iterable
from typing import Protocol

from syncer.notify.message import Notification


class Refused(Exception):
    """The notification failed permanently. `str()` contains no secret."""


class Unanswered(Exception):
    """The notification failed; a retry may succeed. `str()` contains no secret."""


class InvalidAddress(ValueError):
    """A URL that notifications cannot be sent to. The message does not contain the URL."""


class Channel(Protocol):
    """One URL of `--notify`. It is tried up to `attempts` times for each notification."""

    attempts: int

    @property
    def name(self) -> str:
        """The URL without its secrets, for logs."""
        ...

    def secret_texts(self) -> Iterable[str]:
        """Return the secret parts of the URL."""
        ...

    async def send(self, notification: Notification) -> None:
        """Send a notification. Raises `Refused` or `Unanswered`."""
        ...
