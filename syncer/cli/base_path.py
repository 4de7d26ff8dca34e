"""Reads `--base-path`."""

import click

from syncer.daemon.base_path import InvalidBasePath, check_base_path


def read_base_path(text: str) -> str:
    """Return the path without the slash at its end. Raises `click.BadParameter`."""
    try:
        return check_base_path(text)
    except InvalidBasePath as error:
        raise click.BadParameter(str(error), param_hint="--base-path") from None
