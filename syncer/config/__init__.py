"""What the user wrote, checked: all problems at once, each with its place."""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import msgspec

from syncer.accounts.book import AuthBook
from syncer.accounts.settings import Account, HostSettings, Secret
from syncer.config.auth_reader import parse_auth
from syncer.config.documents import read_document
from syncer.config.image_lists import merge_entries
from syncer.config.nodes import Node, duplicate_keys, mapping_of
from syncer.config.rule_files import read_rule_files
from syncer.config.rule_reader import parse_rules, rules_from
from syncer.config.variables import RuleVariables, credential_variables
from syncer.diagnostics import ConfigError, Findings, Problem, Unexpected, shown
from syncer.oci.reference import Repository
from syncer.rules.allowlist import EVERYTHING, Allowlist
from syncer.rules.naming import DefaultDestination
from syncer.rules.platforms import (
    InvalidPlatform,
    PlatformFilter,
    PlatformPattern,
    parse_arch,
    parse_os,
    parse_platform,
)
from syncer.rules.rule import Destination, Rule
from syncer.rules.schedules import InvalidSchedule, check_schedule
from syncer.rules.tags import AllTags, MatchingTags, OneDigest, TagSelection, TheseTags

__all__ = [
    "Account",
    "AllTags",
    "AuthBook",
    "Config",
    "ConfigError",
    "DefaultDestination",
    "Destination",
    "HostSettings",
    "InvalidPlatform",
    "InvalidSchedule",
    "MatchingTags",
    "OneDigest",
    "PlatformFilter",
    "PlatformPattern",
    "Problem",
    "Rule",
    "Secret",
    "TagSelection",
    "TheseTags",
    "check_schedule",
    "load",
    "merge_entries",
    "parse_arch",
    "parse_os",
    "parse_platform",
    "rules_from",
]


class Config(msgspec.Struct, frozen=True):
    """The user's files, read and checked: rules may still contradict each other.

    `elsewhere` counts the rules that are left to other shares. `allowed` is what rules may name: a run checks the names
    that it finds by patterns. `all_rules` are those of the files if `rules` are only some of them; see `every_rule`.
    """

    auth: AuthBook
    rules: tuple[Rule, ...] = ()
    warnings: tuple[Problem, ...] = ()
    elsewhere: int = 0
    allowed: Allowlist = EVERYTHING
    all_rules: tuple[Rule, ...] | None = None

    @property
    def every_rule(self) -> tuple[Rule, ...]:
        """All rules of the files, whatever options select."""
        return self.rules if self.all_rules is None else self.all_rules

    @property
    def conflicts(self) -> tuple[Problem, ...]:
        """What cannot be copied as the rules stand, a problem for each image and rule."""
        return tuple(
            rule.place.problem(conflict.message) for rule in self.rules for conflict in rule.conflicts
        )


def load(
    auth: Path | None = None,
    images: Path | Sequence[Path] = (),
    combined: Path | None = None,
    *,
    rule: Node | None = None,
    environment: Mapping[str, str] = os.environ,
    standard_input: Callable[[], bytes] = bytes,
    to: str = "",
    default: DefaultDestination | None = None,
    allowed: Allowlist = EVERYTHING,
) -> Config:
    """Read the files that are given. Raises `ConfigError` with all problems of all of them.

    `images` are files and folders; `-` is what `standard_input` returns. `rule` is a rule that is not in a file; it
    replaces those of the files. `to` and `default` name the destinations that are empty: see `parse_rules`.
    In a `combined` file credentials are literal; in an `auth` file they may name variables of the `environment`,
    which have to be set for the entries that a rule needs. Rules may use what `allowed` says, and no variable that
    the auth file uses.
    """
    findings = Findings()
    book = AuthBook()
    trees = [] if rule is None else [rule]
    if combined is not None:
        book, sources = _read_combined(combined, findings)
        if rule is None and sources is not None:
            trees.append(sources)
    credentials: frozenset[str] = frozenset()
    if auth is not None and (node := read_document(auth, "auth", findings)) is not None:
        findings.problems += duplicate_keys(node)
        credentials = credential_variables(node)
        book = parse_auth(node, folder=auth.parent, environment=environment, findings=findings)
    if rule is None:
        paths = (images,) if isinstance(images, Path) else images
        trees += read_rule_files(paths, findings, standard_input=standard_input)
    variables = RuleVariables(
        environment, credentials=credentials, secrets=book.secrets(), allowed=allowed.variables
    )
    rules = parse_rules(trees, environment=variables, findings=findings, to=to, default=default)
    findings.problems += allowed.problems(rules)
    _judge_entries(book, rules, findings)
    findings.raise_if_any()
    return Config(book, rules, tuple(findings.warnings), allowed=allowed)


def _judge_entries(book: AuthBook, rules: Iterable[Rule], findings: Findings) -> None:
    """What is wrong with an entry is a problem where a rule needs the entry, and else a warning."""
    needed = book.problems_for(_repositories(rules, book))
    # A rule that could not be read may need it, too.
    ignored = "" if findings.problems else "; ignored, since no rule needs it"
    findings.warnings += [
        msgspec.structs.replace(problem, message=f"{problem.message}{ignored}")
        for problem in book.entry_problems()
        if problem not in needed
    ]
    findings.problems[:0] = needed


def _read_combined(path: Path, findings: Findings) -> tuple[AuthBook, Node | None]:
    """Return the accounts of a combined file, and the tree of its rules."""
    node = read_document(path, "", findings)
    if node is None:
        return AuthBook(), None
    try:
        document = mapping_of(node, 'a mapping with "auth" and "images"')
    except Unexpected as unexpected:
        findings.problems.append(unexpected.problem)
        return AuthBook(), None
    for entry in document:
        if entry.key not in ("auth", "images", "$schema"):
            findings.warnings.append(entry.place.problem(f"unknown key {shown(entry.key)}, ignored"))
    for entry in document.repeated:
        if entry.key in ("auth", "images"):
            findings.problems.append(entry.place.problem("stands there twice"))
    book = AuthBook()
    if (accounts := document.get("auth")) is not None:
        findings.problems += duplicate_keys(accounts)
        book = parse_auth(accounts, folder=path.parent, environment=None, findings=findings)
    sources = document.get("images")
    if sources is None:
        findings.problems.append(document.place.problem('expected "images" with the rules, found none'))
    return book, sources


def _repositories(rules: Iterable[Rule], book: AuthBook) -> Iterator[Repository]:
    """All that the rules speak to, mirrors of their sources too."""
    for rule in rules:
        yield rule.source
        for mirror in book.settings_for(rule.source).mirrors:
            yield Repository(mirror, rule.source.path)
        for destination in rule.destinations:
            yield destination.repository
