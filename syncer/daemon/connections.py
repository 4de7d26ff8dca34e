"""Limits on client connections: deadlines, and which connection to close when there are too many."""

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from syncer.daemon.joined_writes import JoinedWrites
from syncer.daemon.peers import peer_of

_TELL_SECONDS = 60.0

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """Maximum number of connections, and deadlines in seconds for the parts of a request.

    A client must read `write_bytes` of a response within `write_seconds`.
    """

    connections: int = 512
    per_peer: int = 64
    head_seconds: float = 10.0
    body_seconds: float = 20.0
    write_seconds: float = 30.0
    write_bytes: int = 16 * 1024


USUAL_LIMITS = ConnectionLimits()


class Connections:
    """The open connections. If there are too many, the least useful one is closed to make room for a new one.

    A new connection is never refused, because it may be a probe. `now` returns seconds.
    """

    def __init__(
        self, limits: ConnectionLimits = USUAL_LIMITS, *, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._limits = limits
        self._now = now
        self._by_peer: dict[str, dict[WatchedConnection, None]] = {}
        self._count = 0
        self._dropped = 0
        self._told = -_TELL_SECONDS

    def add(self, connection: "WatchedConnection") -> None:
        own = self._by_peer.setdefault(connection.peer, {})
        if len(own) >= self._limits.per_peer:
            self._make_room(own)
        elif self._count >= self._limits.connections:
            self._make_room(max(self._by_peer.values(), key=len))
        # Set it again: `_drop` removes a peer that has no connections left.
        self._by_peer.setdefault(connection.peer, own)[connection] = None
        self._count += 1

    def remove(self, connection: "WatchedConnection") -> None:
        own = self._by_peer.get(connection.peer, {})
        if connection in own:
            del own[connection]
            self._count -= 1
            if not own:
                del self._by_peer[connection.peer]

    def sweep(self) -> None:
        """Drop connections that missed a deadline. Call this about once a second."""
        now = self._now()
        for connection in [each for own in self._by_peer.values() for each in own]:
            if connection.overdue(now, self._limits):
                self._drop(connection)
        if self._dropped and now - self._told >= _TELL_SECONDS:
            _log.warning("connections dropped because they were too slow or too many: %d", self._dropped)
            self._dropped, self._told = 0, now

    def _make_room(self, connections: "dict[WatchedConnection, None]") -> None:
        # Oldest first. In a flood, the oldest connection is nearly always an idle one.
        idle = (each for each in connections if not each.usefulness)
        self._drop(next(idle, None) or min(connections, key=lambda each: each.usefulness))

    def _drop(self, connection: "WatchedConnection") -> None:
        self._dropped += 1
        self.remove(connection)
        connection.transport.abort()


class WatchedConnection(H11Protocol):
    """uvicorn's protocol that also tracks how long the client takes to send requests and to read responses."""

    def __init__(self, *arguments: Any, book: Connections, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._book = book
        self._phase: tuple[object, object] = (None, None)
        self._since = 0.0
        self._resumed = True
        self._unread = 0
        self._unread_since = 0.0
        self.peer = ""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._joined = JoinedWrites(transport, self.loop)
        super().connection_made(self._joined)
        self.peer = peer_of(self.client[0] if self.client else "")
        self._book.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._book.remove(self)
        super().connection_lost(exc)

    def on_response_complete(self) -> None:
        self._joined.flush()
        super().on_response_complete()

    def resume_writing(self) -> None:
        self._resumed = True
        super().resume_writing()

    @property
    def usefulness(self) -> int:
        """0: no request; 1: receiving the body; 2: the client must read the response; 3: the daemon must act."""
        state = self.conn.their_state
        if state is h11.SEND_BODY:
            return 1
        if self.transport.get_write_buffer_size():
            return 2
        return 0 if state is h11.IDLE else 3

    def overdue(self, now: float, limits: ConnectionLimits) -> bool:
        """Return whether the client missed a deadline. Called about once a second."""
        return self._request_is_overdue(now, limits) or self._reading_is_overdue(now, limits)

    def _request_is_overdue(self, now: float, limits: ConnectionLimits) -> bool:
        # uvicorn creates a new cycle for each request.
        phase = self.conn.their_state, self.cycle
        if phase[0] is not self._phase[0] or phase[1] is not self._phase[1]:
            self._phase, self._since = phase, now
        match phase[0]:
            case h11.IDLE:
                if self.transport.get_write_buffer_size():
                    # The client still reads the previous response, which has another deadline.
                    self._since = now
                return now - self._since > limits.head_seconds
            case h11.SEND_BODY:
                return now - self._since > limits.body_seconds
        return False

    def _reading_is_overdue(self, now: float, limits: ConnectionLimits) -> bool:
        unread = self.transport.get_write_buffer_size()
        if self._resumed or not unread or unread <= self._unread - limits.write_bytes:
            self._resumed, self._unread, self._unread_since = False, unread, now
        return bool(unread) and now - self._unread_since > limits.write_seconds
