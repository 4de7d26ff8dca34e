"""`python -m syncer.demo --port 5001 [--seed]`: runs one registry in a separate process until a signal.

When the registry is ready, the process prints its address as the first line.
"""

import anyio
import click

from syncer.demo.command import STOP
from syncer.demo.images import seed
from syncer.demo.registry import MemoryRegistry, PortInUse


@click.command()
@click.option("--port", default=0, help="Port of 127.0.0.1; 0 selects a free one.")
@click.option("--seed", "seeded", is_flag=True, help="Add the demo's images to the registry.")
def main(port: int, *, seeded: bool) -> None:
    """Run a registry in memory."""
    try:
        anyio.run(_run, port, seeded)
    except PortInUse as error:
        raise click.ClickException(str(error)) from error


async def _run(port: int, seeded: bool) -> None:
    with anyio.open_signal_receiver(*STOP) as signals:
        async with MemoryRegistry(port=port, record=0) as registry:
            if seeded:
                seed(registry.store)
            click.echo(registry.host)
            await anext(aiter(signals))


if __name__ == "__main__":
    main()
