"""The outcome of each rule of a run, for the API, the page and notifications."""

from collections.abc import Sequence

from syncer.events import ImageFailed, ImageSkipped, ImageSynced, Observer
from syncer.rules.rule import Rule


class RuleOutcomes(Observer):
    """Counts the successful and failed images of each rule."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        super().__init__()
        self._names = {rule.number: rule.name for rule in rules}
        self._succeeded = dict.fromkeys(self._names, 0)
        self._failed = dict.fromkeys(self._names, 0)
        self._interrupted: set[int] = set()

    @property
    def rules(self) -> frozenset[str]:
        """The names of the rules of the run."""
        return frozenset(self._names.values())

    def on_image_synced(self, event: ImageSynced) -> None:
        self._succeeded[event.rule.number] += 1

    def on_image_skipped(self, event: ImageSkipped) -> None:
        self._succeeded[event.rule.number] += 1

    def on_image_failed(self, event: ImageFailed) -> None:
        if event.failure.kind == "interrupted":
            self._interrupted.add(event.rule.number)
        else:
            self._failed[event.rule.number] += 1

    def outcomes(self) -> dict[str, str]:
        """Return the outcomes by rule name. Interrupted rules without a failed image are left out."""
        outcomes = {}
        for number, name in self._names.items():
            if self._failed[number]:
                outcomes[name] = "partial" if self._succeeded[number] else "failure"
            elif number not in self._interrupted:
                outcomes[name] = "success"
        return outcomes
