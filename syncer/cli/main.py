"""The commands. Each one imports its modules when it runs, so that the others start fast."""

import errno
import gc
import logging
import sys
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from syncer import __version__
from syncer.cli import exits
from syncer.cli.options import (
    DRY_RUN,
    FILE_OPTIONS,
    HELP,
    PATH,
    RUN_OPTIONS,
    SERVE_OPTIONS,
    DefaultGroup,
    GroupedCommand,
    Option,
    SizeText,
)
from syncer.cli.process import say_error

_UNWRITABLE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EFBIG})


@click.group(cls=DefaultGroup, default="sync", context_settings=HELP)
@click.version_option(__version__, prog_name="image-syncer", message="%(prog)s %(version)s")
def cli() -> None:
    """Copy container images between registries, in bulk and byte for byte.

    The default command is `sync`. Every option can also be set by the environment variable SYNCER_<OPTION>.
    """


@cli.command(cls=GroupedCommand, context_settings=HELP, params=[*FILE_OPTIONS, *RUN_OPTIONS, DRY_RUN])
def sync(*, dry_run: bool, **options: Any) -> None:
    """Copy the images of all rules to their destinations, once."""
    from syncer.cli.once import run_once
    from syncer.cli.once_options import OnceOptions

    _imported()
    sys.exit(run_once(OnceOptions(dry_run=dry_run, **options)))


@cli.command(
    cls=GroupedCommand,
    context_settings=HELP,
    params=[
        *FILE_OPTIONS,
        *RUN_OPTIONS,
        Option("--dry-run", is_flag=True, group="Work", help="Show what would be done, and change nothing."),
    ],
)
@click.argument("source", metavar="SOURCE")
@click.argument("destination", required=False, metavar="[DESTINATION]")
@click.pass_context
def copy(context: click.Context, /, *, images: tuple[Path, ...], **options: Any) -> None:
    """Copy the images of one rule, once.

    SOURCE and DESTINATION are written as in a file of rules. Without DESTINATION, --to names the place.
    """
    from syncer.cli.once import run_once
    from syncer.cli.once_options import OnceOptions

    if images and context.get_parameter_source("images") is ParameterSource.COMMANDLINE:
        raise click.UsageError("copy has its rule on the command line: leave out --images, or use sync")
    _imported()
    sys.exit(run_once(OnceOptions(**options)))


@cli.command(cls=GroupedCommand, context_settings=HELP, params=[*FILE_OPTIONS, *RUN_OPTIONS])
def plan(**options: Any) -> None:
    """Show what `sync` would do, and why. Reads from the registries, and changes nothing."""
    from syncer.cli.once import run_once
    from syncer.cli.once_options import OnceOptions

    _imported()
    sys.exit(run_once(OnceOptions(dry_run=True, **options)))


@cli.command(
    short_help="Save the images of all rules to a folder or tar file.",
    cls=GroupedCommand,
    context_settings=HELP,
    params=[
        Option(
            "--output",
            type=PATH,
            required=True,
            metavar="FOLDER|FILE.tar",
            group="Archive",
            help="Where to write: a folder, or a tar file.",
        ),
        Option(
            "--since",
            type=PATH,
            multiple=True,
            metavar="FILE",
            group="Archive",
            help="Contents file of an earlier archive: leave out what it lists. May be repeated.",
        ),
        Option(
            "--volume-size",
            type=SizeText(),
            metavar="SIZE",
            group="Archive",
            help="Split a tar file into volumes of at most this size (4GiB): FILE.0.tar, FILE.1.tar, ...",
        ),
        *FILE_OPTIONS,
        *RUN_OPTIONS,
        DRY_RUN,
    ],
)
def save(**options: Any) -> None:
    """Save the images of all rules to an OCI image layout, in a folder or a tar file.

    The destinations of the rules are ignored. If the program is interrupted, the next run continues.
    """
    from syncer.cli.save import SaveOptions, run_save

    _imported()
    sys.exit(run_save(SaveOptions(**options)))


@cli.command(cls=GroupedCommand, context_settings=HELP, params=[*FILE_OPTIONS, *RUN_OPTIONS, DRY_RUN])
@click.argument("files", nargs=-1, required=True, type=PATH, metavar="FILE...")
def load(**options: Any) -> None:
    """Push the images of archives to registries. FILE is a tar file, a folder, or - for standard input.

    Give all volumes of an archive at once, in any order.
    """
    from syncer.cli.load import LoadOptions, run_load

    _imported()
    sys.exit(run_load(LoadOptions(**options)))


@cli.command(
    short_help="Run on schedule as a daemon with a status page.",
    cls=GroupedCommand,
    context_settings=HELP,
    params=[*FILE_OPTIONS, *SERVE_OPTIONS, *RUN_OPTIONS],
)
def serve(**options: Any) -> None:
    """Run on schedule as a daemon, with metrics, an API and a status page."""
    from syncer.cli.serve import ServeOptions, run_service

    _imported()
    sys.exit(run_service(ServeOptions(**options)))


@cli.command(
    short_help="Check the configuration files.",
    cls=GroupedCommand,
    context_settings=HELP,
    params=[
        *FILE_OPTIONS,
        Option(
            "--online", is_flag=True, group="Work", help="Also check the credentials with every registry."
        ),
    ],
)
def check(*, online: bool, **files: Any) -> None:
    """Check the configuration files and report every problem with its location."""
    from syncer.cli.check import check_files
    from syncer.cli.files import FileOptions

    _imported()
    sys.exit(check_files(FileOptions(**files), online=online))


@cli.command(
    short_help="Check that images are complete at their destinations.",
    cls=GroupedCommand,
    context_settings=HELP,
    params=[
        *FILE_OPTIONS,
        *RUN_OPTIONS,
        Option("--deep", is_flag=True, group="Work", help="Download every blob and check its digest."),
        Option("--repair", is_flag=True, group="Work", help="Copy what is missing or damaged."),
    ],
)
def audit(*, deep: bool, repair: bool, **options: Any) -> None:
    """Check that the images of all rules are complete at their destinations.

    Requests every manifest and every blob. Prints a line for each incomplete image. The exit code is 0 if all images are
    complete, or were repaired.
    """
    from syncer.cli.audit import AuditOptions, run_audit

    _imported()
    sys.exit(run_audit(AuditOptions(deep=deep, repair=repair, **options)))


@cli.command(short_help="Print the images that manifests and other files name.", context_settings=HELP)
@click.argument("files", nargs=-1, type=PATH, metavar="[FILE|FOLDER|-]...")
def images(*, files: tuple[Path, ...]) -> None:
    """Print the images that manifests, compose files, Dockerfiles and lists name.

    The output has one reference per line, sorted and without duplicates, and can be used with --images. Kubernetes
    manifests may be the output of helm template, kustomize build, or kubectl get -o yaml or json. References that cannot
    be resolved, such as variables without a default, are printed on stderr. Reads standard input if no file is given.
    """
    from syncer.cli.images import print_images

    _imported()
    sys.exit(print_images(files))


@cli.group(context_settings=HELP)
def report() -> None:
    """Process reports that --report has written."""


@report.command(
    cls=GroupedCommand,
    context_settings=HELP,
    params=[
        Option(
            "--output",
            type=PATH,
            default="-",
            metavar="FILE",
            group="Output",
            help="Write to this file instead of stdout.",
        ),
        Option(
            "--partial", is_flag=True, group="Work", help="Merge even if reports of some shares are missing."
        ),
    ],
)
@click.argument("files", nargs=-1, required=True, type=PATH, metavar="FILE...")
def merge(*, files: tuple[Path, ...], output: Path, partial: bool) -> None:
    """Merge the reports of all shares into one report.

    The result is the same as the report of a single process. The exit code is 0 if the report was written, and 2 if
    not. It does not depend on the outcome of the run, which is `run.outcome` in the report.
    """
    from syncer.cli.report import merge_reports

    _imported()
    sys.exit(merge_reports(files, output, partial=partial))


@cli.command(context_settings=HELP)
@click.option("--serve", is_flag=True, help="Keep the demo registries running on 127.0.0.1:5001 and 5002.")
def demo(*, serve: bool) -> None:
    """Copy images between two in-memory registries. Needs no configuration."""
    from syncer.cli.demo import show_demo

    _imported()
    sys.exit(show_demo(keep_up=serve))


def run() -> object:
    """Run the command line and return the code of `SystemExit`: a number, or None for success."""
    try:
        cli(prog_name=Path(sys.argv[0]).name if sys.argv else "syncer", standalone_mode=True)
    except SystemExit as end:
        return end.code
    except BrokenPipeError:
        # The reader of the output is gone, so no error can be shown.
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
    """Enable garbage collection after the imports, and exclude the imported objects from it."""
    gc.freeze()
    gc.enable()
