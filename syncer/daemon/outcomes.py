"""How each rule of a run did: what the API and the notifications go by."""

from collections.abc import Sequence

from syncer.events import ImageFailed, ImageSkipped, ImageSynced, Observer
from syncer.rules.rule import Rule


class RuleOutcomes(Observer):
    """Counts what went through and what failed, rule by rule."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        super().__init__()
        self._names = {rule.number: rule.name for rule in rules}
        self._went = dict.fromkeys(self._names, 0)
        self._failed = dict.fromkeys(self._names, 0)
        self._stopped: set[int] = set()

    @property
    def rules(self) -> frozenset[str]:
        """The names of the rules that the run is about."""
        return frozenset(self._names.values())

    def on_image_synced(self, event: ImageSynced) -> None:
        self._went[event.rule.number] += 1

    def on_image_skipped(self, event: ImageSkipped) -> None:
        self._went[event.rule.number] += 1

    def on_image_failed(self, event: ImageFailed) -> None:
        if event.failure.kind == "interrupted":
            self._stopped.add(event.rule.number)
        else:
            self._failed[event.rule.number] += 1

    def outcomes(self) -> dict[str, str]:
        """By the names of the rules. One that was stopped before its end says nothing, unless an image failed."""
        outcomes = {}
        for number, name in self._names.items():
            if self._failed[number]:
                outcomes[name] = "partial" if self._went[number] else "failure"
            elif number not in self._stopped:
                outcomes[name] = "success"
        return outcomes
