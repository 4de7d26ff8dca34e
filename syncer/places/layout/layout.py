"""An open layout: its content and references, which all of its repositories share."""

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from syncer.errors import Attempt, DigestMismatch, Kind, RegistryError
from syncer.oci import media_types
from syncer.oci.digest import Digest
from syncer.oci.manifest import (
    MAX_MANIFEST_SIZE,
    InvalidManifest,
    Manifest,
    UnsupportedManifest,
    parse_manifest,
)
from syncer.oci.reference import Repository
from syncer.oci.referrers import is_referrer_tag
from syncer.places.layout.contents import Contents
from syncer.places.layout.index import Index, InvalidIndex, parse_index, unnamed_repository
from syncer.places.layout.stored import BlobStore, StoredBlob, as_error
from syncer.places.layout.threads import in_thread


class Layout:
    """One layout, for reading.

    `name` is the layout without a repository. `others` are layouts that may have content that is missing here, and
    `contents` are the contents files that tell which archive holds it. `problem` says how the layout itself is damaged.
    """

    def __init__(
        self,
        name: Repository,
        store: BlobStore,
        *,
        others: Sequence[BlobStore] = (),
        contents: Sequence[Contents] = (),
        problem: str = "",
    ) -> None:
        self.name = name
        self.store = store
        self._others = others
        self._contents = contents
        self._problem = problem
        self._reading = asyncio.Lock()
        self._index: Index | None = None
        self._archives: Sequence[Layout] = ()
        self._with_referrers: Index | None = None

    def load_with(self, archives: "Sequence[Layout]") -> None:
        """Use the lists of referrers of several archives, this one among them. Later archives replace those of earlier ones."""
        self._archives = archives

    def attempt(self, method: str, endpoint: str, subject: str) -> Attempt:
        return Attempt(self.name.host, method, endpoint, subject)

    @contextmanager
    def translated(self, attempt: Attempt) -> Iterator[None]:
        """Turn the errors of stores into `RegistryError`."""
        try:
            yield
        except OSError as error:
            raise as_error(error, attempt) from error
        except InvalidIndex as error:
            raise RegistryError(Kind.INVALID, str(error), attempt=attempt) from error

    def report_problem(self, problem: str) -> None:
        """Record how the layout is damaged, if that is only found when it is read."""
        self._problem = problem

    # --- references -----------------------------------------------------------------------------------------------

    async def index(self) -> Index:
        """Return the references. `index.json` is read once. Raises `RegistryError`."""
        async with self._reading:
            if self._index is None:
                attempt = self.attempt("", "tags", f"index of {self.name}")
                with self.translated(attempt):
                    raw = await in_thread(self.store.read_index)
                    if raw is None:
                        raise self.no_index(attempt)
                    self._index = self.parsed(raw)
        return self._index

    async def index_with_referrers(self) -> Index:
        """Return the references, and the tags that belong to manifests in any of the archives that are loaded together.

        Raises `RegistryError`.
        """
        if len(self._archives) <= 1:
            return await self.index()
        if self._with_referrers is None:
            entries = {name: dict(targets) for name, targets in (await self.index()).entries.items()}
            for archive in self._archives:
                with suppress(RegistryError):  # it is reported for that archive
                    for name, targets in (await archive.index()).entries.items():
                        tags = {target: entry for target, entry in targets.items() if is_referrer_tag(target)}
                        entries.setdefault(name, {}).update(tags)
            self._with_referrers = Index(entries)
        return self._with_referrers

    def no_index(self, attempt: Attempt) -> RegistryError:
        if self._problem:
            return RegistryError(Kind.INVALID, self._problem, attempt=attempt)
        return RegistryError(
            Kind.NOT_FOUND, "there is no image layout: index.json is missing", attempt=attempt
        )

    def parsed(self, raw: bytes) -> Index:
        path = self.name.layout or ""
        return parse_index(raw, unnamed_repository(Path(path).name.removesuffix(".tar")))

    def replace_index(self, raw: bytes) -> None:
        """Use new content of `index.json`."""
        self._index = self.parsed(raw)

    async def check(self, attempt: Attempt) -> None:
        """Raise `RegistryError` if the layout is damaged in a way that cannot be blamed on one reference."""
        if self._problem:
            raise RegistryError(Kind.INVALID, self._problem, attempt=attempt)
        if unreadable := (await self.index()).unreadable:
            raise RegistryError(
                Kind.INVALID,
                f"entries of index.json that cannot be read: {len(unreadable)}; {unreadable[0]}",
                attempt=attempt,
            )

    # --- content --------------------------------------------------------------------------------------------------

    def stores(self) -> Iterable[BlobStore]:
        return (self.store, *self._others)

    async def open(self, digest: Digest, attempt: Attempt) -> StoredBlob:
        """Open a blob in this layout, or in one of the others. Raises `RegistryError`."""

        def open_any() -> StoredBlob | None:
            refusal: OSError | None = None
            for store in self.stores():
                try:
                    return store.open(digest)
                except FileNotFoundError:
                    continue
                except OSError as error:
                    refusal = error
            if refusal is not None:
                raise refusal
            return None

        with self.translated(attempt):
            blob = await in_thread(open_any)
        if blob is None:
            raise self.missing(digest, attempt)
        return blob

    def missing(self, digest: Digest, attempt: Attempt) -> RegistryError:
        """Return the error for content that is in none of the layouts. It names the archive that holds it."""
        holder = next(filter(None, (contents.holder(digest) for contents in self._contents)), None)
        if holder is None:
            return RegistryError(Kind.NOT_FOUND, f"{digest} is not in the layout", attempt=attempt)
        return RegistryError(
            Kind.NOT_FOUND,
            f"{digest} is in {holder}, which was not loaded",
            attempt=attempt,
            advice=f"load {holder} together with this archive",
        )

    async def verify(self, digest: Digest, size: int, attempt: Attempt) -> bool:
        """Return whether the layout has a blob with this digest, of `size` bytes if the size is not -1.

        All of its content is read.
        """
        with self.translated(attempt):
            return await in_thread(self._verify, digest, size)

    def _verify(self, digest: Digest, size: int) -> bool:
        for store in self.stores():
            try:
                with store.open(digest) as blob:
                    return (size < 0 or blob.size == size) and blob.matches(digest)
            except FileNotFoundError:
                continue
        return False

    async def read_manifest(self, digest: Digest, media_type: str, attempt: Attempt) -> Manifest:
        """Return a manifest, verified. Raises `RegistryError`."""
        with await self.open(digest, attempt) as blob:
            if blob.size > MAX_MANIFEST_SIZE:
                raise RegistryError(
                    Kind.TOO_LARGE,
                    f"the manifest has {blob.size} bytes; the limit is {MAX_MANIFEST_SIZE}",
                    attempt=attempt,
                )
            with self.translated(attempt):
                raw = await in_thread(blob.read, 0, blob.size)
        return parsed_manifest(raw, digest, media_type, attempt)


def parsed_manifest(raw: bytes, digest: Digest, media_type: str, attempt: Attempt) -> Manifest:
    """Parse the content of a blob as the manifest with this digest. Raises `RegistryError`."""
    if Digest.of(raw, digest.algorithm) != digest:
        raise DigestMismatch("the content has another digest", attempt=attempt, permanent=True)
    known = media_type if media_type and media_types.may_be_manifest(media_type) else ""
    try:
        return parse_manifest(raw, known, expected=digest)
    except UnsupportedManifest as error:
        raise RegistryError(Kind.UNSUPPORTED, str(error), attempt=attempt) from error
    except InvalidManifest as error:
        raise RegistryError(Kind.INVALID, str(error), attempt=attempt) from error
