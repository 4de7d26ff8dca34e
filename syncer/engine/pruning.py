"""`Pruning`: the last phase of a run, which removes tags that no rule selects."""

from collections.abc import Iterable, Sequence

from syncer.engine.graph import TaskGraph
from syncer.engine.pool import WorkerPool
from syncer.engine.prune import prune_tasks
from syncer.engine.selections import RecordedSelections, Selections
from syncer.engine.task import Job
from syncer.events import ImageFailed, PruneFailed
from syncer.observers import Observer
from syncer.oci.reference import Repository
from syncer.rules.rule import Rule
from syncer.rules.writers import Writers


class Pruning(Observer):
    """Removes tags when all images of a run are there. This class observes the run.

    `rules` are all rules of the configuration. `transfers` and `retries` as in `TaskGraph`.
    """

    def __init__(self, rules: Sequence[Rule], *, transfers: int, retries: int) -> None:
        super().__init__()
        self.failed = 0
        """The number of tags that could not be removed."""
        self._writers = Writers(rules)
        self._selections = RecordedSelections(rules)
        self._graph = TaskGraph(transfers=transfers, retries=retries)
        self._pool = WorkerPool(self._graph, transfers=transfers)
        self._failed_at: set[Repository] = set()
        self._is_outdated = False

    @property
    def selections(self) -> Selections:
        """What records the tags that rules select."""
        return self._selections

    @property
    def stopping(self) -> bool:
        """Return whether `stop` was called."""
        return self._pool.stopping

    def stop(self) -> None:
        self._pool.stop()

    def on_image_failed(self, event: ImageFailed) -> None:
        self._failed_at.add(event.destination.repository)

    def on_prune_failed(self, _event: PruneFailed) -> None:
        self.failed += 1

    def add_rules(self, rules: Iterable[Rule]) -> None:
        """Take note of rules that become a part of the run. Nothing is removed if they come from changed files."""
        self._is_outdated = self._is_outdated or not all(map(self._writers.has, rules))

    async def run(self, job: Job) -> None:
        """Run until all repositories are done, or until `stop` is called."""
        self._graph.add_lazy(prune_tasks(self._selections, self._writers.of, self._trouble_at))
        await self._pool.run(job)

    def _trouble_at(self, repository: Repository) -> str:
        """Return why nothing is to be removed from a repository; empty if there is no reason."""
        if self._is_outdated:
            return "the configuration was changed during the run"
        return "an image could not be copied there" if repository in self._failed_at else ""
