"""`syncer demo`: the main job between two registries in memory, over real HTTP."""

import anyio
import click

from syncer.cli.once import execute
from syncer.config import AuthBook, Config, HostSettings
from syncer.demo.command import demo_registries, describe, serve
from syncer.demo.registry import PortInUse
from syncer.run import Run, RunOptions


def show_demo(*, serve: bool) -> int:
    """The exit code: 0 when all went well."""
    try:
        return anyio.run(_keep_up if serve else _sync_once)
    except PortInUse as error:
        click.echo(f"error: {error}", err=True)
        return 2


async def _keep_up() -> int:
    await serve()
    return 0
