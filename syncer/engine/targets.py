"""Tasks that bring one thing to several targets: read once, written to each, and a target that fails holds up no other."""

from abc import abstractmethod
from collections.abc import Hashable, Mapping
from typing import Generic, Literal, TypeVar

from syncer.engine.image_copy import ImageCopy
from syncer.engine.task import Job, Key, Task
from syncer.errors import RegistryError
from syncer.events import TaskEnded
from syncer.oci.reference import Repository

T = TypeVar("T", bound=Hashable)


class MultiTargetTask(Task, Generic[T]):
    """A task with one key for each of its `targets`, each with the image that wants it there."""

    __slots__ = ("targets",)

    def __init__(self, targets: Mapping[T, ImageCopy]) -> None:
        self.targets = dict(targets)
        super().__init__([self.key_for(target) for target in targets])

    @abstractmethod
    def key_for(self, target: T) -> Key:
        """The key by which others wait for this task at one target."""

    @abstractmethod
    def split(self, target: T) -> "MultiTargetTask[T]":
        """Take one target out: a task that does the same for that target alone."""

    def split_off(self, job: Job, target: T, error: RegistryError) -> None:
        """Leave a target that failed to a task of its own, and go ahead with the others.

        Raises `error` where it is the only one.
        """
        if len(self.targets) == 1:
            raise error
        part = self.split(target)
        outcome: Literal["retried", "failed"] = (
            "retried" if job.graph.split_off(self, part, error) else "failed"
        )
        job.observer.notify(TaskEnded(part.kind, outcome, str(part), error.as_failure()))


class SourcedTask(MultiTargetTask[Repository]):
    """A task that fetches by digest from `source`; images from elsewhere that want the same know other places."""

    __slots__ = ("other_sources", "source")

    def __init__(self, source: Repository, targets: Mapping[Repository, ImageCopy]) -> None:
        super().__init__(targets)
        self.source = source
        self.other_sources: list[Repository] = []

    def offer(self, source: Repository) -> None:
        """Here it may be had too."""
        if source != self.source and source not in self.other_sources:
            self.other_sources.append(source)

    def fail_over(self, error: RegistryError) -> bool:
        """The source failed: turn to another one, if it is for good and one is known."""
        if not (error.permanent and self.other_sources):
            return False
        self.source = self.other_sources.pop(0)
        return True
