"""Reads the keys of a rule whose values do not depend on its source or destination."""

from collections.abc import Callable
from typing import Any, TypeVar

import msgspec

from syncer.config import nodes
from syncer.config.nodes import Node
from syncer.config.tags_reader import read_tags
from syncer.diagnostics import Findings, Unexpected, shown
from syncer.files import read_stored_bytes, why
from syncer.rules.attestations import Attestations
from syncer.rules.globs import InvalidGlob, check_glob
from syncer.rules.patterns import EVERY_REPOSITORY, RepositoryFilter
from syncer.rules.platforms import (
    EVERY_PLATFORM,
    InvalidPlatform,
    PlatformFilter,
    PlatformPattern,
    parse_platform,
)
from syncer.rules.prune import DEFAULT_LIMIT, PruneRule
from syncer.rules.referrers import EVERY_REFERRER, ReferrerFilter, VerificationKey
from syncer.rules.schedules import InvalidSchedule, check_schedule
from syncer.rules.tag_filter import FilteredTags

T = TypeVar("T")
MAX_NAME_LENGTH = 200
MAX_KEYS = 100
MAX_KEY_FILE_SIZE = 64 * 1024
"""Bytes."""


class RuleKeys(msgspec.Struct, frozen=True):
    """The values of these keys. The defaults are those of `Rule`. `tags` is its selection."""

    platforms: PlatformFilter = EVERY_PLATFORM
    schedule: str | None = None
    attestations: Attestations | None = None
    name: str = ""
    overwrite: bool = True
    immutable: tuple[str, ...] = ()
    referrers: ReferrerFilter | None = None
    verify: tuple[VerificationKey, ...] = ()
    repositories: RepositoryFilter = EVERY_REPOSITORY
    prune: PruneRule | None = None
    tags: FilteredTags | None = None


def read_rule_keys(value: nodes.Mapping, findings: Findings) -> RuleKeys:
    """Read the keys that a rule's object has. Problems go to `findings`; a key with a problem keeps its default."""
    read: dict[str, Any] = {}
    for entry in value:
        reader = _READERS.get(entry.key)
        if reader is None or nodes.is_null(entry.value):
            continue
        try:
            read[entry.key] = reader(entry.value, findings)
        except Unexpected as unexpected:
            findings.problems.append(unexpected.problem)
        except (InvalidGlob, InvalidPlatform, InvalidSchedule) as error:
            findings.problems.append(entry.value.place.problem(str(error)))
    return RuleKeys(**read)


def _name(node: Node, _findings: Findings) -> str:
    name = nodes.text_of(node, "a name as text").strip()
    if not name or len(name) > MAX_NAME_LENGTH or not name.isprintable():
        raise node.place.unexpected(
            f"expected a name of 1 to {MAX_NAME_LENGTH} printable characters, found {shown(name)}"
        )
    return name


def _platforms(node: Node, findings: Findings) -> PlatformFilter:
    def read(item: Node) -> PlatformPattern:
        return parse_platform(nodes.text_of(item, "a platform as text"))

    patterns = _each(node, 'a list of platforms, as ["linux/amd64"]', read, findings)
    return PlatformFilter((tuple(dict.fromkeys(patterns)),))


def _schedule(node: Node, _findings: Findings) -> str:
    return check_schedule(nodes.text_of(node, "a schedule as text"))


def _attestations(node: Node, _findings: Findings) -> Attestations:
    return nodes.attestations_of(node)


def _overwrite(node: Node, _findings: Findings) -> bool:
    return nodes.flag_of(node)


def _globs(node: Node, findings: Findings) -> tuple[str, ...]:
    """Read a glob or a list of globs."""

    def read(item: Node) -> str:
        return check_glob(nodes.text_of(item, "a glob as text"))

    if isinstance(node, nodes.Scalar):
        return (read(node),)
    return tuple(_each(node, 'a list of globs, as ["v*"]', read, findings))


def _globs_or_none(node: Node, findings: Findings) -> tuple[str, ...]:
    """Read globs, where an empty list means that nothing matches."""
    return () if isinstance(node, nodes.Sequence) and not node.items else _globs(node, findings)


def _referrers(node: Node, findings: Findings) -> ReferrerFilter | None:
    if not isinstance(node, nodes.Mapping):
        return EVERY_REFERRER if nodes.flag_of(node) else None
    _check_keys(node, ("include", "exclude"), findings)
    return ReferrerFilter(**_included(node, findings))


def _verify(node: Node, findings: Findings) -> tuple[VerificationKey, ...]:
    expected = 'a mapping with "keys", as {keys: [cosign.pub]}'
    mapping = nodes.mapping_of(node, expected)
    _check_keys(mapping, ("keys",), findings)
    keys = mapping.get("keys")
    if keys is None:
        raise node.place.unexpected(f"expected {expected}, found no keys")
    read = _each(keys, "a list of files with public keys", _verification_key, findings)
    if len(read) > MAX_KEYS:
        raise keys.place.unexpected(f"expected {MAX_KEYS} keys at most, found {len(read)}")
    return tuple(read)


def _verification_key(node: Node) -> VerificationKey:
    written = nodes.text_of(node, "the path of a file with a public key")
    path = nodes.path_from(node.place, written)
    try:
        content = read_stored_bytes(path, MAX_KEY_FILE_SIZE)
    except (OSError, ValueError) as error:
        raise node.place.unexpected(f"cannot read the key {shown(written)}: {why(error)}") from error
    key = VerificationKey(written, content)
    from syncer.signatures import InvalidKey, MissingExtra, Verifier

    try:
        Verifier((key,))
    except (InvalidKey, MissingExtra) as error:
        raise node.place.unexpected(str(error)) from error
    return key


def _prune(node: Node, findings: Findings) -> PruneRule:
    mapping = nodes.mapping_of(node, 'a mapping, as {keep: ["v*"], limit: "10%"}')
    _check_keys(mapping, ("keep", "limit", "foreign"), findings)
    keep, limit, foreign = (mapping.get(key) for key in ("keep", "limit", "foreign"))
    return PruneRule(
        keep=() if keep is None or nodes.is_empty(keep) else _globs(keep, findings),
        limit=DEFAULT_LIMIT if limit is None or nodes.is_null(limit) else _fraction(limit),
        foreign=False if foreign is None else nodes.flag_of(foreign),
    )


def _repositories(node: Node, findings: Findings) -> RepositoryFilter:
    mapping = nodes.mapping_of(node, 'a mapping, as {exclude: ["*-cache"]}')
    _check_keys(mapping, ("include", "exclude"), findings)
    return RepositoryFilter(**_included(mapping, findings))


def _included(mapping: nodes.Mapping, findings: Findings) -> dict[str, tuple[str, ...]]:
    """Read the globs of `include` and `exclude`."""
    readers = {"include": _globs, "exclude": _globs_or_none}
    return {
        key: read(found, findings)
        for key, read in readers.items()
        if (found := mapping.get(key)) is not None and not nodes.is_null(found)
    }


def _fraction(node: Node) -> float:
    expected = 'a percentage from 0% to 100%, as "10%"'
    text = nodes.text_of(node, expected).strip()
    digits = text.removesuffix("%").strip()
    if not text.endswith("%") or not digits.isascii() or not digits.replace(".", "", 1).isdigit():
        raise node.place.unexpected(f"expected {expected}, found {shown(text)}")
    fraction = float(digits) / 100
    if fraction > 1:
        raise node.place.unexpected(f"expected {expected}, found {shown(text)}")
    return fraction


def _check_keys(mapping: nodes.Mapping, known: tuple[str, ...], findings: Findings) -> None:
    for entry in mapping:
        if entry.key not in known:
            message = f"unknown key {shown(entry.key)}: expected {', '.join(known)}"
            findings.problems.append(entry.place.problem(message))


def _each(node: Node, expected: str, read: Callable[[Node], T], findings: Findings) -> list[T]:
    """Read each item of a list. Each item with a problem adds it to `findings`, and is left out."""
    found: list[T] = []
    for item in nodes.items_of(node, expected):
        try:
            found.append(read(item))
        except Unexpected as unexpected:
            findings.problems.append(unexpected.problem)
        except (InvalidGlob, InvalidPlatform) as error:
            findings.problems.append(item.place.problem(str(error)))
    return found


_READERS: dict[str, Callable[[Node, Findings], object]] = {
    "name": _name,
    "platforms": _platforms,
    "schedule": _schedule,
    "attestations": _attestations,
    "overwrite": _overwrite,
    "immutable": _globs_or_none,
    "referrers": _referrers,
    "verify": _verify,
    "prune": _prune,
    "tags": read_tags,
    "repositories": _repositories,
}
