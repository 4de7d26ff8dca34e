"""Sends notifications as the options say. Imports what sends them only if there is a URL."""

import itertools
import logging
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import click

from syncer.cli.notify_options import NotifyOptions
from syncer.cli.secret_files import read_secret
from syncer.notify.occasions import OCCASIONS
from syncer.observe.report import ReportObserver
from syncer.observers import Observer
from syncer.rules.rule import Rule
from syncer.state.lock import StateUnusable

if TYPE_CHECKING:
    from syncer.notify.channel import Channel
    from syncer.notify.notifier import Notifier
    from syncer.state.database import Database

_log = logging.getLogger(__name__)


def open_channels(options: NotifyOptions) -> list["Channel"]:
    """Return what notifications are sent through. Raises `click.BadParameter`."""
    unknown = [name for name in options.notify_on if name not in OCCASIONS]
    if unknown:
        raise click.BadParameter(
            f"expected one or more of {', '.join(OCCASIONS)}, found {unknown[0]!r}", param_hint="--notify-on"
        )
    link = _link(options)
    path = options.notify_secret_file
    secret = None if path is None else read_secret("--notify-secret-file", path)
    addresses = [*options.notify, *_addresses(options.notify_file)]
    if not addresses:
        return []
    from syncer.notify.channel import InvalidAddress
    from syncer.notify.open import open_channel

    try:
        return [open_channel(address, secret=secret, link=link) for address in addresses]
    except InvalidAddress as error:
        raise click.BadParameter(str(error), param_hint="--notify, --notify-file") from None


def secrets_of(options: NotifyOptions, channels: Sequence["Channel"]) -> list[str]:
    """Return what the log must not show."""
    path = options.notify_secret_file
    own = [] if path is None else [read_secret("--notify-secret-file", path).reveal()]
    return [*own, *itertools.chain.from_iterable(channel.secret_texts() for channel in channels)]


def new_notifier(
    options: NotifyOptions, channels: Sequence["Channel"], database: "Database", *, page: str = ""
) -> "Notifier":
    """Return what sends notifications. `page` is the path of a run's page, with `{run}` for its id."""
    from syncer.notify.changes import FailureWatch
    from syncer.notify.notifier import Notifier
    from syncer.state.failures import FailureTable

    link = _link(options)
    watch = FailureWatch(FailureTable(database))
    return Notifier(channels, watch, occasions=options.notify_on, link=f"{link}{page}" if link else "")


class RunNotice:
    """Sends notifications about the run of a command that ends with it. `observer` must see the run."""

    def __init__(self, options: NotifyOptions, channels: Sequence["Channel"], rules: Sequence[Rule]) -> None:
        from syncer.observe.rule_outcomes import RuleOutcomes

        self._options = options
        self._channels = channels
        self._outcomes = RuleOutcomes(rules)

    @property
    def observer(self) -> Observer:
        return self._outcomes

    async def send(self, report: ReportObserver, state_dir: Path | None) -> None:
        """Send what there is to say about the run. A failure is logged.

        What failed before is known from the state folder. Without one, each run with failures is notified.
        """
        from syncer.notify.changes import Ended
        from syncer.state.database import open_database

        summary = report.run() | {"totals": report.totals()}
        ended = Ended(summary, report, self._outcomes.complete_rules())
        try:
            with closing(open_database(state_dir)) as database:
                notifier = new_notifier(self._options, self._channels, database)
                await notifier.deliver(ended)
        except StateUnusable as error:
            _log.error("notifications not sent: %s", error)


def _link(options: NotifyOptions) -> str:
    text = (options.external_url or "").rstrip("/")
    if not text:
        return ""
    try:
        parts = urlsplit(text)
        is_valid = parts.scheme in ("http", "https") and bool(parts.hostname) and "@" not in parts.netloc
    except ValueError:
        is_valid = False
    if not is_valid or not text.isprintable() or " " in text:
        raise click.BadParameter(
            "expected a URL such as https://mirror.example.com", param_hint="--external-url"
        )
    return text


def _addresses(path: Path | None) -> list[str]:
    """Return the URLs of `--notify-file`, one per line. Blank lines and lines that start with # are ignored."""
    if path is None:
        return []
    lines = (line.strip() for line in read_secret("--notify-file", path).reveal().splitlines())
    return [line for line in lines if line and not line.startswith("#")]
