"""uvicorn inside of a program that has signals, a log and a life of its own: what all its uses have in common."""

import logging
from collections.abc import Awaitable, Callable
from typing import Any

import uvicorn


def embedded(app: Callable[..., Awaitable[None]], **settings: Any) -> uvicorn.Config:
    """What uvicorn is to do with an ASGI application; further `settings` are its own.

    It sets up no log and writes only what goes wrong, serves HTTP and no WebSocket, believes no header about who
    asks, and neither says what it is nor tells the application when it starts and stops.
    """
    for name in ("uvicorn", "uvicorn.error"):
        logging.getLogger(name).setLevel(logging.WARNING)
    return uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        interface="asgi3",
        lifespan="off",
        ws="none",
        server_header=False,
        proxy_headers=False,
        **settings,
    )
