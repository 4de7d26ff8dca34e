"""Calls functions that block, in threads."""

import asyncio
from collections.abc import Callable
from typing import TypeVar

from anyio import to_thread

T = TypeVar("T")


async def in_thread(function: Callable[..., T], *arguments: object) -> T:
    """Call a function in a thread and return its result. If cancelled, wait until it has returned.

    The caller may therefore close the files that the function used. A cancellation takes effect at the next `await` of
    the caller, so that a file that the function has opened is not lost.
    """
    call = asyncio.ensure_future(to_thread.run_sync(function, *arguments))
    cancelled: asyncio.CancelledError | None = None
    while not call.done():
        try:
            await asyncio.wait([call])
        except asyncio.CancelledError as error:
            cancelled = error
    task = asyncio.current_task()
    if cancelled is not None and task is not None:
        task.uncancel()
        task.cancel(*cancelled.args)
    return call.result()
