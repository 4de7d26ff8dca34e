"""The commands. Each imports only what it needs, so that the others start fast."""

import errno
import gc
import logging
import sys
from pathlib import Path
from typing import Any

import click

from syncer import __version__
from syncer.cli import exits
from syncer.cli.options import (
    HELP,
    PATH,
    DefaultGroup,
    GroupedCommand,
    file_options,
    option,
    run_options,
    serve_options,
)
from syncer.cli.process import say_error

_UNWRITABLE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EFBIG})


@click.group(cls=DefaultGroup, default="sync", context_settings=HELP)
@click.version_option(__version__, prog_name="image-syncer", message="%(prog)s %(version)s")
def cli() -> None:
    """Copy container images between registries: in bulk, byte for byte, unattended.

    With no command, `sync` is meant. Every option can also be set by SYNCER_<OPTION>.
    """


@cli.command(cls=GroupedCommand, context_settings=HELP)
@file_options
@run_options
@option("--dry-run", is_flag=True, group="Work", help="Same as `plan`.")
def sync(*, dry_run: bool, **options: Any) -> None:
    """Bring every image of the rules to its destinations, once."""
    from syncer.cli.once import OnceOptions, run_once

    _imported()
    sys.exit(run_once(OnceOptions(dry_run=dry_run, **options)))


@cli.command(cls=GroupedCommand, context_settings=HELP)
@file_options
@run_options
def plan(**options: Any) -> None:
    """Ask the registries and show what `sync` would do, and why. Changes nothing."""
    from syncer.cli.once import OnceOptions, run_once

    _imported()
    sys.exit(run_once(OnceOptions(dry_run=True, **options)))


@cli.command(cls=GroupedCommand, context_settings=HELP)
@file_options
@serve_options
@run_options
def serve(**options: Any) -> None:
    """Run on schedule until told to stop, with metrics, an API and a status page."""
    from syncer.cli.serve import ServeOptions, run_service

    _imported()
    sys.exit(run_service(ServeOptions(**options)))


@cli.command(cls=GroupedCommand, context_settings=HELP)
@file_options
@option(
    "--online", is_flag=True, group="Work", help="Also ask every registry whether the credentials are taken."
)
def check(*, online: bool, **files: Any) -> None:
    """Read the files and report every problem, each with its place."""
    from syncer.cli.check import check_files
    from syncer.cli.files import FileOptions

    _imported()
    sys.exit(check_files(FileOptions(**files), online=online))


@cli.group(context_settings=HELP)
def report() -> None:
    """Work on the reports that --report writes."""


@report.command(cls=GroupedCommand, context_settings=HELP)
@click.argument("files", nargs=-1, required=True, type=PATH, metavar="FILE...")
@option(
    "--output",
    type=PATH,
    default="-",
    metavar="FILE",
    group="Output",
    help="Where to write, instead of stdout.",
)
@option("--partial", is_flag=True, group="Work", help="Merge also where reports of shares are missing.")
def merge(*, files: tuple[Path, ...], output: Path, partial: bool) -> None:
    """Join the reports of all shares into one.

    It is as one process would have written it. The exit code is 0 once it is written, whatever the outcome it tells of; 2 if it was not. The outcome is
    `run.outcome` in it.
    """
    from syncer.cli.report import merge_reports

    _imported()
    sys.exit(merge_reports(files, output, partial=partial))


@cli.command(context_settings=HELP)
@click.option("--serve", is_flag=True, help="Keep the demo's registries up on 127.0.0.1:5001 and 5002.")
def demo(*, serve: bool) -> None:
    """Show the main job on two registries in memory: nothing else is needed."""
    from syncer.cli.demo import show_demo

    _imported()
    sys.exit(show_demo(keep_up=serve))


def run() -> object:
    """Run the command that the arguments name. What `SystemExit` holds: a number, or None for success."""
    # Importing makes objects by the hundred thousand, and none of them is garbage.
    gc.disable()
    try:
        cli(prog_name=Path(sys.argv[0]).name if sys.argv else "syncer", standalone_mode=True)
    except SystemExit as end:
        return end.code
    except BrokenPipeError:
        # Whoever read the output has gone: nothing is left to say, not even that.
        return exits.FAILED
    except OSError as error:
        if error.errno not in _UNWRITABLE:
            raise
        # Help and the version are printed by click.
        say_error(f"error: cannot write to standard output: {error.strerror}")
        return exits.FAILED
    finally:
        logging.shutdown()
    return exits.DONE


def _imported() -> None:
    """Collect garbage from here on, and leave alone what was imported: that stays."""
    gc.freeze()
    gc.enable()
