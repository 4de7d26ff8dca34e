"""What went through and what did not, as images files for another run."""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from operator import itemgetter
from pathlib import Path
from typing import Literal

from msgspec.structs import replace

from syncer.config.image_lists import merge_entries
from syncer.events import ImageFailed, ImageSkipped, ImageSynced
from syncer.observe.files import write_beside
from syncer.observers import Observer
from syncer.oci.reference import Reference
from syncer.rules.rule import Rule
from syncer.rules.tag_filter import FilteredTags
from syncer.rules.tags import MatchingTags, TheseTags

Tag = str | None
"""A source's tag; None where only a digest names it, or where the tags could not be listed."""

RuleKey = tuple[int, str]
"""The number of a rule, and the source if its rule has a pattern, which stands for several."""

_WENT = 1
_FAILED = 2
_LOST = 4  # to another rule that writes the same tag


class OutcomeLists(Observer):
    """Remembers how each tag of some rules ended, in as little room as can be."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        super().__init__()
        self._listed = any(rule.listed for rule in rules)
        # A rule with a pattern becomes one for each repository, which the events bring.
        self._patterns = {rule.number for rule in rules if rule.templates}
        self._rules = {self._key(rule): rule for rule in rules}
        self._tags: dict[RuleKey, dict[Tag, int]] = {}
        self._unlisted: set[RuleKey] = set()
        self._lost: dict[tuple[RuleKey, Tag], set[Reference]] = {}
        self._places: dict[tuple[RuleKey, Tag], int] = {}

    # --- taking events --------------------------------------------------------------------------------------------

    def on_image_synced(self, event: ImageSynced) -> None:
        self._record(event, _WENT)

    def on_image_skipped(self, event: ImageSkipped) -> None:
        self._record(event, _WENT)

    def on_image_failed(self, event: ImageFailed) -> None:
        if event.source.tag is None and event.source.digest is None:
            self._unlisted.add(self._key(event.rule))
        elif (
            event.failure.kind == "conflict"
            and event.failure.status is None
            and not event.rule.conflict_at(event.destination)
        ):
            self._lost.setdefault((self._key(event.rule), event.source.tag), set()).add(event.destination)
            self._record(event, _LOST)
        else:
            self._record(event, _FAILED)

    def _record(self, event: ImageSynced | ImageSkipped | ImageFailed, how: int) -> None:
        tag = event.source.tag
        key = self._key(event.rule)
        if event.rule.number in self._patterns:
            self._rules.setdefault(key, event.rule)
        tags = self._tags.setdefault(key, {})
        tags[tag] = tags.get(tag, 0) | how
        rule = self._rules.get(key)
        if rule is not None and isinstance(rule.selection, MatchingTags | FilteredTags):
            self._record_place(rule, tag, event.destination)

    def _key(self, rule: Rule) -> RuleKey:
        return rule.number, str(rule.source) if rule.number in self._patterns else ""

    def _record_place(self, rule: Rule, tag: Tag, to: Reference) -> None:
        """Which of the destination's tags an expression's tag got: only then can they be named as a pair."""
        for destination in rule.destinations:
            if destination.tags and destination.repository == to.repository and to.tag in destination.tags:
                self._places[self._key(rule), tag] = destination.tags.index(to.tag)

    # --- telling --------------------------------------------------------------------------------------------------

    def success_document(self) -> dict[str, object]:
        """The images that are at all their destinations, one entry a tag."""
        return merge_entries(self._entries(lambda how: how == _WENT, all), listed=self._listed)

    def failed_document(self) -> dict[str, object]:
        """The images that are not, one entry a tag; the whole rule where its tags could not be listed.

        An image that lost a destination to an earlier rule is not meant to get there: another run without that
        rule would overwrite it. So that destination is left out.
        """
        entries = self._entries(lambda how: bool(how & _FAILED), any, whole=self._unlisted)
        return merge_entries(entries, listed=self._listed)

    def _entries(
        self,
        wanted: Callable[[int], bool],
        enough: Callable[[Iterable[bool]], bool],
        whole: set[RuleKey] | frozenset[RuleKey] = frozenset(),
    ) -> Iterator[tuple[str, object]]:
        """An entry for each wanted tag; `enough` decides about a rule that can only be listed as a whole."""
        # The repositories of a pattern in the order of their names: not that in which they were found.
        for key, rule in sorted(self._rules.items(), key=itemgetter(0)):
            if key in whole:
                yield rule.entry_for(None)
                continue
            if key in self._unlisted:
                continue
            hows = self._tags.get(key, {})
            if not rule.tags_are_written:
                if hows and enough(map(wanted, hows.values())):
                    yield rule.entry_for(None)
                continue
            tags = [tag for tag, how in hows.items() if wanted(how)]
            for tag in _in_order(rule, tags):
                remaining = self._without_lost(rule, tag)
                if remaining.destinations:
                    yield self._entry(remaining, tag)

    def _without_lost(self, rule: Rule, tag: Tag) -> Rule:
        lost = self._lost.get((self._key(rule), tag))
        if lost is None:
            return rule
        kept = tuple(
            destination
            for destination in rule.destinations
            if not any(
                destination.repository == reference.repository
                and (destination.tags is None or reference.tag in destination.tags)
                for reference in lost
            )
        )
        return replace(rule, destinations=kept)

    def _entry(self, rule: Rule, tag: Tag) -> tuple[str, object]:
        if tag is None:
            return rule.entry_for(None)
        if not isinstance(rule.selection, MatchingTags | FilteredTags):
            return rule.entry_for([tag])
        renamed = [len(destination.tags) for destination in rule.destinations if destination.tags]
        if not renamed:
            return rule.entry_for([tag])
        place = self._places.get((self._key(rule), tag))
        if place is None:
            return rule.entry_for(None)
        selected = [""] * renamed[0]
        selected[place] = tag
        return rule.entry_for([tag], selected)


def _in_order(rule: Rule, tags: list[Tag]) -> list[Tag]:
    """The order of the file where it names tags, else of the alphabet: not that in which they happened to end."""
    if isinstance(rule.selection, TheseTags):
        named = {tag: index for index, tag in enumerate(rule.selection.tags)}
        return sorted(tags, key=lambda tag: named.get(tag or "", 0))
    return sorted(tags, key=lambda tag: tag or "")


def write_list(path: Path, document: dict[str, object], form: Literal["yaml", "json"] = "yaml") -> None:
    """Write one of the lists. A file named *.json is JSON in any case, since it is read by its ending. Raises `OSError`."""
    if form == "json" or path.suffix.lower() == ".json":
        write_beside(path, json.dumps(document, indent=2, ensure_ascii=False) + "\n")
    else:
        write_beside(path, as_yaml(document))


def as_yaml(document: dict[str, object]) -> str:
    """An images file as YAML text, an entry a line where that is possible."""
    import yaml  # takes 40 ms, and few runs write lists

    base = getattr(yaml, "CSafeDumper", yaml.SafeDumper)

    class Dumper(base):  # type: ignore[misc, valid-type]
        def ignore_aliases(self, _data: object) -> bool:
            # Entries of one rule share its platforms: written out, each can be moved to another file.
            return True

    text: str = yaml.dump(
        document, Dumper=Dumper, allow_unicode=True, default_flow_style=False, sort_keys=False, width=2**20
    )
    return text
