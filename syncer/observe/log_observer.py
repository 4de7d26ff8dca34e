"""`LogObserver`: logs the events of a run."""

from typing import Any

from syncer.events import (
    Decision,
    Failure,
    ImageFailed,
    ImageSkipped,
    ImageSynced,
    IndexFiltered,
    ProjectMade,
    PruneFailed,
    PruneHeld,
    QuotaLow,
    RateLimitSeen,
    RepositoriesListed,
    RequestRetried,
    RequestSent,
    RoundStarted,
    RuleWarning,
    RunFinished,
    RunStarted,
    SkipReason,
    TagKept,
    TagPruned,
    TagsListed,
    TaskEnded,
)
from syncer.observe import words
from syncer.observe.logs import Logging
from syncer.observe.progress.totals import Totals


class LogObserver(Totals):
    """Logs the events of a run.

    If `beside_bars` is set, progress bars on the same terminal already show images, failures, warnings and totals, so
    these are not logged.
    """

    def __init__(self, log: Logging, *, beside_bars: bool = False) -> None:
        super().__init__()
        self._logging = log
        self._log = log.logger
        self._beside_bars = beside_bars and log.format == "text"
        self._tell = self._log.debug if self._beside_bars else self._log.info
        self._warned: set[tuple[str, str]] = set()
        self._refusals: set[str] = set()

    # --- the run ------------------------------------------------------------------------------------------------

    def on_run_started(self, event: RunStarted) -> None:
        super().on_run_started(event)
        self._warned.clear()
        self._refusals.clear()
        self._log = self._logging.logger.bind(run=event.run_id)
        self._tell = self._log.debug if self._beside_bars else self._log.info
        dry = " (dry run: nothing will be changed)" if event.dry_run else ""
        self._tell(
            "run started",
            message=f"run {event.run_id} started: {words.count(event.rules, 'rule')}{dry}",
            trigger=event.trigger,
            rules=event.rules,
            dry_run=event.dry_run,
        )

    def on_run_finished(self, event: RunFinished) -> None:
        last = (
            f"Synchronization finished, {self.failed} tasks failed, cost {words.go_duration(event.seconds)}."
        )
        if self._logging.format == "json":
            self._log.info(
                "run finished",
                message=last,
                outcome=event.outcome,
                seconds=round(event.seconds, 3),
                **self.as_fields(),
            )
            return
        stopped = "stopped before the end; " if event.outcome == "interrupted" else ""
        self._tell("totals", message=f"{stopped}{self.sentence()}")
        # The same line as in image-syncer, since scripts search for it: at any level, and last.
        self._logging.write_line(last)

    def on_round_started(self, event: RoundStarted) -> None:
        self._log.info(
            "round started",
            message=f"retry round {event.number}: {words.count(event.tasks, 'task')}",
            round=event.number,
            tasks=event.tasks,
        )

    def on_rule_warning(self, event: RuleWarning) -> None:
        if not self._beside_bars:
            self._log.warning("rule warning", message=event.message, rule=event.rule.number)

    def on_project_made(self, event: ProjectMade) -> None:
        self._tell(
            "project made",
            message=f"{event.registry}: {'would create' if self.dry_run else 'created'} project {event.project}",
            registry=event.registry,
            project=event.project,
        )

    def on_repositories_listed(self, event: RepositoriesListed) -> None:
        warning = f"; {event.warning}" if event.warning else ""
        log = self._log.warning if event.warning else self._log.info
        log(
            "repositories listed",
            message=f"{event.rule.source}: {words.count(event.found, 'repository', 'repositories')} listed by {event.method},"
            f" {event.selected} selected{warning}",
            rule=event.rule.number,
            method=event.method,
            found=event.found,
            selected=event.selected,
        )

    def on_tags_listed(self, event: TagsListed) -> None:
        self._tell(
            "tags listed",
            message=f"{event.source}: {event.steps_text if event.steps else words.count(event.found, 'tag')}, "
            f"{event.selected} selected",
            rule=event.rule.number,
            source=event.source,
            found=event.found,
            selected=event.selected,
        )

    # --- images -------------------------------------------------------------------------------------------------

    def on_index_filtered(self, event: IndexFiltered) -> None:
        self._tell(
            "index narrowed",
            message=f"{event.source}: {words.listed(event.kept)} kept, {words.listed(event.dropped)} dropped; "
            f"{words.short(event.digest)} becomes {words.short(event.filtered)}",
            rule=event.rule.number,
            source=event.source,
            digest=event.digest,
            filtered=event.filtered,
            kept=event.kept,
            dropped=event.dropped,
        )

    def on_image_synced(self, event: ImageSynced) -> None:
        super().on_image_synced(event)
        change = f"replaces {words.short(event.previous)}" if event.previous else "new"
        if event.previous == event.digest:
            change = "pushed again"
        doubt = ", confirmed by a mirror only" if event.unverified else ""
        referrers = f", with {words.count(event.referrers, 'referrer')}" if event.referrers else ""
        self._tell(
            "image synced",
            message=f"{'would sync' if self.dry_run else 'synced'} {event.source} -> {event.destination}: "
            f"{words.short(event.digest)} {change}, {words.size(event.nbytes)} in {words.duration(event.seconds)}{referrers}{doubt}",
            **_image_fields(event),
            previous_digest=event.previous,
            bytes=event.nbytes,
            seconds=round(event.seconds, 3),
            unverified=event.unverified,
        )

    def on_image_skipped(self, event: ImageSkipped) -> None:
        super().on_image_skipped(event)
        is_normal = (event.reason is SkipReason.UP_TO_DATE and not event.referrers) or (
            event.reason is SkipReason.IMMUTABLE and event.digest is None
        )
        tell = self._log.debug if is_normal else self._log.warning if event.drift else self._tell
        why = words.skipped(event)
        tell(
            "image skipped",
            message=f"skipped {event.source} -> {event.destination}: {why}",
            **_image_fields(event),
            reason=why,
            **({"drift": True} if event.drift else {}),
        )

    def on_image_failed(self, event: ImageFailed) -> None:
        super().on_image_failed(event)
        if self._beside_bars:
            return
        message = event.failure.message
        if event.failure.kind == "unauthorized":
            # One rejected account fails every image that needs it: log the advice only once.
            if message in self._refusals:
                message = f"refused by {event.failure.registry} for the same reason"
            self._refusals.add(event.failure.message)
        self._log.error(
            "image failed",
            message=f"{event.source} -> {event.destination}: {message}",
            **_image_fields(event),
            seconds=round(event.seconds, 3),
            **_failure_fields(event.failure),
        )

    # --- pruning ------------------------------------------------------------------------------------------------

    def on_tag_pruned(self, event: TagPruned) -> None:
        super().on_tag_pruned(event)
        self._log.info(
            "tag removed",
            message=f"{event.destination}: {'would be removed' if self.dry_run else 'removed'}: {event.reason}",
            rule=event.rule.number,
            destination=event.destination,
            digest=event.digest,
        )

    def on_tag_kept(self, event: TagKept) -> None:
        self._log.debug(
            "tag kept",
            message=f"{event.destination}: not removed: {event.reason}",
            rule=event.rule.number,
            destination=event.destination,
        )

    def on_prune_held(self, event: PruneHeld) -> None:
        self._log.warning(
            "nothing removed",
            message=f"{event.repository}: nothing is removed: {event.reason}",
            rule=event.rule.number,
            destination=event.repository,
        )

    def on_prune_failed(self, event: PruneFailed) -> None:
        self._log.error(
            "tag not removed",
            message=f"{event.destination}: could not be removed: {event.failure.message}",
            rule=event.rule.number,
            destination=event.destination,
            digest=event.digest,
            **_failure_fields(event.failure),
        )

    # --- tasks and requests -------------------------------------------------------------------------------------

    def on_task_ended(self, event: TaskEnded) -> None:
        if event.failure is None or event.outcome == "done":
            return
        # A permanent failure is logged with the image that fails.
        tell, then = self._log.debug, "not retried"
        if event.outcome == "retried":
            tell, then = self._log.warning, "will be retried"
        tell(
            f"task {event.outcome}",
            message=f"{event.label}: {event.failure.message} ({then})",
            task=event.label,
            kind=event.kind,
            **_failure_fields(event.failure),
        )

    def on_request_retried(self, event: RequestRetried) -> None:
        super().on_request_retried(event)
        # Warn only about the first of its kind: a failing registry causes hundreds.
        trouble = (event.registry, event.reason)
        known = trouble in self._warned or event.reason == "token"
        self._warned.add(trouble)
        (self._log.debug if known else self._log.warning)(
            "request retried",
            message=f"{event.registry}: {_TROUBLES[event.reason]}, retrying in {words.duration(event.wait)}"
            + ("" if known else "; further retries are logged at level debug"),
            registry=event.registry,
            reason=event.reason,
            wait=round(event.wait, 3),
        )

    def on_quota_low(self, event: QuotaLow) -> None:
        self._log.warning(
            "quota low",
            message=f"{event.registry}: {words.count(event.remaining, 'pull')} left for {event.account}, "
            f"now one every {words.duration(event.wait)}",
            registry=event.registry,
            account=event.account,
            remaining=event.remaining,
            wait=round(event.wait, 3),
        )

    # The level of the daemon's log may change during a run.

    def on_request_sent(self, event: RequestSent) -> None:
        super().on_request_sent(event)
        if not self._logging.debug:
            return
        milliseconds = round(event.seconds * 1000, 1)
        self._log.debug(
            "request",
            message=f"{event.method} {event.registry}{event.target}: {event.status or 'broke off'} in {milliseconds} ms",
            method=event.method,
            registry=event.registry,
            endpoint=event.endpoint,
            path=event.target,
            status=event.status,
            milliseconds=milliseconds,
        )

    def on_decision(self, event: Decision) -> None:
        if self._logging.debug:
            self._log.debug("decision", message=f"{event.subject}: {event.message}", subject=event.subject)

    def on_rate_limit_seen(self, event: RateLimitSeen) -> None:
        self._log.debug(
            "rate limit",
            message=f"{event.registry}: {event.remaining} requests left for {event.account}",
            registry=event.registry,
            account=event.account,
            remaining=event.remaining,
        )


_TROUBLES = {
    "timeout": "timeout",
    "connection": "connection failed",
    "throttled": "too many requests",
    "server_error": "registry error",
    "token": "token rejected",
}


def _image_fields(event: ImageSynced | ImageSkipped | ImageFailed) -> dict[str, Any]:
    return {
        "rule": event.rule.number,
        "source": event.source,
        "destination": event.destination,
        "digest": event.digest,
    }


def _failure_fields(failure: Failure) -> dict[str, object]:
    return {
        "error": failure.kind,
        "registry": failure.registry,
        "status": failure.status,
        "permanent": failure.permanent,
    }
