"""Opens layouts by their paths: folders for reading and writing, tar files for reading."""

import re
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from syncer.errors import Attempt, Kind, RegistryError
from syncer.lazy_pattern import lazy_pattern
from syncer.oci.reference import Repository
from syncer.places.content import Destination, StreamsBlobs
from syncer.places.layout.archive import MAX_CONTENTS, ArchiveStore
from syncer.places.layout.archive_writer import CONTENTS_FILE
from syncer.places.layout.contents import Contents, Earlier, InvalidContents, parse_contents, path_for
from syncer.places.layout.destination import LayoutDestination, WritableLayout
from syncer.places.layout.folder import FolderStore
from syncer.places.layout.layout import Layout
from syncer.places.layout.source import LayoutSource
from syncer.places.layout.stored import BlobStore, WritableStore, as_error
from syncer.places.layout.stream import StreamLayout, StreamSource, StreamStore

_VOLUME = lazy_pattern(r"(.{1,200})\.[0-9]{1,9}\.tar", re.ASCII)


class Layouts:
    """The layouts of a run. Each is opened once, and `close` closes all of them."""

    def __init__(self) -> None:
        self._layouts: dict[str, Layout] = {}
        self._stores: list[BlobStore] = []
        self._sources: dict[Repository, LayoutSource] = {}
        self._destinations: dict[Repository, LayoutDestination] = {}

    def add_output(self, name: Repository, store: WritableStore, earlier: Earlier) -> None:
        """Use `store` for a layout that is written. `earlier` is what it may leave out."""
        self._layouts[name.host] = WritableLayout(name, store, earlier)
        self._stores.append(store)

    def add_archives(self, archives: Sequence["LoadedArchive"]) -> None:
        """Use folders and tar files that complete each other: content may be in any of them.

        Of the tags that belong to manifests, such as signatures, those of the last archive count.
        """
        known = [contents for archive in archives for contents in archive.contents]
        for archive in archives:
            others = [other.store for other in archives if other is not archive]
            self._layouts[archive.name.host] = Layout(
                archive.name,
                archive.store,
                others=others,
                contents=known,
                problem=problem_of(archive, archives),
            )
            self._stores.append(archive.store)
        layouts = [self._layouts[archive.name.host] for archive in archives]
        for layout in layouts:
            layout.load_with(layouts)

    def add_stream(self, name: Repository, descriptor: int) -> StreamsBlobs:
        """Use the archive that comes from an open file, and return where its blobs come from."""
        store = StreamStore(descriptor, name.host)
        layout = self._layouts[name.host] = StreamLayout(name, store)
        self._stores.append(store)
        return layout

    def source(self, name: Repository) -> LayoutSource:
        """Raises `RegistryError`."""
        if name not in self._sources:
            layout = self._layout(name)
            kind = (
                StreamSource(layout, name) if isinstance(layout, StreamLayout) else LayoutSource(layout, name)
            )
            self._sources[name] = kind
        return self._sources[name]

    def destination(self, name: Repository) -> Destination:
        """Raises `RegistryError`."""
        if name not in self._destinations:
            layout = self._layout(name)
            if not isinstance(layout, WritableLayout):
                raise RegistryError(
                    Kind.UNSUPPORTED,
                    "a tar file can only be read",
                    attempt=Attempt(name.host, "", "manifest", str(name)),
                    advice="write one with `save --output`, or use a folder",
                )
            self._destinations[name] = LayoutDestination(layout, name)
        return self._destinations[name]

    def _layout(self, name: Repository) -> Layout:
        if name.host not in self._layouts:
            whole = Repository(name.host, "")
            path = Path(name.layout or "")
            if path.is_file():
                try:
                    self.add_archives([open_archive(path)])
                except OSError as error:
                    raise as_error(error, Attempt(name.host, "", "tags", f"index of {whole}")) from error
            else:
                self.add_output(whole, FolderStore(path, name.host), Earlier())
        return self._layouts[name.host]

    def close(self) -> None:
        for store in self._stores:
            store.close()


class LoadedArchive:
    """A folder or tar file that is read, with the contents files that were found for it."""

    def __init__(
        self, name: Repository, store: FolderStore | ArchiveStore, contents: Sequence[Contents]
    ) -> None:
        self.name = name
        self.store = store
        self.contents = contents

    @property
    def file_name(self) -> str:
        return Path(self.name.layout or "").name


def open_archive(path: Path, descriptor: int | None = None) -> LoadedArchive:
    """Open a folder or a tar file for reading, or a tar file that is open already. Raises `OSError`."""
    name = Repository.in_layout(path)
    store: FolderStore | ArchiveStore
    if descriptor is None and path.is_dir():
        store = FolderStore(path, name.host)
    else:
        store = ArchiveStore(path, name.host, descriptor=descriptor)
    return LoadedArchive(name, store, list(_contents_of(path, store)))


def _contents_of(path: Path, store: FolderStore | ArchiveStore) -> Iterable[Contents]:
    """Return the contents files inside of an archive and beside it. Unreadable ones are of no use."""
    raw = []
    volume = _VOLUME.fullmatch(path.name)
    beside = path.with_name(f"{volume[1]}.tar") if volume else path
    files: tuple[tuple[FolderStore | ArchiveStore, str], ...] = (
        (store, CONTENTS_FILE),
        (FolderStore(path.parent, ""), path_for(beside).name),
    )
    for place, name in files:
        with suppress(OSError):
            raw.append(place.read_file(name, MAX_CONTENTS))
    for content in dict.fromkeys(filter(None, raw)):
        try:
            yield parse_contents(content)
        except InvalidContents:
            continue


def problem_of(archive: LoadedArchive, archives: Sequence[LoadedArchive]) -> str:
    """Return what is wrong with an archive as a whole, given all archives that are loaded; empty if nothing is."""
    if isinstance(archive.store, ArchiveStore) and archive.store.problem:
        return archive.store.problem
    given = {each.file_name for each in archives}
    for contents in archive.contents:
        if archive.file_name in contents.volumes and contents.volumes[-1] not in given:
            return f"the index is in {contents.volumes[-1]}, which was not loaded"
    return ""


def missing_volumes(archives: Sequence[LoadedArchive]) -> list[str]:
    """Return the names of the volumes that were not given, of archives of which another volume was given."""
    given = {archive.file_name for archive in archives}
    listed = [
        volume
        for archive in archives
        for contents in archive.contents
        if archive.file_name in contents.volumes
        for volume in contents.volumes
    ]
    return [volume for volume in dict.fromkeys(listed) if volume not in given]
