"""The common uvicorn settings for servers embedded in a program that handles signals and logging itself."""

import logging
from collections.abc import Awaitable, Callable
from typing import Any

import uvicorn


def embedded(app: Callable[..., Awaitable[None]], **settings: Any) -> uvicorn.Config:
    """Return uvicorn's configuration for an ASGI application. `settings` are further options of `uvicorn.Config`.

    uvicorn configures no logging and logs only errors. It serves HTTP without WebSocket, ignores `X-Forwarded-*`
    headers, sends no `Server` header, and sends no lifespan events to the application.
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
