"""`syncer check`: every problem of the files at once, and on demand whether the registries take the credentials."""

from typing import Any

import anyio
import click

from syncer.cli import exits
from syncer.cli.files import read_config, tell_problems
from syncer.cli.process import say, say_error
from syncer.config import Config
from syncer.diagnostics import ConfigError
from syncer.observe import words
from syncer.oci.reference import Repository


def check_files(*, online: bool, **files: Any) -> int:
    """The exit code: 0 if all is well, 2 for a bad file, 1 where a registry refuses the credentials."""
    try:
        checked = read_config(**files)
    except ConfigError as error:
        tell_problems(error)
        return exits.UNUSABLE
    for warning in checked.warnings:
        click.echo(f"warning: {warning}", err=True)
    for rule in checked.rules:
        for destination in rule.destinations:
            say(f"{rule} -> {destination.written or destination.repository}")
    count = len(checked.rules)
    for conflict in checked.conflicts:
        say_error(f"error: {conflict}")
    problems = words.count(len(checked.conflicts), "problem") if checked.conflicts else "no problems"
    say(f"{words.count(count, 'rule')}: {problems} found")
    asked = anyio.run(_ask_registries, checked) if online else exits.DONE
    return exits.UNUSABLE if checked.conflicts else asked


async def _ask_registries(config: Config) -> int:
    """Show for every registry and account whether it is let in."""
    from syncer.accounts.credentials import Credentials
    from syncer.errors import RegistryError
    from syncer.events import Observer
    from syncer.http.wire import ConnectionPool
    from syncer.places.open import PlaceDirectory

    wanted: dict[Repository, None] = {}
    for rule in config.rules:
        wanted |= dict.fromkeys([rule.source, *(each.repository for each in rule.destinations)])
    refused = 0
    async with ConnectionPool() as transport:
        directory = PlaceDirectory(
            account_for=Credentials(config.auth).account_for,
            settings_for=config.auth.settings_for,
            transport=transport,
            observer=Observer(),
            connections=4,
        )
        for client in dict.fromkeys(directory.client(repository) for repository in wanted):
            account = f"as {client.account.name}" if client.account else "anonymously"
            try:
                await client.ping()
                say(f"{client.host} {account}: ok")
            except RegistryError as error:
                refused += 1
                say(f"{client.host} {account}: {error}")
    return exits.FAILED if refused else exits.DONE
