"""`BlobLedger`: which blob and manifest is known to be in which repository at the destinations.

From it comes the cheapest way for each blob. What is known is a hint: a wrong one costs a request, never a copy.
"""

from collections.abc import Iterable, Sequence

from syncer.errors import RegistryError
from syncer.oci.digest import Digest
from syncer.oci.reference import Repository


class BlobCache:
    """What is remembered from one run to the next. This one remembers nothing."""

    def holders(self, host: str, digest: Digest) -> Sequence[Repository]:  # noqa: ARG002
        """Repositories of a registry in which a blob was seen, the newest first."""
        return ()

    def record(self, repository: Repository, digest: Digest) -> None:
        """A blob is in a repository."""

    def forget(self, repository: Repository, digest: Digest) -> None:
        """It is not there after all."""

    def filtered(self, digest: Digest, platforms: str) -> Digest | None:  # noqa: ARG002
        """What an index became under a filter of platforms and attestations, if that is known."""
        return None

    def record_filtered(self, digest: Digest, platforms: str, filtered: Digest) -> None:
        """An index became another one under a filter."""

    def flush(self) -> None:
        """Write down what has not been yet."""


class ReadOnlyBlobCache(BlobCache):
    """Another memory that is asked and never told: what only would be done is not to be remembered."""

    def __init__(self, cache: BlobCache) -> None:
        self._cache = cache

    def holders(self, host: str, digest: Digest) -> Sequence[Repository]:
        return self._cache.holders(host, digest)

    def filtered(self, digest: Digest, platforms: str) -> Digest | None:
        return self._cache.filtered(digest, platforms)


class BlobLedger:
    """Blobs by registry and digest, with the repositories that hold them; and who is uploading what.

    `cache` is what earlier runs knew: only where to mount from is taken from there. Whether a blob is in the very
    repository that needs it is asked again, since nothing may ever rest on a memory.
    """

    def __init__(self, cache: BlobCache | None = None) -> None:
        self.cache = cache or BlobCache()
        self._holders: dict[tuple[str, bytes], Repository | set[Repository]] = {}
        self._manifests: dict[Repository, set[bytes]] = {}
        self._uploading: dict[tuple[str, bytes], Repository] = {}
        self._doubted: set[tuple[Repository, bytes]] = set()
        self._served: dict[Repository, set[bytes]] = {}
        self._not_served: dict[Repository, set[bytes]] = {}
        self._new: set[Repository] = set()
        self._looked_at: set[Repository] = set()
        self._refused: dict[tuple[Repository, bytes], RegistryError] = {}

    # --- blobs ----------------------------------------------------------------------------------------------------

    def has(self, repository: Repository, digest: Digest) -> bool:
        held = self._holders.get(_key(repository, digest))
        return held == repository or (isinstance(held, set) and repository in held)

    def record(self, repository: Repository, digest: Digest) -> None:
        """`digest` is in `repository` now."""
        key = _key(repository, digest)
        held = self._holders.get(key)
        self._doubted.discard((repository, key[1]))
        self.cache.record(repository, digest)
        if held is None or held == repository:
            # Most blobs are in one repository only: no set for those.
            self._holders[key] = repository
        elif isinstance(held, set):
            held.add(repository)
        else:
            self._holders[key] = {held, repository}

    def forget(self, repository: Repository, digest: Digest) -> None:
        """It is not there after all."""
        key = _key(repository, digest)
        held = self._holders.get(key)
        if isinstance(held, set):
            held.discard(repository)
        elif held == repository:
            del self._holders[key]
        self.cache.forget(repository, digest)

    def holders(self, repository: Repository, digest: Digest) -> Iterable[Repository]:
        """Other repositories at the same registry that hold `digest`."""
        held = self._holders.get(_key(repository, digest))
        if held is None:
            remembered = self.cache.holders(repository.host, digest)
            return [each for each in remembered if each != repository]
        return [each for each in (held if isinstance(held, set) else (held,)) if each != repository]

    def doubt(self, repository: Repository, digest: Digest) -> None:
        """The registry said that content is in `repository`, and then that it does not know it.

        Its word is not taken for that again: the content is to be brought.
        """
        self._doubted.add((repository, _short(digest)))

    def is_doubted(self, repository: Repository, digest: Digest) -> bool:
        return (repository, _short(digest)) in self._doubted

    def is_remembered(self, repository: Repository, digest: Digest) -> bool:
        """Whether an earlier run brought it there, so that asking is worth a request."""
        return repository in self.cache.holders(repository.host, digest)

    # --- sources ----------------------------------------------------------------------------------------------------

    def serves(self, source: Repository, digest: Digest) -> bool | None:
        """Whether a source has a blob of this digest; None if that is not known yet."""
        short = _short(digest)
        if short in self._served.get(source, ()):
            return True
        return False if short in self._not_served.get(source, ()) else None

    def record_served(self, source: Repository, digest: Digest, *, served: bool = True) -> None:
        """A source sent a blob, or answered whether it has it."""
        (self._served if served else self._not_served).setdefault(source, set()).add(_short(digest))

    # --- uploads under way ------------------------------------------------------------------------------------------

    def uploader(self, repository: Repository, digest: Digest) -> Repository | None:
        """The repository at the same registry that `digest` is being uploaded to."""
        return self._uploading.get(_key(repository, digest))

    def begin_upload(self, repository: Repository, digest: Digest) -> None:
        self._uploading[_key(repository, digest)] = repository

    def end_upload(self, repository: Repository, digest: Digest) -> None:
        key = _key(repository, digest)
        if self._uploading.get(key) == repository:
            del self._uploading[key]

    # --- manifests and repositories ---------------------------------------------------------------------------------

    def has_manifest(self, repository: Repository, digest: Digest) -> bool:
        return _short(digest) in self._manifests.get(repository, ())

    def record_manifest(self, repository: Repository, digest: Digest) -> None:
        self._manifests.setdefault(repository, set()).add(_short(digest))
        self._doubted.discard((repository, _short(digest)))

    def forget_manifest(self, repository: Repository, digest: Digest) -> None:
        self._manifests.get(repository, set()).discard(_short(digest))

    def refusal(self, repository: Repository, digest: Digest) -> RegistryError | None:
        """Why a repository does not take an attestation, if it has refused it."""
        return self._refused.get((repository, _short(digest)))

    def record_refusal(self, repository: Repository, digest: Digest, error: RegistryError) -> None:
        """A repository has refused an attestation: images that may go there without it need not fail."""
        self._refused[repository, _short(digest)] = error

    def claim_probe(self, repository: Repository) -> bool:
        """True for the first who asks: it is theirs to find out whether the repository is new."""
        first = repository not in self._looked_at
        self._looked_at.add(repository)
        return first

    def is_new(self, repository: Repository) -> bool:
        """Whether the repository had nothing in it when the run first asked."""
        return repository in self._new

    def record_new(self, repository: Repository) -> None:
        self._new.add(repository)


def _short(digest: Digest) -> bytes:
    # Half the memory of the text, and there may be millions.
    return bytes.fromhex(digest.hex)


def _key(repository: Repository, digest: Digest) -> tuple[str, bytes]:
    return repository.host, _short(digest)
