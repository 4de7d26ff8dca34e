"""The metrics of a daemon: those of its runs, and what the history knows of the time before it started."""

from syncer.observe.metrics import MetricsObserver


class DaemonMetrics(MetricsObserver):
    """One for the daemon's life."""

    def restore(self, *, succeeded: float | None, completed: float | None) -> None:
        """When the last run succeeded and when one ended, in Unix time: an alert must not be silenced by a restart."""
        if succeeded is not None:
            self._last_success.set(succeeded)
        if completed is not None:
            self._last_completion.set(completed)
