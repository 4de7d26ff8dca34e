"""Writes the files that the options of a run name: lists of images, report, metrics."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from syncer.cli.once_options import OnceOptions
from syncer.observe.logs import Logging
from syncer.observe.outcomes import OutcomeLists, write_list
from syncer.observe.report import ReportObserver, write_report

if TYPE_CHECKING:
    from syncer.observe.metrics import MetricsObserver


def write_outcome(
    options: OnceOptions,
    log: Logging,
    *,
    report: ReportObserver,
    metrics: "MetricsObserver | None",
    lists: OutcomeLists,
) -> None:
    """Write the files that are asked for. One that cannot be written is an error in the log, not of the run."""
    form = options.output_images_format
    tasks: list[tuple[str, Callable[[], object]]] = []
    if not options.dry_run:
        # What only would have gone through is no list to go on from.
        if path := options.output_success_images:
            tasks.append(
                ("the list of images that went through", partial(_write, path, lists.success_document, form))
            )
        if path := options.output_failed_images:
            tasks.append(("the list of failed images", partial(_write, path, lists.failed_document, form)))
    if path := options.report:
        tasks.append(("the report", partial(write_report, path, report)))
    if metrics and options.metrics_file:
        tasks.append(("the metrics", partial(metrics.write_textfile, options.metrics_file)))
    for what, write in tasks:
        _attempt(what, write, log)


def push_outcome(options: OnceOptions, log: Logging, metrics: "MetricsObserver | None") -> None:
    """Push the metrics if that is asked for. A failure is an error in the log, not of the run."""
    if metrics and options.metrics_push:
        # The number alone: with another N, most shares write on where they wrote before.
        shard = None if options.shard.whole else str(options.shard.index)
        _attempt("the metrics", partial(metrics.push, options.metrics_push, shard=shard), log)


def _attempt(what: str, write: Callable[[], object], log: Logging) -> None:
    try:
        write()
    except OSError as error:
        log.logger.error("outcome", message=f"cannot write {what}: {error}")  # noqa: TRY400 - no traceback


def _write(path: Path, document: Callable[[], dict[str, object]], form: Literal["yaml", "json"]) -> None:
    write_list(path, document(), form)
