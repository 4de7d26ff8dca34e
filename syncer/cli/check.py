"""`syncer check`: every problem of the files at once, and on demand whether the registries let us do what the rules want."""

from collections.abc import AsyncIterator, Iterable, Iterator
from typing import TYPE_CHECKING

import anyio
import click

from syncer.cli import exits
from syncer.cli.files import FileOptions, read_config, tell_problems
from syncer.cli.process import say, say_error
from syncer.config import Config, Rule
from syncer.diagnostics import ConfigError
from syncer.errors import RegistryError, source_not_found
from syncer.events import ProjectMade
from syncer.observe import words
from syncer.observers import Observer
from syncer.oci.reference import Repository
from syncer.rules.tags import OneDigest, TheseTags

if TYPE_CHECKING:
    from syncer.http.client import RegistryClient
    from syncer.places.open import PlaceDirectory


def check_files(options: FileOptions, *, online: bool) -> int:
    """The exit code: 0 if all is well, 2 for a bad file, 1 where a registry refuses what the rules need."""
    try:
        checked = read_config(options)
    except ConfigError as error:
        tell_problems(error)
        return exits.UNUSABLE
    for warning in checked.warnings:
        click.echo(f"warning: {warning}", err=True)
    for rule in checked.rules:
        source = rule.source_text if rule.name == rule.source_text else f"{rule}: {rule.source_text}"
        for destination in rule.destinations:
            say(f"{source} -> {destination.written or destination.repository}")
        for template in rule.templates:
            say(f"{source} -> {template.written}")
    count = len(checked.rules)
    for conflict in checked.conflicts:
        say_error(f"error: {conflict}")
    problems = words.count(len(checked.conflicts), "problem") if checked.conflicts else "no problems"
    say(f"{words.count(count, 'rule')}: {problems} found")
    asked = anyio.run(_ask_registries, checked) if online else exits.DONE
    return exits.UNUSABLE if checked.conflicts else asked


async def _ask_registries(config: Config) -> int:
    """Show for every registry and account whether it is let in, and what it may not do of what the rules want."""
    from syncer.accounts.credentials import Credentials
    from syncer.http.wire import ConnectionPool
    from syncer.places.open import PlaceDirectory

    projects = _Projects()
    problems = 0
    async with ConnectionPool() as transport:
        directory = PlaceDirectory(
            account_for=Credentials(config.auth).account_for,
            settings_for=config.auth.settings_for,
            transport=transport,
            observer=projects,
            connections=4,
            dry_run=True,
        )
        for client, reads, writes in _by_client(config, directory):
            account = f"with the account {client.account.name!r}" if client.account else "anonymously"
            found = [problem async for problem in _problems(client, directory, reads, writes, projects)]
            for line in dict.fromkeys(found) or ["ok"]:
                say(f"{client.host} {account}: {line}")
            problems += len(found)
        problems += await _read_layouts(config, directory)
    for host, project in projects.made:
        say(f"{host}: project {project} is missing, a run makes it")
    return exits.FAILED if problems else exits.DONE


async def _read_layouts(config: Config, directory: "PlaceDirectory") -> int:
    """Show for every layout that is a source whether it can be read. Return the number of problems."""
    found: dict[str, list[str]] = {}
    for rule in config.rules:
        if rule.source.layout is not None:
            problems = found.setdefault(rule.source.host, [])
            try:
                await _read(directory, rule)
            except RegistryError as error:
                problems.append(str(error))
    for host, lines in found.items():
        for line in dict.fromkeys(lines) or ["ok"]:
            say(f"{host}: {line}")
    return sum(map(len, found.values()))


class _Projects(Observer):
    """Hears which projects a run would make."""

    def __init__(self) -> None:
        super().__init__()
        self.made: set[tuple[str, str]] = set()

    def on_project_made(self, event: ProjectMade) -> None:
        self.made.add((event.registry, event.project))


def _by_client(
    config: Config, directory: "PlaceDirectory"
) -> Iterator[tuple["RegistryClient", list[Rule], list[Repository]]]:
    """Each registry and account, with the rules that read there and the repositories that are written to."""
    sources = {rule.source: rule for rule in config.rules if rule.source.layout is None}
    destinations = dict.fromkeys(
        each.repository
        for rule in config.rules
        for each in rule.destinations
        if each.repository.layout is None
    )
    for client in dict.fromkeys(directory.client(each) for each in (*sources, *destinations)):
        yield (
            client,
            [rule for source, rule in sources.items() if directory.client(source) is client],
            [each for each in destinations if directory.client(each) is client],
        )


async def _problems(
    client: "RegistryClient",
    directory: "PlaceDirectory",
    reads: Iterable[Rule],
    writes: Iterable[Repository],
    projects: _Projects,
) -> AsyncIterator[str]:
    """What is refused, a line each. Nothing but the account itself is asked where its tokens say that all is well."""
    if client.account is not None:
        try:
            await client.ping()
        except RegistryError as error:
            yield str(error)
            return
    for rule in reads:
        try:
            if rule.pattern is not None:
                await _list(directory, rule.source.host, rule.pattern.prefix)
            elif client.account is None or await _lacks(client, rule.source, "pull"):
                await _read(directory, rule)
        except RegistryError as error:
            yield str(error)
    for repository in writes:
        try:
            lacking = await _lacks(client, repository, "push")
            if lacking is not False:
                await directory.destination(repository).is_new()
            if lacking and (repository.host, repository.path.partition("/")[0]) not in projects.made:
                yield f"{repository}: the account may not push there, so its token says; give it the right to"
        except RegistryError as error:
            yield str(error)


async def _lacks(client: "RegistryClient", repository: Repository, action: str) -> bool | None:
    """Whether a token says that the account may not do this there; None where no token says anything."""
    wanted = "pull,push" if action == "push" else action
    rights = await client.rights((f"repository:{repository.path}:{wanted}",))
    if rights is None or (rights and repository.path not in rights):
        return None
    return not {action, "*"} & rights.get(repository.path, frozenset())


async def _list(directory: "PlaceDirectory", host: str, prefix: str) -> None:
    """Ask for the first page of a list of repositories. Raises `RegistryError`."""
    listing = await directory.listing(Repository(host, prefix)).listing(prefix)
    async for _page in listing.pages():
        return


async def _read(directory: "PlaceDirectory", rule: Rule) -> None:
    """Ask for what the rule reads. Raises `RegistryError`."""
    source = directory.source(rule.source)
    match rule.selection:
        case TheseTags(tags=(target, *_)) | OneDigest(digest=target):
            if await source.resolve(target) is None:
                raise source_not_found(f"{rule.source}:{target}", rule.source.host)
        case _:
            async for _page in source.tags():
                return
