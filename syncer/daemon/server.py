"""uvicorn inside of the daemon: on a socket of ours, without its signals, or a wait for open streams."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import uvicorn
from starlette.types import ASGIApp

from syncer.daemon.connections import USUAL_LIMITS, ConnectionLimits, Connections, WatchedConnection
from syncer.serving import embedded

_GRACE_SECONDS = 1
"""What requests that are under way get at the end."""
_SWEEP_TICKS = 5
"""Of uvicorn's ticks, which are a tenth of a second."""


class Server(uvicorn.Server):
    """Serves until `should_exit`. Signals are the daemon's own business."""

    def __init__(self, config: uvicorn.Config, connections: Connections) -> None:
        super().__init__(config)
        self._connections = connections

    async def on_tick(self, counter: int) -> bool:
        """What uvicorn does ten times a second."""
        if counter % _SWEEP_TICKS == 0:
            self._connections.sweep()
        return await super().on_tick(counter)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def server_for(app: ASGIApp, limits: ConnectionLimits = USUAL_LIMITS) -> Server:
    """A server that is told its sockets when it is started."""
    connections = Connections(limits)
    protocol = partial(WatchedConnection, book=connections)
    return Server(
        embedded(app, http=protocol, timeout_graceful_shutdown=_GRACE_SECONDS),
        connections,
    )


def listen(host: str, port: int) -> socket.socket:
    """A socket that takes connections. Raises `OSError` with a message for the user."""
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        bound = socket.create_server((host, port), family=family, backlog=256)
    except (OSError, OverflowError) as error:
        shown = f"[{host}]" if ":" in host else host
        reason = getattr(error, "strerror", None) or str(error)
        raise OSError(f"cannot listen on {shown}:{port}: {reason}") from error
    # Answers are written in two parts, head and body: without this the second waits 40 ms for the client's word.
    # asyncio sets it only for sockets that name their protocol; connections have it from here.
    bound.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    bound.setblocking(False)
    return bound
