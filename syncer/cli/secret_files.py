"""Files with one secret each."""

from pathlib import Path

import click

from syncer.accounts.settings import Secret


def read_secret(name: str, path: Path) -> Secret:
    """Return the secret in the file of the option `name`. Raises `click.BadParameter`."""
    try:
        text = path.read_text().removesuffix("\n").removesuffix("\r")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "not a text file"
        raise click.BadParameter(f"cannot read {path}: {reason}", param_hint=name) from error
    if not text.strip():
        raise click.BadParameter(f"{path} is empty", param_hint=name)
    return Secret(text)
