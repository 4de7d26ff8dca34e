"""`syncer report merge`: merges the reports of shares."""

from collections.abc import Sequence
from pathlib import Path

import click

from syncer.cli import exits
from syncer.observe import words
from syncer.observe.merging import MergeError, merge
from syncer.observe.report import write_parts


def merge_reports(files: Sequence[Path], output: Path, *, partial: bool) -> int:
    """Merge the reports `files` into `output`, and return the exit code: 0, or 2 if nothing was written."""
    try:
        merged = merge(files, partial=partial)
        write_parts(output, merged.run, merged.images(), merged.end)
    except MergeError as error:
        for problem in error.problems:
            click.echo(f"error: {problem}", err=True)
        click.echo(f"{words.count(len(error.problems), 'problem')}; nothing was merged", err=True)
        return exits.UNUSABLE
    except OSError as error:
        click.echo(f"error: cannot write the report: {error}", err=True)
        return exits.UNUSABLE
    if missing := merged.run.missing_shards:
        click.echo(f"warning: merged without the reports of {', '.join(missing)}", err=True)
    return exits.DONE
