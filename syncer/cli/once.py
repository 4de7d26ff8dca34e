"""`sync` and `plan`: one run from the command line."""

import signal
from contextlib import ExitStack
from pathlib import Path

import anyio
import click

from syncer.cli.files import narrowed, read_config, tell_problems
from syncer.config import ConfigError
from syncer.events import Observer
from syncer.run import Run, RunOptions, RunResult

_EXITS = {"success": 0, "partial": 1, "failure": 1, "interrupted": 3}


async def execute(run: Run) -> RunResult:
    """Run it; SIGINT or SIGTERM stops it gently, a second one at once."""
    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async with anyio.create_task_group() as group:

            async def heed() -> None:
                async for number in signals:
                    click.echo(
                        f"{signal.Signals(number).name}: finishing what is under way; again to stop at once",
                        err=True,
                    )
                    run.stop()
                    signal.signal(signal.SIGINT, signal.SIG_DFL)
                    signal.signal(signal.SIGTERM, signal.SIG_DFL)
                    return

            group.start_soon(heed)
            result = await run.execute()
            group.cancel_scope.cancel()
    return result
