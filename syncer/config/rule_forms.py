"""The forms of an images file: a mapping of sources to destinations, an object with `rules`, and a list of rules."""

from collections.abc import Iterator, Sequence

import msgspec

from syncer.config import nodes
from syncer.config.nodes import Entry, Mapping, Node, Scalar
from syncer.diagnostics import Findings, Place, Unexpected, shown

_FLAGS = frozenset({"overwrite", "referrers", "prerelease"})
_NUMBERS = frozenset({"latest", "at_least"})
_EXPECTED_RULE = 'a rule: a source as text, or a mapping with "from"'


class WrittenRule(msgspec.Struct, frozen=True):
    """A rule as a file has it: its source with its place, and its destination or keys.

    `defaults` are the keys of `defaults`. `listed` says that the rule is an item of a list and not a key of a mapping.
    """

    source: str
    place: Place
    value: Node
    defaults: Mapping | None = None
    listed: bool = False


def written_rules(node: Node, findings: Findings) -> Iterator[WrittenRule]:
    """Yield the rules of a file of any form. Problems go to `findings`, and the rules with some are left out."""
    if isinstance(node, nodes.Sequence):
        yield from _listed(node.items, None, findings)
    elif not isinstance(node, Mapping):
        expected = "a mapping of sources to destinations, or a list of rules"
        findings.problems.append(node.place.problem(f"expected {expected}, found {nodes.found(node)}"))
    elif isinstance(rules := node.get("rules"), nodes.Sequence):
        yield from _structured(node, rules, findings)
    else:
        yield from _mapped(node, findings)


def given_rule(source: str, destination: str | None) -> Node:
    """Return the tree of a file with one rule, from the arguments of a command."""
    keys = [
        ("from", "SOURCE", source),
        *([] if destination is None else [("to", "DESTINATION", destination)]),
    ]
    entries = [Entry(key, Place(name), Scalar(Place(name), text, "text")) for key, name, text in keys]
    return nodes.Sequence(Place(), (Mapping(Place("SOURCE"), tuple(entries)),))


def _mapped(document: Mapping, findings: Findings) -> Iterator[WrittenRule]:
    entries = [entry for entry in _as_written(document) if entry.key != "$schema"]
    keys = {entry.key for entry in entries}
    if keys == {"auth", "images"}:
        message = "this is a combined file of auth and images: give it with --config"
        findings.problems.append(document.place.problem(message))
        return
    rules = next((entry for entry in entries if entry.key == "rules"), None)
    if rules is not None and (keys == {"defaults", "rules"} or nodes.is_null(rules.value)):
        message = f"expected a list of rules, found {nodes.found(rules.value)}"
        findings.problems.append(rules.place.problem(message))
        return
    for entry in entries:
        findings.problems += nodes.duplicate_keys(entry.value)
        yield WrittenRule(entry.key, entry.place, entry.value)


def _as_written(document: Mapping) -> Sequence[Entry]:
    """Return all entries: a source may be a key twice."""
    if not document.repeated:
        return document.entries
    return sorted((*document, *document.repeated), key=lambda entry: entry.place.line)


def _structured(document: Mapping, rules: nodes.Sequence, findings: Findings) -> Iterator[WrittenRule]:
    findings.problems += nodes.duplicate_keys(
        msgspec.structs.replace(document, entries=_without_rules(document))
    )
    for entry in document:
        if entry.key not in ("rules", "defaults", "$schema"):
            message = f"unknown key {shown(entry.key)} beside a list of rules: expected rules, defaults"
            findings.problems.append(entry.place.problem(message))
    defaults = document.get("defaults")
    if defaults is not None and not isinstance(defaults, Mapping) and not nodes.is_null(defaults):
        message = f"expected a mapping with keys of rules, found {nodes.found(defaults)}"
        findings.problems.append(defaults.place.problem(message))
    yield from _listed(rules.items, defaults if isinstance(defaults, Mapping) else None, findings)


def _without_rules(document: Mapping) -> tuple[Entry, ...]:
    """Leave out the items of `rules`: each is checked for itself."""
    return tuple(
        Entry(entry.key, entry.place, Scalar(entry.place, "", "null")) if entry.key == "rules" else entry
        for entry in document
    )


def _listed(items: Sequence[Node], defaults: Mapping | None, findings: Findings) -> Iterator[WrittenRule]:
    for item in items:
        try:
            sources, value = _parts(item)
        except Unexpected as unexpected:
            findings.problems.append(unexpected.problem)
            continue
        findings.problems += nodes.duplicate_keys(item)
        for source in sources:
            yield WrittenRule(source.text, source.place, value, defaults, listed=True)


def _parts(item: Node) -> tuple[list[Scalar], Mapping]:
    """Return the sources of a rule, and its other keys. Raises `Unexpected`."""
    if not isinstance(item, Mapping):
        return [_source(item, _EXPECTED_RULE)], Mapping(item.place, ())
    origin = item.get("from")
    if origin is None:
        found = (
            f"the keys {', '.join(shown(entry.key) for entry in item.entries[:3])}"
            if item.entries
            else "no key"
        )
        raise item.place.unexpected(f"expected {_EXPECTED_RULE}, found {found}")
    value = Mapping(item.place, tuple(entry for entry in item if entry.key != "from"))
    expected = "a source as text, or a list of sources"
    if isinstance(origin, nodes.Sequence):
        return [_source(each, expected) for each in nodes.items_of(origin, expected)], value
    return [_source(origin, expected)], value


def _source(node: Node, expected: str) -> Scalar:
    nodes.text_of(node, expected)
    assert isinstance(node, Scalar)
    return node


def writable_value(written: WrittenRule) -> object:
    """Return the value of a rule for writing it into a list of some of its images, with the keys of `defaults`.

    `prune` is left out: a run of the list would remove the tags that the list does not have.
    """
    value = _writable(written.value)
    if not isinstance(value, dict):
        return value
    defaults = {
        entry.key: _writable(entry.value, entry.key)
        for entry in written.defaults or ()
        if entry.key != "to" and not nodes.is_null(entry.value)
    }
    return {key: item for key, item in (defaults | value).items() if key != "prune"}


def _writable(node: Node, key: str = "") -> object:
    """Return the node as Python data. Texts keep their form: a tag 1.10 is no number."""
    if key == "verify":
        return _with_absolute_paths(node)
    if isinstance(node, Mapping):
        return {
            entry.key: _writable(entry.value, entry.key) for entry in node if not nodes.is_null(entry.value)
        }
    if isinstance(node, nodes.Sequence):
        return [_writable(item) for item in node.items]
    try:
        if key in _FLAGS:
            return nodes.flag_of(node)
        if key in _NUMBERS:
            return int(nodes.number_of(node))
    except Unexpected:
        pass  # the reader of the key reports it
    return node.text


def _with_absolute_paths(node: Node) -> object:
    """Return `verify` with paths that name the same files from a list in any folder."""
    if isinstance(node, Mapping):
        return {entry.key: _with_absolute_paths(entry.value) for entry in node}
    if isinstance(node, nodes.Sequence):
        return [_with_absolute_paths(item) for item in node.items]
    return str(nodes.path_from(node.place, node.text).absolute())
