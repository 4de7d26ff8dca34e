"""The outcome of each rule of a run, for the API, the page and notifications."""

from collections import Counter
from collections.abc import Sequence

from syncer.events import ImageFailed, ImageSkipped, ImageSynced
from syncer.observers import Observer
from syncer.rules.rule import Rule


class RuleOutcomes(Observer):
    """Counts the successful and failed images of each rule. `rules` are those that the run copies as a whole."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        super().__init__()
        self._names: dict[int, str] = {}
        self._rules: dict[int, Rule] = {}
        self._skipped: Counter[int] = Counter()
        self._drifted: Counter[int] = Counter()
        self._succeeded: Counter[int] = Counter()
        self._failed: Counter[int] = Counter()
        self._interrupted: set[int] = set()
        self._failed_parts: dict[int, str] = {}
        self.add(rules)

    def add(self, rules: Sequence[Rule]) -> None:
        """Add rules that joined the run."""
        self._names |= {rule.number: rule.name for rule in rules}
        self._rules |= {rule.number: rule for rule in rules}

    @property
    def rules(self) -> frozenset[str]:
        """The names of the rules of the run."""
        return frozenset(self._names.values())

    def on_image_synced(self, event: ImageSynced) -> None:
        self._succeeded[event.rule.number] += 1

    def on_image_skipped(self, event: ImageSkipped) -> None:
        self._skipped[event.rule.number] += 1
        self._drifted[event.rule.number] += event.drift
        self._succeeded[event.rule.number] += 1

    def on_image_failed(self, event: ImageFailed) -> None:
        if event.failure.kind == "interrupted":
            self._interrupted.add(event.rule.number)
        else:
            self._failed[event.rule.number] += 1
            self._failed_parts[event.rule.number] = event.rule.name

    def images(self) -> dict[str, dict[str, int]]:
        """Return the number of images by outcome of each rule that was copied as a whole. Those that drifted are skipped."""
        return {
            name: {
                "synced": self._succeeded[number] - self._skipped[number],
                "skipped": self._skipped[number],
                "failed": self._failed[number],
                "drifted": self._drifted[number],
            }
            for number, name in self._names.items()
            if number not in self._interrupted
        }

    def complete_rules(self) -> list[Rule]:
        """Return the rules that were copied as a whole without a failure."""
        outcomes = self.outcomes()
        return [rule for rule in self._rules.values() if outcomes.get(rule.name) == "success"]

    def outcomes(self) -> dict[str, str]:
        """Return the outcomes by rule name. Interrupted rules without a failed image are left out.

        A rule of which only some tags were copied is left out too, unless one of them failed.
        """
        outcomes = {
            name: "partial" for number, name in self._failed_parts.items() if number not in self._names
        }
        for number, name in self._names.items():
            if self._failed[number]:
                outcomes[name] = "partial" if self._succeeded[number] else "failure"
            elif number not in self._interrupted:
                outcomes[name] = "success"
        return outcomes
