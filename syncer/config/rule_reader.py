"""Makes rules from the trees of the images files, and finds what is wrong with each and between them."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TypeVar

import msgspec
from msgspec.structs import replace

from syncer.config import nodes
from syncer.config.documents import expand
from syncer.config.duplicates import without_duplicates
from syncer.config.json_reader import read_json
from syncer.config.nodes import Node, Scalar, found
from syncer.config.rule_forms import WrittenRule, writable_value, written_rules
from syncer.config.rule_keys import RuleKeys, read_rule_keys
from syncer.config.text_list import MAX_PROBLEMS
from syncer.diagnostics import Findings, Place, Problem, Unexpected, shown
from syncer.oci.digest import Digest, InvalidDigest
from syncer.oci.reference import LAYOUT, InvalidReference, Repository, check_tag
from syncer.rules.conflicts import with_conflicts
from syncer.rules.destination import split
from syncer.rules.expressions import InvalidPattern, check_pattern
from syncer.rules.naming import DefaultDestination, DestinationTemplate, completed
from syncer.rules.patterns import RepositoryPattern
from syncer.rules.rule import Rule
from syncer.rules.tag_filter import FilteredTags
from syncer.rules.tags import (
    AllTags,
    MatchingTags,
    OneDigest,
    TagSelection,
    TheseTags,
)

OBJECT_KEYS = ("to", *RuleKeys.__struct_fields__)
LIST_KEYS = ("from", *OBJECT_KEYS)
DEFAULT_KEYS = tuple(key for key in OBJECT_KEYS if key != "name")
_EXPECTED_VALUE = 'a destination: text, a list of texts, or a mapping with "to"'
MAX_COPIES = 500_000
"""Pairs of a source and a destination in all files."""
T = TypeVar("T")


def parse_rules(
    trees: Iterable[Node],
    *,
    environment: Mapping[str, str],
    findings: Findings,
    to: str = "",
    default: DefaultDestination | None = None,
) -> tuple[Rule, ...]:
    """Read the trees of all images files. Problems go to `findings`; rules that have some are left out.

    Two rules that contradict each other are no problem: see `Rule.conflicts`. `to` (of `--to`) and `default` name the
    destinations that are empty; a warning says so where there are none for `default`.
    """
    reader = _RuleReader(environment, findings, to, default)
    rules = reader.rules(trees)
    if default is not None and default.stated and not reader.used_default:
        message = "without effect: they name the destinations of rules that have an empty one, and none has"
        if to:
            message = "without effect: --to names the destinations of rules that have an empty one"
        findings.warnings.append(Problem("--registry, --namespace", "", message))
    return with_conflicts(without_duplicates(rules, findings))


def rules_from(
    images: Mapping[str, object] | list[object], environment: Mapping[str, str] | None = None
) -> tuple[Rule, ...]:
    """The rules of an images file given as Python data. Raises `ConfigError`."""
    findings = Findings()
    node = read_json(json.dumps(images), "images", "images", findings)
    rules = parse_rules([node], environment=environment or {}, findings=findings) if node else ()
    findings.raise_if_any()
    return rules


def parse_source(text: str) -> tuple[Repository, TagSelection]:
    """Read a rule's key. Raises `InvalidReference`, `InvalidDigest`, `InvalidPattern`."""
    name, tags, digest = split(text)
    if "*" in name or (name.startswith(LAYOUT) and "//" not in name):
        pattern = RepositoryPattern.parse(name)
        repository = Repository(pattern.host, pattern.path)
        if digest is not None:
            raise InvalidReference(
                f"a digest names one image, and a pattern many repositories: {shown(text)}"
            )
    else:
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


class _RuleReader:
    def __init__(
        self,
        environment: Mapping[str, str],
        findings: Findings,
        to: str,
        default: DefaultDestination | None,
    ) -> None:
        self._environment = environment
        self._findings = findings
        self._to = Scalar(Place("--to"), to.strip(), "text")
        self._default = default
        self._keys: tuple[Node | None, RuleKeys] = (None, RuleKeys())
        self._defaults: tuple[Node | None, RuleKeys] = (None, RuleKeys())
        self.used_default = False

    def rules(self, trees: Iterable[Node]) -> list[Rule]:
        rules: list[Rule] = []
        copies = 0
        written = (rule for tree in trees for rule in written_rules(tree, self._findings))
        for number, each in enumerate(written):
            rule = self._rule(number, each)
            copies += max(1, len(rule.destinations) + len(rule.templates)) if rule else 1
            if copies > MAX_COPIES:
                message = f"expected at most {MAX_COPIES:,} pairs of a source and a destination, found more"
                self._findings.problems.append(each.place.problem(message))
                break
            if len(self._findings.problems) > MAX_PROBLEMS:
                message = f"more than {MAX_PROBLEMS:,} problems; the rest is not read"
                self._findings.problems.append(each.place.problem(message))
                break
            if rule is not None:
                rules.append(rule)
        return rules

    def _rule(self, number: int, written: WrittenRule) -> Rule | None:
        problems = len(self._findings.problems)
        source = self._try(written.place, parse_source, written.source)
        # A destination can be judged without its source: then by the rules for an expression, the loosest.
        selection = source[1] if source else MatchingTags(".")
        keys = self._read_keys(written)
        if keys.tags is not None and source is not None:
            selection = self._selection(written, selection, keys.tags)
        templates = self._templates(written, selection)
        if source is None:
            return None
        pattern = RepositoryPattern(*msgspec.structs.astuple(source[0])) if "*" in source[0].path else None
        known, captures = (pattern.example, ("a",) * pattern.wildcards) if pattern else (source[0], ())
        resolved = [self._try(template.place, template.resolve, known, captures) for template in templates]
        if pattern is None and nodes.has(written.value, "repositories"):
            message = "repositories is only for a source with * or **"
            self._findings.problems.append(written.place.problem(message))
        if len(self._findings.problems) > problems:
            return None
        # The same destination twice is one.
        destinations = dict.fromkeys(destination for destination in resolved if destination is not None)
        return Rule(
            number=number,
            source=source[0],
            selection=selection,
            destinations=()
            if pattern
            else tuple(
                replace(each, attestations=keys.attestations or each.attestations) for each in destinations
            ),
            pattern=pattern,
            templates=tuple(
                dict.fromkeys(
                    msgspec.structs.replace(each, attestations=keys.attestations or each.attestations)
                    for each in templates
                )
            )
            if pattern
            else (),
            written_source=written.source,
            written=writable_value(written),
            place=written.place,
            listed=written.listed,
            **{key: value for key, value in msgspec.structs.asdict(keys).items() if key != "tags"},
        )

    def _selection(self, written: WrittenRule, named: TagSelection, tags: FilteredTags) -> TagSelection:
        """Return the selection of a rule with `tags`. The tags of a source precede those of `defaults`."""
        if isinstance(named, AllTags):
            return tags
        if nodes.has(written.value, "tags"):
            message = f"`tags` cannot be combined with tags or a digest in the source, found {shown(written.source)}"
            self._findings.problems.append(written.place.problem(message))
        return named

    def _read_keys(self, written: WrittenRule) -> RuleKeys:
        """Return the keys of a rule, each from `defaults` if the rule does not set it."""
        if not isinstance(written.value, nodes.Mapping):
            return RuleKeys()
        if self._keys[0] is not written.value:  # the sources of one rule share its keys
            self._check_keys(written.value, LIST_KEYS if written.listed else OBJECT_KEYS)
            self._keys = (written.value, read_rule_keys(written.value, self._findings))
        keys = self._keys[1]
        if written.defaults is None:
            return keys
        if self._defaults[0] is not written.defaults:
            self._check_keys(written.defaults, DEFAULT_KEYS)
            self._defaults = (written.defaults, read_rule_keys(written.defaults, self._findings))
        stated = {
            entry.key for entry in written.value if entry.key != "to" and not nodes.is_null(entry.value)
        }
        return msgspec.structs.replace(
            self._defaults[1],
            **{key: getattr(keys, key) for key in stated & set(RuleKeys.__struct_fields__)},
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

    def _templates(self, written: WrittenRule, selection: TagSelection) -> list[DestinationTemplate]:
        value: Node = written.value
        if isinstance(value, nodes.Mapping):
            value = value.get("to") or nodes.Scalar(value.place, "", "null")
        read: list[DestinationTemplate | None] = []
        for node in _items(value):
            if nodes.is_empty(node):
                read += self._default_templates(node, written, selection)
            else:
                read.append(self._try(node.place, self._template, node, selection))
        return [template for template in read if template is not None]

    def _template(self, node: Node, selection: TagSelection) -> DestinationTemplate:
        if isinstance(node, nodes.Scalar) and node.kind not in ("text", "plain"):
            raise node.place.unexpected(f"expected {_EXPECTED_VALUE}, found {found(node)}")
        text = nodes.text_of(node, "a destination as text")
        return DestinationTemplate(expand(text, self._environment, node.place), text, selection, node.place)

    def _default_templates(
        self, node: Node, written: WrittenRule, selection: TagSelection
    ) -> Iterator[DestinationTemplate | None]:
        """Yield what stands for an empty destination: that of `defaults`, of `--to`, or of `--registry`."""
        stated = written.defaults and written.defaults.get("to")
        for place in _items(stated or self._to):
            if not nodes.is_empty(place):
                yield self._try(place.place, self._completed, place, selection)
                continue
            self.used_default = True
            text = self._default.text if self._default else ""
            if text:
                yield DestinationTemplate(text, text, selection, node.place)
            else:
                self._findings.problems.append(
                    node.place.problem(
                        "expected a destination, found an empty one: write it out, or name a place for all of them with --to,"
                        " or with --registry and --namespace"
                    )
                )

    def _completed(self, node: Node, selection: TagSelection) -> DestinationTemplate:
        template = self._template(node, selection)
        if (text := completed(template.text)) == template.text:
            return template
        return msgspec.structs.replace(template, text=text, written=completed(template.written))

    def _check_keys(self, value: nodes.Mapping, known: Sequence[str]) -> None:
        for entry in value:
            if entry.key not in known:
                message = f"unknown key {shown(entry.key)}: expected {', '.join(known)}"
                self._findings.problems.append(entry.place.problem(message))


def _items(node: Node) -> Sequence[Node]:
    return node.items if isinstance(node, nodes.Sequence) and node.items else (node,)
