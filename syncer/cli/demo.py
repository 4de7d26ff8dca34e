"""`syncer demo`: copies images between two in-memory registries, over HTTP."""

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path

import anyio
import click

from syncer.cli import exits
from syncer.cli.files import read_config
from syncer.cli.once import run_config
from syncer.cli.once_options import OnceOptions
from syncer.demo.command import demo_registries, describe, serve
from syncer.demo.registry import PortInUse
from syncer.demo.store import Store


def show_demo(*, keep_up: bool) -> int:
    """Run the demo and return the exit code."""
    try:
        return anyio.run(_keep_up if keep_up else _sync_twice)
    except PortInUse as error:
        click.echo(f"error: {error}", err=True)
        return exits.UNUSABLE


async def _keep_up() -> int:
    await serve()
    return exits.DONE


async def _sync_twice() -> int:
    """Sync between two new registries twice, and show that the second run copies nothing."""
    async with demo_registries() as (source, destination):
        with tempfile.TemporaryDirectory() as folder:
            auth, images = Path(folder, "auth.json"), Path(folder, "images.json")
            plain = {"plain_http": True}
            _show(auth, {source.host: plain, destination.host: plain})
            rules = {
                f"{source.host}/{name}": f"{destination.host}/mirror/{name.rpartition('/')[2]}"
                for name in source.store.repositories()
            }
            _show(images, rules)
            options = OnceOptions(auth=auth, images=(images,))
            config = read_config(options)
            click.echo("$ syncer sync --auth auth.json --images images.json")
            first = await run_config(config, options)
            click.echo("\n$ syncer sync --auth auth.json --images images.json    # again")
            second = await run_config(config, options)
        click.echo("\nContent of the destination:")
        for line in describe(destination):
            click.echo(line)
        different = _differences(source.store, destination.store)
    for line in different:
        click.echo(f"error: {line}", err=True)
    if not different:
        click.echo("Every tag has the same digest as at the source.")
    return first or second or (1 if different else 0)


def _show(path: Path, document: Mapping[str, object]) -> None:
    text = json.dumps(document, indent=4)
    path.write_text(text)
    click.echo(f"{path.name}:\n{text}\n")


def _differences(source: Store, destination: Store) -> list[str]:
    different = []
    for name in source.repositories():
        copy = f"mirror/{name.rpartition('/')[2]}"
        different += [
            f"{copy}:{tag} differs from {name}:{tag}"
            for tag in source.tags(name)
            if source.digest(name, tag) != destination.digest(copy, tag)
        ]
    return different
