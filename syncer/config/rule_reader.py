"""Makes rules from the tree of an images file, and finds what is wrong with each and between them."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

import msgspec

from syncer.config import nodes
from syncer.config.documents import expand
from syncer.config.duplicates import without_duplicates
from syncer.config.json_reader import read_json
from syncer.config.nodes import Entry, Node, found
from syncer.config.rule_keys import RuleKeys, read_rule_keys
from syncer.diagnostics import Findings, Place, Problem, Unexpected, shown
from syncer.oci.digest import Digest, InvalidDigest
from syncer.oci.reference import InvalidReference, Repository, check_tag, split_reference
from syncer.rules.conflicts import with_conflicts
from syncer.rules.expressions import InvalidPattern, check_pattern
from syncer.rules.naming import DefaultDestination
from syncer.rules.rule import Destination, Rule
from syncer.rules.tag_filter import FilteredTags
from syncer.rules.tags import (
    AllTags,
    MatchingTags,
    OneDigest,
    TagSelection,
    TheseTags,
)

OBJECT_KEYS = ("to", *RuleKeys.__struct_fields__)
_EXPECTED_VALUE = 'a destination: text, a list of texts, or a mapping with "to"'
_SCHEMES = ("http", "https", "docker", "oci")
T = TypeVar("T")


def parse_rules(
    node: Node,
    *,
    environment: Mapping[str, str],
    findings: Findings,
    default: DefaultDestination | None = None,
) -> tuple[Rule, ...]:
    """Read the tree of an images file. Problems go to `findings`; rules that have some are left out.

    Two rules that contradict each other are no problem: see `Rule.conflicts`. `default` names the destinations that are
    empty; a warning says so where there are none.
    """
    try:
        document = nodes.mapping_of(node, "a mapping of sources to destinations")
    except Unexpected as unexpected:
        findings.problems.append(unexpected.problem)
        return ()
    entries = [entry for entry in _as_written(document) if entry.key != "$schema"]
    if {entry.key for entry in entries} == {"auth", "images"}:
        message = "this is a combined file of auth and images: give it with --config"
        findings.problems.append(document.place.problem(message))
        return ()
    for entry in entries:
        findings.problems += nodes.duplicate_keys(entry.value)
    reader = _RuleReader(environment, findings, default)
    rules = [rule for number, entry in enumerate(entries) if (rule := reader.rule(number, entry)) is not None]
    if default is not None and default.stated and not reader.used_default:
        message = "without effect: they name the destinations of rules that have an empty one, and none has"
        findings.warnings.append(Problem("--registry, --namespace", "", message))
    return with_conflicts(without_duplicates(rules, findings))


def _as_written(document: nodes.Mapping) -> Sequence[Entry]:
    """All entries: a source may stand there twice."""
    if not document.repeated:
        return document.entries
    return sorted((*document, *document.repeated), key=lambda entry: entry.place.line)


def rules_from(
    images: Mapping[str, object], environment: Mapping[str, str] | None = None
) -> tuple[Rule, ...]:
    """The rules of an images file given as Python data. Raises `ConfigError`."""
    findings = Findings()
    node = read_json(json.dumps(images), "images", "images", findings)
    rules = parse_rules(node, environment=environment or {}, findings=findings) if node else ()
    findings.raise_if_any()
    return rules


def parse_source(text: str) -> tuple[Repository, TagSelection]:
    """Read a rule's key. Raises `InvalidReference`, `InvalidDigest`, `InvalidPattern`."""
    name, tags, digest = _split(text)
    repository = Repository.parse(name)
    if digest is not None:
        return repository, OneDigest(Digest.parse(digest), None if tags is None else check_tag(tags))
    if tags is None:
        return repository, AllTags()
    if tags.startswith("/"):
        if len(tags) < 3 or not tags.endswith("/"):
            raise InvalidPattern(f"expected /regular expression/, found {shown(tags)}")
        return repository, MatchingTags(check_pattern(tags[1:-1]))
    return repository, TheseTags(tuple(check_tag(tag) for tag in tags.split(",")))


def parse_destination(text: str, selection: TagSelection, written: str = "") -> Destination:
    """Read a destination of a rule that selects so. Raises `InvalidReference`, `InvalidDigest`."""
    name, tags, digest = _split(text)
    repository = Repository.parse(name)
    if tags is not None and tags.startswith("/"):
        raise InvalidReference(f"a regular expression is for the source only, found {shown(text)}")
    parsed = None if digest is None else Digest.parse(digest)
    if parsed is not None and (not isinstance(selection, OneDigest) or selection.digest != parsed):
        raise InvalidReference(f"a digest at the destination must be the source's, found {shown(text)}")
    new_tags = None if tags is None else tuple(check_tag(tag) for tag in tags.split(","))
    if new_tags is not None:
        _check_count(new_tags, selection)
    return Destination(repository, new_tags, parsed, written or text)


def _split(text: str) -> tuple[str, str | None, str | None]:
    scheme, mark, _ = text.partition("://")
    if mark and scheme.lower() in _SCHEMES:
        raise InvalidReference(
            f"expected host/repository, found an address: drop {scheme + mark!r} in {shown(text)}"
        )
    if not text:
        raise InvalidReference("expected host/repository, found an empty text")
    return split_reference(text)


def _check_count(tags: tuple[str, ...], selection: TagSelection) -> None:
    match selection:
        case AllTags():
            raise InvalidReference("expected a destination without tag, since the source names none")
        case TheseTags(named):
            expected = len(named)
        case OneDigest():
            expected = 1
        case MatchingTags() | FilteredTags():
            return  # counted when the tags are known
    if len(tags) != expected:
        raise InvalidReference(
            f"expected no tag or as many as the source names ({expected}), found {len(tags)}: {shown(','.join(tags))}"
        )


class _RuleReader:
    def __init__(
        self, environment: Mapping[str, str], findings: Findings, default: DefaultDestination | None
    ) -> None:
        self._environment = environment
        self._findings = findings
        self._default = default
        self.used_default = False

    def rule(self, number: int, entry: Entry) -> Rule | None:
        problems = len(self._findings.problems)
        source = self._try(entry.place, parse_source, entry.key)
        # A destination can be judged without its source: then by the rules for an expression, the loosest.
        selection = source[1] if source else MatchingTags(".")
        keys = RuleKeys()
        if isinstance(entry.value, nodes.Mapping):
            self._check_keys(entry.value)
            keys = read_rule_keys(entry.value, self._findings)
        if keys.tags is not None:
            if isinstance(selection, TheseTags | OneDigest | MatchingTags) and source:
                message = (
                    f"`tags` cannot be combined with tags or a digest in the source, found {shown(entry.key)}"
                )
                self._findings.problems.append(entry.place.problem(message))
            selection = keys.tags
        destinations = self._destinations(entry, source and source[0], selection)
        if source is None or len(self._findings.problems) > problems:
            return None
        return Rule(
            number=number,
            source=source[0],
            selection=selection,
            destinations=tuple(
                replace(each, attestations=keys.attestations or each.attestations) for each in destinations
            ),
            written_source=entry.key,
            written=nodes.plain_value(entry.value),
            place=entry.place,
            **{key: value for key, value in msgspec.structs.asdict(keys).items() if key != "tags"},
        )

    def _try(self, place: Place, read: Callable[..., T], *arguments: object) -> T | None:
        """What `read` makes of its arguments; what it raises becomes a problem of `place`, and None is returned."""
        try:
            return read(*arguments)
        except Unexpected as unexpected:
            self._findings.problems.append(unexpected.problem)
        except InvalidPattern as error:
            self._findings.problems.append(place.problem(f"not a regular expression (RE2): {error}"))
        except (InvalidReference, InvalidDigest) as error:
            self._findings.problems.append(place.problem(str(error)))
        return None

    def _destinations(
        self, entry: Entry, source: Repository | None, selection: TagSelection
    ) -> tuple[Destination, ...]:
        value: Node = entry.value
        if isinstance(value, nodes.Mapping):
            value = value.get("to") or nodes.Scalar(value.place, "", "null")
        items: tuple[Node, ...] = (value,)
        if isinstance(value, nodes.Sequence) and value.items:
            items = value.items
        read = [self._try(item.place, self._destination, item, source, selection) for item in items]
        # The same destination twice is one.
        return tuple(dict.fromkeys(destination for destination in read if destination is not None))

    def _destination(
        self, node: Node, source: Repository | None, selection: TagSelection
    ) -> Destination | None:
        if nodes.is_empty(node):
            return self._default_destination(node, source, selection)
        if isinstance(node, nodes.Scalar) and node.kind not in ("text", "plain"):
            raise node.place.unexpected(f"expected {_EXPECTED_VALUE}, found {found(node)}")
        written = nodes.text_of(node, "a destination as text")
        expanded = expand(written, self._environment, node.place)
        try:
            return parse_destination(expanded, selection, written)
        except (InvalidReference, InvalidDigest):
            if expanded in {"", written}:
                raise
            # The reason would quote values of variables, which may be secrets.
            raise InvalidReference(
                f"{shown(written)} is no destination with its variables' values, which are not shown: expected"
                " host/repository, with as many tags as the source names"
            ) from None

    def _default_destination(
        self, node: Node, source: Repository | None, selection: TagSelection
    ) -> Destination | None:
        """The one that the options name for an empty one. Raises `Unexpected`, `InvalidReference`."""
        self.used_default = True
        if source is None:
            return None  # what is wrong with the source is told
        text = self._default and self._default.for_source(source)
        if not text:
            raise node.place.unexpected(
                "expected a destination, found an empty one: write it out, or name a place for all of them with --registry"
                " and --namespace"
            )
        return parse_destination(text, selection)

    def _check_keys(self, value: nodes.Mapping) -> None:
        for entry in value:
            if entry.key not in OBJECT_KEYS:
                message = f"unknown key {shown(entry.key)}: expected {', '.join(OBJECT_KEYS)}"
                self._findings.problems.append(entry.place.problem(message))
