"""How far the mirror is behind: since when images are known at their source without being complete at a destination."""

import time
from collections.abc import Callable, Iterable

from syncer.events import ImageFailed, ImageSkipped, ImageStarted, ImageSynced
from syncer.observers import Observer
from syncer.oci.reference import Reference
from syncer.rules.rule import Rule
from syncer.state.behind import BehindTable

MAX_BEHIND = 100_000
"""Number of images whose times are kept."""
_NOT_FOUND = 404


class Lag(Observer):
    """The images that are behind. `now` returns Unix time in seconds. `restore` and `flush` may block."""

    def __init__(self, table: BehindTable, *, now: Callable[[], float] = time.time) -> None:
        super().__init__()
        self._table = table
        self._now = now
        self._since: dict[str, float] = {}
        self._by_repository: dict[str, dict[str, float]] = {}
        self._changed: dict[str, float | None] = {}

    def restore(self) -> None:
        """Load the times that an earlier process stored. Raises `sqlite3.Error`."""
        for name, since in sorted(self._table.load().items(), key=lambda item: item[1]):
            self._set(name, since)

    def flush(self) -> None:
        """Store the times. Raises `sqlite3.Error`."""
        changed, self._changed = self._changed, {}
        try:
            self._table.save(changed)
        except BaseException:
            self._changed = changed | self._changed
            raise

    # --- what happens ---------------------------------------------------------------------------------------------

    def expect(self, rule: Rule, tag: str | None) -> None:
        """Record that a registry announced a tag, where the destination's tag is known without a listing."""
        for destination in rule.destinations:
            if destination.tags is None and tag is not None:
                self._add(Reference(destination.repository, destination.tag_for(tag, 0)))

    def on_image_started(self, event: ImageStarted) -> None:
        for destination in event.destinations:
            self._add(destination)

    def on_image_synced(self, event: ImageSynced) -> None:
        self._remove(str(event.destination))

    def on_image_skipped(self, event: ImageSkipped) -> None:
        self._remove(str(event.destination))

    def on_image_failed(self, event: ImageFailed) -> None:
        failure = event.failure
        is_gone = failure.status == _NOT_FOUND and failure.registry == event.source.repository.host
        if is_gone or failure.kind == "conflict":
            self._remove(str(event.destination))
        elif event.destination.tag or event.destination.digest:
            self._add(event.destination)

    def complete(self, rules: Iterable[Rule], *, before: float) -> None:
        """Record that all images of `rules` are complete. What was behind `before` is no longer selected."""
        prefixes = tuple(
            f"{destination.repository}{mark}"
            for rule in rules
            for destination in rule.destinations
            for mark in ":@"
        )
        for name in [
            name for name, since in self._since.items() if since < before and name.startswith(prefixes)
        ]:
            self._remove(name)

    def _add(self, destination: Reference) -> None:
        name = str(destination)
        if name not in self._since and len(self._since) < MAX_BEHIND:
            since = self._changed[name] = self._now()
            self._set(name, since)

    def _set(self, name: str, since: float) -> None:
        self._since[name] = since
        # The first one of a repository is the one that has been behind for longest.
        self._by_repository.setdefault(_repository_of(name), {})[name] = since

    def _remove(self, name: str) -> None:
        if self._since.pop(name, None) is not None:
            self._changed[name] = None
            repository = _repository_of(name)
            del self._by_repository[repository][name]
            if not self._by_repository[repository]:
                del self._by_repository[repository]

    # --- state ----------------------------------------------------------------------------------------------------

    def by_host(self, rules: Iterable[Rule]) -> dict[str, float]:
        """Return the longest lag in seconds of each registry that one of `rules` writes to."""
        longest = {each.repository.host: 0.0 for rule in rules for each in rule.destinations}
        for repository, (_, lag) in self.by_repository().items():
            host = repository.partition("/")[0]
            if host in longest:
                longest[host] = max(longest[host], lag)
        return longest

    def behind(self) -> dict[str, float]:
        """Return since when each destination is behind, as Unix time."""
        return dict(self._since)

    def by_repository(self) -> dict[str, tuple[int, float]]:
        """Return the number of images that are behind, and the longest lag in seconds, of each destination repository."""
        now = self._now()
        return {
            repository: (len(names), now - next(iter(names.values())))
            for repository, names in self._by_repository.items()
        }


def _repository_of(name: str) -> str:
    head, slash, last = name.partition("@")[0].rpartition("/")
    return f"{head}{slash}{last.partition(':')[0]}"
