"""`load`: push the images of archives to registries."""

import os
import stat
import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import click
import msgspec
from msgspec.structs import replace

from syncer.cli.archives import Prepared, run_prepared
from syncer.cli.files import chosen
from syncer.cli.once import narrowed
from syncer.cli.once_options import OnceOptions
from syncer.config import load
from syncer.diagnostics import ConfigError, Problem
from syncer.oci.digest import Digest, InvalidDigest
from syncer.oci.reference import InvalidReference, Repository
from syncer.places.layout.index import Index, InvalidIndex, parse_index, unnamed_repository
from syncer.places.layout.open import Layouts, LoadedArchive, missing_volumes, open_archive, problem_of
from syncer.rules.allowlist import Allowlist
from syncer.rules.conflicts import with_conflicts
from syncer.rules.naming import DestinationTemplate, completed
from syncer.rules.patterns import RepositoryPattern
from syncer.rules.referrers import EVERY_REFERRER
from syncer.rules.rule import Destination, Rule
from syncer.rules.tags import AllTags, OneDigest, TagSelection, TheseTags

STDIN = Path("-")
_STDIN_NAME = Path("/dev/stdin")


class LoadOptions(OnceOptions, frozen=True, kw_only=True):
    """The options of `load`, named as on the command line."""

    files: Sequence[Path]


def run_load(options: LoadOptions) -> int:
    """Load the archives. Return the exit code; problems of the files are reported on stderr."""
    if not options.to:
        raise click.UsageError("--to PLACE is missing: where to push the images")
    return run_prepared(options, partial(_prepare, options))


def _prepare(options: LoadOptions) -> Prepared:
    # Rules of a combined file are not used.
    config = load(options.auth, combined=options.config)
    place = options.to or ""
    layouts, stream, archives = Layouts(), None, []
    try:
        template = DestinationTemplate(completed(place), place)
        if STDIN in options.files and _is_pipe():
            if len(options.files) > 1:
                raise click.UsageError("a pipe must be the only archive: - together with files needs < FILE")
            name = Repository.in_layout(_STDIN_NAME)
            stream = layouts.add_stream(name, os.dup(sys.stdin.fileno()))
            rules: tuple[Rule, ...] = (_whole(name, template),)
        else:
            archives = _by_age([_open(path) for path in dict.fromkeys(options.files)])
            layouts.add_archives(archives)
            rules = with_conflicts(_rules(archives, template))
    except (InvalidReference, InvalidDigest) as error:
        raise ConfigError(Problem("--to", "", str(error))) from error
    allowed = Allowlist(
        tuple(options.allow_source), tuple(options.allow_destination), tuple(options.allow_env)
    )
    if problems := list(allowed.problems(rules)):
        raise ConfigError(*problems)
    warnings = (*config.warnings, *_warnings(archives))
    # What belongs to an image was saved on purpose.
    rules = tuple(replace(rule, referrers=EVERY_REFERRER) for rule in rules)
    loaded = chosen(msgspec.structs.replace(config, rules=rules, warnings=warnings), options.rule)
    return Prepared(narrowed(loaded, options), layouts, stream)


def _is_pipe() -> bool:
    return sys.stdin is not None and not stat.S_ISREG(os.fstat(sys.stdin.fileno()).st_mode)


def _whole(name: Repository, template: DestinationTemplate) -> Rule:
    """Return the rule for all images of a stream: what they are is known at its end."""
    pattern = RepositoryPattern(name.host, "**")
    template.resolve(pattern.example, ("a",))
    return Rule(
        0, Repository(name.host, "**"), AllTags(), (), pattern=pattern, templates=(template,), name=str(name)
    )


def _open(path: Path) -> LoadedArchive:
    try:
        if path == STDIN:
            return open_archive(_STDIN_NAME, _standard_input())
        return open_archive(path)
    except OSError as error:
        raise ConfigError(Problem(str(path), "", f"cannot be read: {error.strerror or error}")) from error


def _standard_input() -> int:
    if sys.stdin is None:
        raise OSError(0, "it is closed")
    return os.dup(sys.stdin.fileno())


def _by_age(archives: Sequence[LoadedArchive]) -> list[LoadedArchive]:
    """Sort archives so that an incremental one comes after those that it is based on."""
    return sorted(
        archives, key=lambda archive: max((len(each.since) for each in archive.contents), default=0)
    )


def _warnings(archives: Sequence[LoadedArchive]) -> Iterator[Problem]:
    for archive in archives:
        if problem := problem_of(archive, archives):
            yield Problem(str(archive.name), "", problem)
    for volume in missing_volumes(archives):
        yield Problem(volume, "", "this volume was not given; images that need it fail")


def _rules(archives: Sequence[LoadedArchive], template: DestinationTemplate) -> Iterator[Rule]:
    """Yield a rule for each repository of each archive, and one for each archive that is damaged.

    Of a reference that several archives have, the last archive counts.
    """
    number = 0
    found: dict[Repository, dict[str, Repository]] = {}
    damaged: list[Repository] = []
    for archive in archives:
        index = _index(archive)
        if index is None or index.unreadable or problem_of(archive, archives):
            damaged.append(archive.name)
        for repository, targets in (index.entries if index else {}).items():
            found.setdefault(repository, {}).update(dict.fromkeys(targets, archive.name))
    for repository, holders in found.items():
        for place, selection in _selections(holders):
            source = Repository(place.host, str(repository))
            destination = msgspec.structs.replace(template, selection=selection).resolve(source)
            yield Rule(number, source, selection, (destination,))
            number += 1
    for name in damaged:
        yield Rule(number, name, AllTags(), (Destination(name),))
        number += 1


def _index(archive: LoadedArchive) -> Index | None:
    """Return the references of an archive, or None if it has none that can be read."""
    path = Path(archive.name.layout or "")
    try:
        raw = archive.store.read_index()
        return parse_index(raw, unnamed_repository(path.name.removesuffix(".tar"))) if raw else None
    except (OSError, InvalidIndex):
        return None


def _selections(holders: Mapping[str, Repository]) -> Iterator[tuple[Repository, TagSelection]]:
    """Yield what to select of a repository in each archive: tags together, and each digest alone."""
    tags: dict[Repository, list[str]] = {}
    for target, place in holders.items():
        if ":" in target:
            yield place, OneDigest(Digest.parse(target))
        else:
            tags.setdefault(place, []).append(target)
    for place, named in tags.items():
        yield place, TheseTags(tuple(named))
