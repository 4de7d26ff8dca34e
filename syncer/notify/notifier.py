"""Decides which runs are notified, and sends the notifications with retries, without delaying runs."""

import logging
from collections import deque
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import anyio
import anyio.from_thread
import anyio.to_thread
from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_attempt, wait_exponential_jitter
from tenacity.wait import wait_base

from syncer.notify.changes import Changes, Ended, FailureWatch
from syncer.notify.channel import Channel, Refused, Unanswered
from syncer.notify.message import Notification, compose
from syncer.notify.occasions import USUALLY

DELIVERY_SECONDS = 45.0
"""Seconds that `Notifier.deliver` may take."""

_BACKOFF = wait_exponential_jitter(initial=1, max=30)
_MAX_WAITING = 32

_log = logging.getLogger(__name__)


class Notifier:
    """Sends notifications through all `channels` if the occasion is one of `occasions`.

    `link` is the URL with the details of a run, with `{run}` for its id. `wait` is the backoff between attempts.
    """

    def __init__(
        self,
        channels: Sequence[Channel],
        watch: FailureWatch,
        *,
        occasions: Collection[str] = USUALLY,
        link: str = "",
        wait: wait_base = _BACKOFF,
    ) -> None:
        self._queues = [_Queue(channel, wait) for channel in channels]
        self._watch = watch
        self._occasions = frozenset(occasions)
        self._link = link

    def tell(self, ended: Ended) -> None:
        """Queue notifications about a finished run. Called from a worker thread."""
        if (letter := self._compose(ended)) is not None:
            anyio.from_thread.run_sync(self._post, letter)
            if letter.is_lost:
                self._watch.not_delivered(letter.when)

    async def run(self) -> None:
        """Send queued notifications until cancelled."""
        try:
            async with anyio.create_task_group() as group:
                for queue in self._queues:
                    group.start_soon(queue.send_all, self._watch)
        finally:
            for queue in self._queues:
                for letter in queue.left:
                    letter.finish(accepted=False)
                    if letter.is_lost:
                        self._watch.not_delivered(letter.when)

    async def drain(self) -> None:
        """Wait until all queues are empty."""
        for queue in self._queues:
            await queue.drained()

    async def deliver(self, ended: Ended, *, seconds: float = DELIVERY_SECONDS) -> None:
        """Send notifications about a finished run, and wait for the result, but no longer than `seconds`."""
        letter = await anyio.to_thread.run_sync(self._compose, ended)
        if letter is None:
            return
        async with anyio.create_task_group() as group:
            group.start_soon(self.run)
            self._post(letter)
            with anyio.move_on_after(seconds) as scope:
                await self.drain()
            if scope.cancelled_caught:
                for queue in self._queues:
                    if queue.left:
                        _log.error("notification to %s failed: no time left", queue.name)
            group.cancel_scope.cancel()

    def _compose(self, ended: Ended) -> "_Letter | None":
        """Compare the run with earlier ones. Return the notification, or None if there is nothing to say."""
        if not self._queues:
            return None
        changes = self._watch.compare(ended)
        occasion = occasion_of(ended.outcome, changes, self._occasions)
        if ended.outcome != "interrupted":
            self._watch.record(changes, told=occasion in ("failure", "partial"))
        if occasion is None:
            return None
        link = self._link.replace("{run}", str(ended.summary["id"]))
        return _Letter(compose(occasion, ended, changes, link=link), changes.when, len(self._queues))

    def _post(self, letter: "_Letter") -> None:
        for queue in self._queues:
            queue.put(letter)


def occasion_of(outcome: str, changes: Changes, wanted: Collection[str]) -> str | None:
    """Return the occasion of a run with this outcome, or None if there is nothing to say, or it is not in `wanted`.

    An interrupted run does not change what is known: a restart is neither a failure nor a recovery.
    """
    has_news = bool(changes.new) or changes.is_due
    if outcome in ("failure", "partial") and has_news:
        return outcome if outcome in wanted else None
    if outcome != "interrupted" and changes.recovered and "recovery" in wanted:
        return "recovery"
    if outcome in ("success", "interrupted") and outcome in wanted:
        return outcome
    return None


@dataclass(slots=True)
class _Letter:
    """A notification on its way. `left` is the number of channels that have not finished."""

    notification: Notification
    when: float
    left: int
    accepted: bool = False

    def finish(self, *, accepted: bool) -> None:
        self.left -= 1
        self.accepted = self.accepted or accepted

    @property
    def is_lost(self) -> bool:
        return self.left == 0 and not self.accepted


class _Queue:
    """One channel and what waits for it."""

    def __init__(self, channel: Channel, wait: wait_base) -> None:
        self._channel = channel
        self._wait = wait
        self._changed = anyio.Event()
        self.left: deque[_Letter] = deque()

    @property
    def name(self) -> str:
        return self._channel.name

    def put(self, letter: _Letter) -> None:
        if len(self.left) >= _MAX_WAITING:
            _log.error("notification to %s dropped: the queue is full", self.name)
            letter.finish(accepted=False)
            return
        self.left.append(letter)
        self._wake()

    async def drained(self) -> None:
        while self.left:
            await self._changed.wait()

    async def send_all(self, watch: FailureWatch) -> None:
        while True:
            while self.left:
                letter = self.left[0]
                accepted = await self._deliver(letter.notification)
                letter.finish(accepted=accepted)
                if letter.is_lost:
                    await anyio.to_thread.run_sync(watch.not_delivered, letter.when)
                self.left.popleft()
                self._wake()
            await self._changed.wait()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = anyio.Event()

    async def _deliver(self, notification: Notification) -> bool:
        attempts = AsyncRetrying(
            stop=stop_after_attempt(self._channel.attempts),
            wait=self._wait,
            retry=retry_if_exception_type(Unanswered),
            sleep=anyio.sleep,
            reraise=True,
        )
        try:
            await attempts(self._channel.send, notification)
        except (Refused, Unanswered) as error:
            _log.error("notification to %s failed: %s", self.name, error)
        except Exception as error:  # noqa: BLE001 - must not stop the daemon; its text may contain the URL
            _log.error("notification to %s failed: %s", self.name, type(error).__name__)
        else:
            return True
        return False
