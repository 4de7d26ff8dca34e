"""Parses command lines from published files with the program's own parser, without running them."""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import click
from click.testing import CliRunner

from syncer.cli.main import cli


@dataclass(frozen=True)
class Parsed:
    """What the program would have done: the command, and its options by their Python names."""

    command: str
    options: dict[str, Any]

    @property
    def paths(self) -> list[Path]:
        """Every file and folder that it was given."""
        found: list[Path] = []
        for value in self.options.values():
            found += [
                each for each in (value if isinstance(value, tuple) else (value,)) if isinstance(each, Path)
            ]
        return found


def parse(arguments: Sequence[str], environment: Mapping[str, str] | None = None) -> Parsed:
    """Parse what stands behind `image-syncer`. Fails with the program's own message where it would."""
    found: list[Parsed] = []
    with ExitStack() as stack:
        for words, command in _commands(cli):
            take = partial(_take, found, words)
            stack.enter_context(patch.object(command, "callback", take))
        ours = dict.fromkeys(name for name in os.environ if name.startswith("SYNCER_"))
        done = CliRunner().invoke(cli, list(arguments), env=ours | dict(environment or {}))
    assert done.exit_code == 0, f"{' '.join(arguments)}\n{done.output}"
    assert len(found) == 1, f"{' '.join(arguments)} runs no command"
    return found[0]


def _take(found: list[Parsed], words: str, **options: Any) -> None:
    found.append(Parsed(words, options))


def _commands(group: click.Group, before: str = "") -> Iterator[tuple[str, click.Command]]:
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from _commands(command, f"{before}{name} ")
        else:
            yield f"{before}{name}", command
