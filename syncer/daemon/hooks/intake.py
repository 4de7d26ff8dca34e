"""`Intake`: takes pushes that registries announced, finds their rules, and keeps them until a run takes them."""

import logging
from collections.abc import Callable, Iterable, Sequence

import anyio.lowlevel

from syncer.config import Config
from syncer.daemon.hooks.arrivals import Arrivals, Batch
from syncer.daemon.hooks.journal import Journal
from syncer.daemon.hooks.matching import RuleIndex
from syncer.daemon.hooks.payloads import Pushed
from syncer.daemon.lag import Lag
from syncer.observe.words import count

_AT_ONCE = 100
"""Pushes of one request that are matched before other requests get their turn."""

_log = logging.getLogger(__name__)


class Intake:
    """What waits. `config` returns the current configuration. `total` counts the pushes that were taken."""

    def __init__(self, config: Callable[[], Config], lag: Lag, journal: Journal) -> None:
        self._config = config
        self._lag = lag
        self._journal = journal
        self._arrivals = Arrivals()
        self._index: tuple[Config, RuleIndex] | None = None
        self.total = 0

    def __bool__(self) -> bool:
        return bool(self._arrivals)

    async def wait(self) -> None:
        """Wait until something waits."""
        await self._arrivals.wait()

    def restore(self) -> None:
        """Take up the events that an earlier process left. May block."""
        events = self._journal.load()
        self._journal.forget(self._arrivals.restore(events, self._config().rules))
        if events:
            _log.info("taken up from the state folder: %s", count(len(events), "event"))

    async def put(self, pushes: Sequence[Pushed]) -> int:
        """Take pushes, and return how many of them a rule selects. With a state folder, they are stored then."""
        taken = 0
        for start in range(0, len(pushes), _AT_ONCE):
            if start:
                # Other requests are answered meanwhile.
                await anyio.lowlevel.checkpoint()
            taken += self._put(pushes[start : start + _AT_ONCE])
        await self._journal.stored()
        return taken

    def _put(self, pushes: Iterable[Pushed]) -> int:
        index, taken = self._current_index(), 0
        for push in pushes:
            if match := index.match(push):
                taken += 1
                for arrival in match.arrivals if push.is_image else ():
                    self._lag.expect(arrival.rule, arrival.tag)
                self._journal.put(self._arrivals.put(match))
        self.total += taken
        return taken

    def _current_index(self) -> RuleIndex:
        config = self._config()
        if self._index is None or self._index[0] is not config:
            index = RuleIndex(
                config.rules, lambda name: config.auth.settings_for(name).events_from, config.allowed
            )
            self._index = config, index
        return self._index[1]

    def take(self, config: Config) -> Batch:
        """Remove all that waits and return it, for a run."""
        self._journal.take()
        return self._arrivals.take(config.rules)

    def put_back(self, batch: Batch) -> None:
        """Add what `take` returned and no run took."""
        self._arrivals.put_back(batch)
        self._journal.put_back()
