"""The options about notifications."""

from collections.abc import Sequence
from pathlib import Path

from syncer.cli.files import FileOptions
from syncer.notify.occasions import USUALLY


class NotifyOptions(FileOptions, frozen=True, kw_only=True):
    """The options about notifications, named as on the command line."""

    notify: Sequence[str] = ()
    notify_file: Path | None = None
    notify_on: Sequence[str] = USUALLY
    notify_secret_file: Path | None = None
    external_url: str | None = None

    @property
    def notifies(self) -> bool:
        """Whether any of these options is set."""
        given = (self.notify, self.notify_file, self.notify_secret_file, self.external_url)
        return any(given) or tuple(self.notify_on) != USUALLY
