"""Tasks that do nothing, or what a test says, for the graph and the pool."""

from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import Any, cast

from syncer.engine.graph import TaskGraph
from syncer.engine.ranges import IdleSlots
from syncer.engine.task import Job, Key, Kind, Lane, Reschedule, Task
from syncer.errors import Kind as ErrorKind
from syncer.errors import RegistryError
from syncer.observers import Observer
from syncer.oci.reference import Repository

Script = Callable[["FakeTask"], Awaitable[Reschedule | None]]


class FakeTask(Task):
    """Promises the keys that it is named by. Runs `script`; `ends` collects the root causes of its failures."""

    kind: Kind = "blob"  # type: ignore[misc]

    def __init__(
        self,
        *names: str,
        kind: Kind = "blob",
        lane: Lane = Lane.METADATA,
        script: Script | None = None,
        repositories: Iterable[Repository] = (),
    ) -> None:
        super().__init__([(name,) for name in names])
        self.kind = kind
        self.lane = lane
        self.script = script
        self._places = repositories
        self.ends: list[RegistryError] = []
        self.runs = 0

    def __str__(self) -> str:
        return str(self.keys[0][0])

    @property
    def repositories(self) -> Iterable[Repository]:
        return self._places

    async def run(self, job: Job) -> Reschedule | None:
        self.runs += 1
        return await self.script(self) if self.script else None

    def failed(self, job: Job, error: RegistryError) -> None:
        self.ends.append(error)


def keys(*names: str) -> list[Key]:
    return [(name,) for name in names]


def passing(message: str = "busy") -> RegistryError:
    return RegistryError(ErrorKind.SERVER_ERROR, message)


def lasting(message: str = "gone") -> RegistryError:
    return RegistryError(ErrorKind.NOT_FOUND, message)


def graph_of(*, transfers: int = 1, retries: int = 1) -> TaskGraph:
    return TaskGraph(transfers=transfers, retries=retries)


def job_for(graph: TaskGraph, observer: Observer | None = None) -> Job:
    return Job(graph, cast("Any", Open()), observer or Observer(), IdleSlots(1, lambda: 1))


class Open:
    """No repositories at all, and nobody who has to wait."""

    def recovery(self) -> float:
        return 0.0

    def on_capacity(self, heard: Callable[[str], None]) -> None:
        pass

    def wait_for(self, name: Repository) -> tuple[str, float | None]:
        return name.host, None


def take_all(graph: TaskGraph) -> list[Task]:
    """Everything that could run now, running."""
    return list(_taken(graph))


def _taken(graph: TaskGraph) -> Iterator[Task]:
    while task := graph.take(Lane.METADATA) or graph.take(Lane.TRANSFER):
        yield task


def ended(graph: TaskGraph) -> dict[str, str]:
    """The tasks that failed since it was last asked, each with its root cause."""
    return {str(task): error.message for task, error in graph.failures()}
