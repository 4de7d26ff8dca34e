"""The options of commands that run once."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from syncer.cli.notify_options import NotifyOptions
from syncer.observe.progress import ProgressKind
from syncer.rules.shard import WHOLE, Shard


class OnceOptions(NotifyOptions, frozen=True, kw_only=True):
    """The options of `sync` and `plan`, named as on the command line."""

    proc: int = 5
    retries: int = 2
    os_: Sequence[Sequence[str]] = ()
    arch: Sequence[Sequence[str]] = ()
    attestations: str | None = None
    force: bool = False
    no_clobber: bool = False
    fail_on_drift: bool = False
    referrers: bool = False
    prune: bool = False
    trust_sources: bool = False
    dry_run: bool = False
    log: Path | None = None
    log_format: Literal["text", "json"] = "text"
    log_level: str = "info"
    progress: ProgressKind = "auto"
    output_success_images: Path | None = None
    output_failed_images: Path | None = None
    output_images_format: Literal["yaml", "json"] = "yaml"
    report: Path | None = None
    metrics_file: Path | None = None
    metrics_push: str | None = None
    state_dir: Path | None = None
    shard: Shard = WHOLE
    allow_internal: Sequence[str] = ()

    @property
    def writes_outcome(self) -> bool:
        """Whether a file, or a push of metrics, is asked for."""
        lists = (self.output_success_images, self.output_failed_images)
        return any((*lists, self.report, self.metrics_file, self.metrics_push))
