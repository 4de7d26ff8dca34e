"""What the rules of a run select at their destinations: the tags that pruning must keep."""

from collections.abc import Iterable, Mapping, Sequence

from syncer.oci.digest import Digest
from syncer.oci.reference import Reference, Repository
from syncer.rules.rule import Rule

_Source = tuple[int, Repository]
"""A rule and its source: a rule with a pattern has many sources."""


class Selections:
    """Images that rules select, as named at the destination. This class records nothing, for runs that do not prune."""

    def begin(self, rule: Rule) -> None:
        """Record that the tags of a rule's source are about to be listed."""

    def want(self, rule: Rule, references: Iterable[Reference]) -> None:
        """Record images of a rule at its destinations."""

    def complete(self, rule: Rule, doubt: str) -> None:
        """Record that all tags of a rule's source were listed. `doubt` says what the list may lack; empty if nothing."""

    def discovered(self, rule: Rule, doubt: str) -> None:
        """Record that all repositories of a rule with a pattern were listed. `doubt` as in `complete`."""


class RecordedSelections(Selections):
    """Selections in memory, for the repositories of rules with `prune`. `rules` are those of the configuration."""

    def __init__(self, rules: Iterable[Rule]) -> None:
        pruning = [rule for rule in rules if rule.prune is not None]
        self._by_pattern = any(rule.pattern is not None for rule in pruning)
        self._named = {destination.repository for rule in pruning for destination in rule.destinations}
        self._rules: dict[Repository, dict[_Source, Rule]] = {}
        self._tags: dict[Repository, set[str]] = {}
        self._digests: dict[Repository, set[Digest]] = {}
        self._selecting: dict[Repository, set[_Source]] = {}
        self._listed: dict[_Source, str] = {}
        self._discovered: dict[int, str] = {}

    def begin(self, rule: Rule) -> None:
        for destination in rule.destinations:
            if self._concerns(rule, destination.repository):
                self._rules.setdefault(destination.repository, {})[_source(rule)] = rule

    def want(self, rule: Rule, references: Iterable[Reference]) -> None:
        for reference in references:
            repository = reference.repository
            if not self._concerns(rule, repository):
                continue
            if reference.tag is not None:
                self._tags.setdefault(repository, set()).add(reference.tag)
                self._selecting.setdefault(repository, set()).add(_source(rule))
            elif reference.digest is not None:
                self._digests.setdefault(repository, set()).add(reference.digest)

    def complete(self, rule: Rule, doubt: str) -> None:
        self._listed[_source(rule)] = doubt

    def discovered(self, rule: Rule, doubt: str) -> None:
        # `rule` is that of this process; the configuration has the whole rule.
        self._discovered[rule.number] = doubt or ("other processes copy a part of them" if rule.part else "")

    def _concerns(self, rule: Rule, repository: Repository) -> bool:
        return rule.prune is not None or self._by_pattern or repository in self._named

    def pruned(self) -> Mapping[Repository, Sequence[Rule]]:
        """Return the repositories of rules with `prune` that were part of the run, with these rules."""
        found = {
            repository: [rule for rule in rules.values() if rule.prune is not None]
            for repository, rules in self._rules.items()
        }
        return {repository: rules for repository, rules in found.items() if rules}

    def tags(self, repository: Repository) -> frozenset[str]:
        """Return the tags of a repository that a rule selects."""
        return frozenset(self._tags.get(repository, ()))

    def digests(self, repository: Repository) -> frozenset[Digest]:
        """Return the digests of a repository that a rule selects without a tag."""
        return frozenset(self._digests.get(repository, ()))

    def doubt(self, repository: Repository, writers: Iterable[Rule]) -> str:
        """Return why the selected tags of a repository are not all known; empty if they are.

        `writers` are the rules of the whole configuration that may write to it.
        """
        rules = self._rules.get(repository, {})
        for rule in writers:
            if rule.pattern is not None:
                missing = self._discovered.get(rule.number)
                if missing is None:
                    return (
                        f"rule {rule} may write there too, and its repositories were not listed in this run"
                    )
                if missing:
                    return f"rule {rule} may write there too, and not all of its repositories are known: {missing}"
            elif _source(rule) not in rules:
                return f"rule {rule} writes there too, and its tags were not listed in this run"
        for source, rule in rules.items():
            missing = self._listed.get(source)
            if missing is None:
                return f"the tags of {rule.source} could not be listed (rule {rule})"
            if missing:
                return f"the list of the tags of {rule.source} may be incomplete: {missing} (rule {rule})"
            if source not in self._selecting.get(repository, ()):
                return f"rule {rule} selects no tag of {rule.source}"
        return ""


def _source(rule: Rule) -> _Source:
    return rule.number, rule.source
