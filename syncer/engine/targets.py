"""Tasks that copy one item to several targets: it is read once, and a failing target does not delay the others."""

from abc import abstractmethod
from collections.abc import Hashable, Mapping
from typing import Generic, Literal, TypeVar

from syncer.engine.image_copy import ImageCopy
from syncer.engine.task import Job, Key, Priority, Task
from syncer.errors import RegistryError
from syncer.events import TaskEnded
from syncer.oci.reference import Repository

T = TypeVar("T", bound=Hashable)


class MultiTargetTask(Task, Generic[T]):
    """A task with one key for each target. `targets` maps each target to the image that needs it."""

    __slots__ = ("targets",)

    def __init__(self, targets: Mapping[T, ImageCopy]) -> None:
        self.targets = dict(targets)
        super().__init__(
            [self.key_for(target) for target in targets],
            priority=min((copy.priority for copy in targets.values()), default=Priority.NORMAL),
        )

    @abstractmethod
    def key_for(self, target: T) -> Key:
        """Return the key that this task settles for one target."""

    @abstractmethod
    def split(self, target: T) -> "MultiTargetTask[T]":
        """Remove one target, and return a task that does the same for that target alone."""

    def split_off(self, job: Job, target: T, error: RegistryError) -> None:
        """Move a failed target to a separate task, and continue with the others.

        Raises `error` if it is the only target.
        """
        if len(self.targets) == 1:
            raise error
        part = self.split(target)
        outcome: Literal["retried", "failed"] = (
            "retried" if job.graph.split_off(self, part, error) else "failed"
        )
        job.observer.notify(TaskEnded(part.kind, outcome, str(part), error.as_failure()))


class SourcedTask(MultiTargetTask[Repository]):
    """A task that fetches content by digest from `source`, or from another source that has the same content."""

    __slots__ = ("other_sources", "source")

    def __init__(self, source: Repository, targets: Mapping[Repository, ImageCopy]) -> None:
        super().__init__(targets)
        self.source = source
        self.other_sources: list[Repository] = []

    def offer(self, source: Repository) -> None:
        """Add a source that may have the same content."""
        if source != self.source and source not in self.other_sources:
            self.other_sources.append(source)

    def fail_over(self, error: RegistryError) -> bool:
        """Switch to another source if the failure is permanent and another one is known. Return whether it switched."""
        if not (error.permanent and self.other_sources):
            return False
        self.source = self.other_sources.pop(0)
        return True
