"""`save`: write the images of the rules to an image layout, in a folder or in a tar file."""

import os
import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import click
import msgspec
from msgspec.structs import replace

from syncer.cli.archives import Prepared, run_prepared
from syncer.cli.once import load_config
from syncer.cli.once_options import OnceOptions
from syncer.config import Config
from syncer.observe.files import write_beside
from syncer.oci.descriptor import Descriptor
from syncer.oci.reference import Reference, Repository
from syncer.places.layout.archive_writer import ArchiveWriter
from syncer.places.layout.contents import (
    Contents,
    Earlier,
    HeldBlob,
    HeldReference,
    InvalidContents,
    path_for,
    read_contents,
)
from syncer.places.layout.folder import FolderStore
from syncer.places.layout.index import parse_index, unnamed_repository
from syncer.places.layout.open import Layouts
from syncer.rules.conflicts import with_conflicts
from syncer.rules.naming import DestinationTemplate
from syncer.rules.rule import Rule
from syncer.run import RunResult

MIN_VOLUME = 256 * 1024
"""Bytes. Smaller volumes would consist of headers."""


class SaveOptions(OnceOptions, frozen=True, kw_only=True):
    """The options of `save`, named as on the command line. `volume_size` is in bytes."""

    output: Path
    since: Sequence[Path] = ()
    volume_size: int | None = None


def run_save(options: SaveOptions) -> int:
    """Save the images. Return the exit code; problems of the files are reported on stderr."""
    if options.volume_size is not None and options.volume_size < MIN_VOLUME:
        raise click.UsageError(f"--volume-size: expected at least {MIN_VOLUME // 1024}KiB")
    is_tar = options.output.name.endswith(".tar")
    if options.volume_size is not None and not is_tar:
        raise click.UsageError("--volume-size requires a tar file: --output FILE.tar")
    if re.search(r"\.(tgz|tar\.[a-z0-9]{1,4})$", options.output.name):
        raise click.UsageError("--output: a compressed archive cannot be written; use FILE.tar or a folder")
    if ":" in options.output.name:
        raise click.UsageError("--output: the name must not contain a colon")
    if is_tar and options.output.is_dir():
        raise click.UsageError(f"--output: {options.output} is a folder")
    return run_prepared(options, partial(_prepare, options))


def _prepare(options: SaveOptions) -> Prepared:
    earlier = Earlier([_contents(path) for path in options.since])
    whole = Repository.in_layout(options.output)
    # Rules without a destination need none here.
    config = _to_layout(load_config(msgspec.structs.replace(options, to=str(whole))), whole)
    layouts = Layouts()
    if not options.output.name.endswith(".tar"):
        folder = FolderStore(Path(whole.layout or ""), whole.host)
        layouts.add_output(whole, folder, earlier)
        return Prepared(config, layouts, complete=partial(_finish_folder, folder, options.output, earlier))
    archive = ArchiveWriter(Path(whole.layout or ""), whole.host, volume_size=options.volume_size)
    if not options.dry_run:
        try:
            archive.resume()
        except OSError as error:
            raise click.UsageError(f"--output: cannot write {options.output}: {error.strerror}") from error
    layouts.add_output(whole, archive, earlier)
    return Prepared(config, layouts, complete=partial(_finish_archive, archive, options.output, earlier))


def _contents(path: Path) -> Contents:
    try:
        return read_contents(path)
    except (OSError, InvalidContents) as error:
        raise click.UsageError(f"--since: {path} is not a contents file: {error}") from error


def _to_layout(config: Config, layout: Repository) -> Config:
    """Return the same rules, with the layout as their only destination."""
    return msgspec.structs.replace(
        config, rules=with_conflicts(_saved(rule, layout) for rule in config.rules)
    )


def _saved(rule: Rule, layout: Repository) -> Rule:
    template = DestinationTemplate(str(layout), str(layout), rule.selection)
    if rule.pattern is not None:
        return replace(rule, templates=(template,), destinations=(), conflicts=())
    attestations = rule.destinations[0].attestations
    return replace(
        rule, destinations=(replace(template.resolve(rule.source), attestations=attestations),), conflicts=()
    )


def _finish_folder(folder: FolderStore, output: Path, earlier: Earlier, result: RunResult) -> None:
    if result.outcome == "interrupted":
        return
    blobs = {str(digest): HeldBlob(size) for digest, size in folder.blobs()}
    contents = _describe(output, folder.read_index(), blobs, earlier)
    folder.write_file(path_for(output).name, contents.write())


def _finish_archive(archive: ArchiveWriter, output: Path, earlier: Earlier, result: RunResult) -> None:
    if result.outcome in ("interrupted", "failure"):
        return  # the next run continues with what there is

    def contents(files: Sequence[str]) -> bytes:
        blobs = {
            str(digest): HeldBlob(size, file if archive.is_split else "")
            for digest, (size, file) in archive.blobs().items()
        }
        described = _describe(output, archive.read_index(), blobs, earlier)
        return msgspec.structs.replace(described, volumes=tuple(files) if archive.is_split else ()).write()

    def note(files: Sequence[str]) -> bytes:
        return Contents(archive=_name(output), volumes=tuple(files)).write()

    archive.finish(contents, note)
    write_beside(path_for(output), contents(archive.files))


def _describe(output: Path, index: bytes | None, blobs: dict[str, HeldBlob], earlier: Earlier) -> Contents:
    references = _references(index, output) if index else {}
    return Contents(
        archive=_name(output),
        references=references,
        earlier_references={
            name: held for name, held in earlier.references.items() if name not in references
        },
        blobs=blobs,
        earlier={digest: held for digest, held in earlier.blobs.items() if digest not in blobs},
        since=earlier.names,
    )


def _references(index: bytes, output: Path) -> dict[str, HeldReference]:
    return {
        str(
            Reference(repository, None if ":" in target else target, entry.digest if ":" in target else None)
        ): (HeldReference(entry.digest, entry.media_type))
        for repository, targets in parse_index(index, unnamed_repository(output.stem)).entries.items()
        for target, entry in targets.items()
        if isinstance(entry, Descriptor)
    }


def _name(output: Path) -> str:
    """Return the name of an archive: that of its file or folder."""
    return Path(os.path.abspath(output)).name  # noqa: PTH100 - keeps symbolic links
