"""uvicorn embedded in the daemon: uses a given socket, handles no signals, does not wait for open streams."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import uvicorn
from starlette.types import ASGIApp

from syncer.daemon.connections import USUAL_LIMITS, ConnectionLimits, Connections, WatchedConnection
from syncer.serving import embedded

_GRACE_SECONDS = 1
"""Seconds that active requests get to finish when the server stops."""
_SWEEP_TICKS = 5
"""Ticks of uvicorn between two sweeps. A tick is 0.1 seconds."""


class Server(uvicorn.Server):
    """Serves until `should_exit` is set. Leaves signals to the daemon."""

    def __init__(self, config: uvicorn.Config, connections: Connections) -> None:
        super().__init__(config)
        self._connections = connections

    async def on_tick(self, counter: int) -> bool:
        """Called by uvicorn ten times a second."""
        if counter % _SWEEP_TICKS == 0:
            self._connections.sweep()
        return await super().on_tick(counter)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def server_for(app: ASGIApp, limits: ConnectionLimits = USUAL_LIMITS) -> Server:
    """Return a server. Pass its sockets to `serve`."""
    connections = Connections(limits)
    protocol = partial(WatchedConnection, book=connections)
    return Server(
        embedded(app, http=protocol, timeout_graceful_shutdown=_GRACE_SECONDS),
        connections,
    )


def listen(host: str, port: int) -> socket.socket:
    """Return a listening socket. Raises `OSError` with a message for the user."""
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        bound = socket.create_server((host, port), family=family, backlog=256)
    except (OSError, OverflowError) as error:
        shown = f"[{host}]" if ":" in host else host
        reason = getattr(error, "strerror", None) or str(error)
        raise OSError(f"cannot listen on {shown}:{port}: {reason}") from error
    # Responses are written in two parts, head and body. Without TCP_NODELAY, the body waits up to 40 ms for the ACK of
    # the client. asyncio sets the option only on sockets with an explicit protocol; connections inherit it from here.
    bound.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    bound.setblocking(False)
    return bound
