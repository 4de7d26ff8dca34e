"""`Selection`: which rules and tags a client of the API asked for."""

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from syncer.config import Config
from syncer.daemon.runs import Work
from syncer.rules.globs import InvalidGlob, check_glob, matches_any
from syncer.rules.rule import Rule

_MAX_SHOWN = 200


class InvalidSelection(ValueError):
    """The body of a request does not select rules and tags."""


class UnknownRule(ValueError):
    """A name, source or glob matches no rule."""


class _Body(msgspec.Struct, forbid_unknown_fields=True):
    rules: list[str] = []
    tags: list[str] = []


@dataclass(frozen=True, slots=True)
class Selection:
    """Names, sources or globs of rules, and globs of tags. Without `rules` all rules are meant, without `tags` all tags."""

    rules: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()

    @classmethod
    def parse(cls, body: bytes) -> "Selection":
        """Read a request body such as `{"rules": ["base-images"], "tags": ["1.*"]}`. Raises `InvalidSelection`."""
        if not body.strip():
            return EVERYTHING
        try:
            found = msgspec.json.decode(body, type=_Body)
            for glob in found.tags:
                check_glob(glob)
        except (msgspec.MsgspecError, UnicodeError, RecursionError, InvalidGlob) as error:
            raise InvalidSelection(str(error)[:_MAX_SHOWN]) from None
        return cls(tuple(found.rules), tuple(found.tags))

    def work(self, config: Config) -> Work:
        """Return the selected work. Raises `UnknownRule`."""
        if not self.rules:
            return Work(config.rules, self.tags)
        chosen: dict[int, Rule] = {}
        for pattern in self.rules:
            found = [rule for rule in config.rules if is_meant(pattern, rule)]
            if not found:
                raise UnknownRule(f"no rule matches {pattern[:_MAX_SHOWN]!r}")
            chosen |= {rule.number: rule for rule in found}
        return Work([chosen[number] for number in sorted(chosen)], self.tags)


EVERYTHING = Selection()


def is_meant(pattern: str, rule: Rule) -> bool:
    """Return whether `pattern` is the name or source of a rule, or a glob that matches one of them."""
    names = (rule.name, rule.source_text, str(rule.source))
    return pattern in names or any(matches_any([pattern], name) for name in names)


def rules_named(name: str, rules: Sequence[Rule]) -> list[Rule]:
    """Return the rules with exactly this name. Raises `UnknownRule` if there is none."""
    found = [rule for rule in rules if rule.name == name]
    if not found:
        raise UnknownRule(f"no rule is named {name[:_MAX_SHOWN]!r}")
    return found
