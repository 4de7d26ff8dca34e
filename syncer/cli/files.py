"""Reads the files that the options name, and tells their problems."""

import os
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Literal

import click
import msgspec
from msgspec.structs import replace

from syncer.cli.process import say_error
from syncer.config import Config, DefaultDestination, load
from syncer.config.documents import MAX_FILE_SIZE
from syncer.config.rule_forms import given_rule
from syncer.diagnostics import ConfigError, Problem, shown
from syncer.observe import words
from syncer.observe.logs import configure_logging
from syncer.oci.reference import Repository
from syncer.rules.allowlist import Allowlist
from syncer.rules.attestations import Attestations
from syncer.rules.globs import InvalidGlob, check_glob, matches_any
from syncer.rules.naming import DestinationTemplate
from syncer.rules.platforms import InvalidPlatform, PlatformFilter
from syncer.rules.referrers import EVERY_REFERRER
from syncer.rules.rule import Destination, Rule
from syncer.rules.shard import Shard


class FileOptions(msgspec.Struct, frozen=True, kw_only=True):
    """The options about files, which all commands have, named as on the command line.

    `source` and `destination` are the arguments of `copy`: the only rule, in place of those in files.
    """

    auth: Path | None = None
    images: Sequence[Path] = ()
    config: Path | None = None
    to: str | None = None
    rule: Sequence[str] = ()
    registry: str | None = None
    namespace: str | None = None
    allow_source: Sequence[str] = ()
    allow_destination: Sequence[str] = ()
    allow_env: Sequence[str] = ()
    source: str | None = None
    destination: str | None = None


def read_config(options: FileOptions) -> Config:
    """The files, checked. Raises `click.UsageError` and `ConfigError`.

    `registry` and `namespace` name empty destinations, or else the variables do by which image-syncer had them named.
    """
    auth, images, config = options.auth, options.images, options.config
    if config is not None and (auth is not None or images):
        raise click.UsageError("--config has both parts in one file: give it alone, or --auth and --images")
    if config is None and not images and options.source is None:
        raise click.UsageError("--images FILE is missing: the rules of what to copy (or --config FILE)")
    allowed = Allowlist(
        tuple(options.allow_source), tuple(options.allow_destination), tuple(options.allow_env)
    )
    default = DefaultDestination(
        options.registry or os.environ.get("DEFAULT_REGISTRY", ""),
        options.namespace or os.environ.get("DEFAULT_NAMESPACE", ""),
        stated=bool(options.registry or options.namespace),
    )
    config_read = load(
        auth,
        images,
        config,
        rule=None if options.source is None else given_rule(options.source, options.destination),
        standard_input=_standard_input,
        to=options.to or "",
        allowed=allowed,
        default=default,
    )
    return chosen(config_read, options.rule)


@cache
def _standard_input() -> bytes:
    """Return what standard input holds. It can be read once, so a daemon keeps it when it reloads its files."""
    if sys.stdin is None:
        raise OSError(0, "it is closed")
    return sys.stdin.buffer.read(MAX_FILE_SIZE + 1)


def chosen(config: Config, patterns: Sequence[str]) -> Config:
    """Return the configuration with the rules that one of the globs of `--rule` matches. Raises `ConfigError`."""
    if not patterns:
        return config
    try:
        globs = [check_glob(pattern) for pattern in patterns]
    except InvalidGlob as error:
        raise click.BadParameter(str(error), param_hint="--rule") from error
    rules = tuple(rule for rule in config.rules if any(matches_any(globs, name) for name in rule.names))
    if not rules:
        message = (
            f"{', '.join(map(shown, patterns))} matches the name, source or destination of no rule"
            f" ({words.count(len(config.rules), 'rule')} in the files)"
        )
        raise ConfigError(Problem("--rule", "", message), warnings=config.warnings)
    return msgspec.structs.replace(config, rules=rules, all_rules=config.every_rule)


def attested(config: Config, attestations: Attestations | None) -> Config:
    """The same, with the setting of `--attestations` or else of the auth file for rules without one of their own."""

    def stated(repository: Repository) -> Attestations:
        found = attestations or config.auth.settings_for(repository).attestations
        return found or Attestations.AUTO

    def setting(destination: Destination) -> Destination:
        return replace(destination, attestations=stated(destination.repository))

    def template_setting(template: DestinationTemplate, rule: Rule) -> DestinationTemplate:
        # An entry of the auth file is found by the components before the first placeholder.
        host, _, path = template.outline(rule.source.host, rule.source.path.count("*")).partition("/")
        return msgspec.structs.replace(template, attestations=stated(Repository(host, path)))

    rules = tuple(
        rule
        if rule.attestations
        else replace(
            rule,
            destinations=tuple(map(setting, rule.destinations)),
            templates=tuple(template_setting(template, rule) for template in rule.templates),
        )
        for rule in config.rules
    )
    return msgspec.structs.replace(config, rules=rules)


def with_referrers(config: Config) -> Config:
    """Return the configuration with referrers for all rules. A rule keeps its own choice of them."""
    rules = tuple(
        rule if rule.referrers is not None else replace(rule, referrers=EVERY_REFERRER)
        for rule in config.rules
    )
    return msgspec.structs.replace(config, rules=rules)


def filtered(config: Config, *, os_: list[str], arch: list[str]) -> Config:
    """The same, with every rule narrowed by `--os` and `--arch`. Raises `click.BadParameter`."""
    if not os_ and not arch:
        return config
    try:
        wanted = PlatformFilter.of(os=os_, arch=arch)
    except InvalidPlatform as error:
        raise click.BadParameter(str(error), param_hint="--os, --arch") from error
    rules = tuple(replace(rule, platforms=rule.platforms & wanted) for rule in config.rules)
    return msgspec.structs.replace(config, rules=rules)


def without_overwriting(config: Config) -> Config:
    """The same, with no rule that overwrites a tag."""
    rules = tuple(replace(rule, overwrite=False) for rule in config.rules)
    return msgspec.structs.replace(config, rules=rules)


def sharded(config: Config, shard: Shard) -> Config:
    """What of it is to be done here, with this share's part of the registries' limits. All of it has been checked."""
    if shard.whole:
        return config
    rules = shard.rules_of(config.rules)
    return msgspec.structs.replace(
        config,
        auth=config.auth.part(shard.index, shard.count),
        rules=rules,
        warnings=(*config.warnings, *config.auth.scarce_connections(shard.count)),
        elsewhere=len(config.rules) - len(rules),
        all_rules=config.every_rule,
    )


def describe_share(config: Config, shard: Shard) -> str | None:
    """How much of the work is done here; None if that is all of it."""
    if shard.whole:
        return None
    here = len(config.rules)
    nothing = "" if here else ": nothing to do here"
    return f"shard {shard} has {here} of {words.count(here + config.elsewhere, 'rule')}{nothing}"


def tell_problems(error: ConfigError, log_format: Literal["text", "json"] = "text") -> None:
    """Every warning and problem of the files on a line of its own, on stderr."""
    if log_format == "text":
        for warning in error.warnings:
            say_error(f"warning: {warning}")
    tell_errors([str(problem) for problem in error.problems], log_format)
    if log_format == "text":
        say_error(f"{words.count(len(error.problems), 'problem')}; nothing was contacted")


def tell_errors(messages: Sequence[str], log_format: Literal["text", "json"]) -> None:
    """Why the program cannot begin, a line for each message on stderr, in the format of the log."""
    if log_format == "text":
        for message in messages:
            say_error(f"error: {message}")
        return
    log = configure_logging(level="error", format="json", file=None, stream=sys.stderr, secrets=())
    for message in messages:
        log.logger.error("config", message=message)
    log.close()
