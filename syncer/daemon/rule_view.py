"""The content of the pages of a rule: what it means, what became of its images, and what a run of it would do."""

import sqlite3
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from glob import escape

import msgspec

from syncer.daemon.run_view import PER_PAGE, Reports, page_of, text_of
from syncer.daemon.selection import UnknownRule, rules_named
from syncer.daemon.service import Service
from syncer.daemon.status import rules_of
from syncer.observe.causes import Causes, parts_of
from syncer.oci.reference import Repository
from syncer.rules.meeting import may_meet, outlines
from syncer.rules.rule import Rule
from syncer.state.history import Document, utc

MAX_BEHIND = 20
"""Maximum number of images to list that are behind."""


@dataclass(frozen=True, slots=True)
class RuleView:
    """A rule, the images that are behind with the time since when, and why images failed in its last run.

    `pruned` are the tags that its last run removed from its destinations. `body` starts a run of the rule.
    """

    rule: Document
    behind: Sequence[tuple[str, str]]
    causes: Causes
    pruned: Sequence[Document]
    body: str


@dataclass(frozen=True, slots=True)
class PlanView:
    """One page of a plan. `actions` counts the images by action; `found` of them match `text`."""

    plan: Document
    actions: Counter[str] = field(default_factory=Counter)
    images: Sequence[Document] = ()
    found: int = 0
    text: str = ""
    page: int = 1

    @property
    def pages(self) -> int:
        return max(1, -(-self.found // PER_PAGE))


async def rule_view(service: Service, reports: Reports, name: str) -> RuleView:
    """Return the page of the rules with this name. Raises `UnknownRule`, `sqlite3.Error`."""
    rules = rules_named(name, service.files.config.rules)
    documents = await rules_of(service, {name})
    if not documents:
        raise UnknownRule(f"no rule is named {name[:200]!r}")
    rule = documents[0]
    writes = _destination_filter(rules)
    causes = Causes(source_filter(rules))
    pruned: list[Document] = []
    failed = rule["last"] is not None and rule["last"]["outcome"] != "success"
    if failed or (rule["last"] is not None and any(each.prune for each in rules)):
        with suppress(KeyError, sqlite3.Error):  # the report may have been deleted
            run = await reports.read(rule["last"]["run"], causes.see)
            pruned = [tag for tag in run["pruned"] if writes(tag["destination"])]
    behind = sorted((since, name) for name, since in service.lag.behind().items() if writes(name))
    body = msgspec.json.encode({"rules": [escape(name)]}).decode()
    return RuleView(rule, [(name, utc(since)) for since, name in behind[:MAX_BEHIND]], causes, pruned, body)


def _destination_filter(rules: Sequence[Rule]) -> Callable[[str], bool]:
    """Return a function that tells whether one of the rules may write to a destination."""
    written = tuple(outline for rule in rules for outline in outlines(rule))
    return lambda destination: may_meet((parts_of(destination)[0],), written)


def source_filter(rules: Sequence[Rule]) -> Callable[[Document], bool]:
    """Return a function that tells whether an image of a report is from a source of one of the rules."""
    sources = {str(rule.source) for rule in rules if rule.pattern is None}
    patterns = [rule.pattern for rule in rules if rule.pattern is not None]

    def wanted(image: Document) -> bool:
        name = parts_of(image["source"])[0]
        if name in sources or not patterns:
            return name in sources
        host, _, path = name.partition("/")
        return any(pattern.match(Repository(host, path)) is not None for pattern in patterns)

    return wanted


def plan_view(plan: Document, query: Mapping[str, str]) -> PlanView:
    """Return one page of a plan. `query` has `q`, a text to find, and `page`."""
    text, page = text_of(query), page_of(query)
    actions = Counter(str(image["plan"]["action"]) for image in plan["images"])
    found = [
        image
        for image in plan["images"]
        if text.lower() in f"{image['source']} {image['destination']} {image['plan']['reason']}".lower()
    ]
    found.sort(key=lambda image: bool(image["plan"]["action"] == "none" and image["outcome"] != "failed"))
    first = (page - 1) * PER_PAGE
    return PlanView(plan, actions, found[first : first + PER_PAGE], len(found), text, page)
