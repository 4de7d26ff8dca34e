"""`BlobLedger`: records which repositories at the destinations hold which blobs and manifests.

It decides the cheapest method to copy each blob. Its entries are hints: a wrong entry costs a request, but never
makes a copy incomplete.
"""

from collections.abc import Iterable, Sequence
from functools import lru_cache

from syncer.errors import RegistryError
from syncer.oci.digest import Digest
from syncer.oci.reference import Repository


class BlobCache:
    """Facts about registries that are kept between runs. This class keeps nothing."""

    def holders(self, host: str, digest: Digest) -> Sequence[Repository]:  # noqa: ARG002
        """Return the repositories of a registry in which a blob was seen, most recent first."""
        return ()

    def record(self, repository: Repository, digest: Digest) -> None:
        """Record that a repository holds a blob."""

    def forget(self, repository: Repository, digest: Digest) -> None:
        """Record that the repository does not hold the blob."""

    def filtered(self, digest: Digest, platforms: str) -> Digest | None:  # noqa: ARG002
        """Return the digest of an index after a filter of platforms and attestations, if it is known."""
        return None

    def record_filtered(self, digest: Digest, platforms: str, filtered: Digest) -> None:
        """Record the digest of an index after a filter of platforms and attestations."""

    def flush(self) -> None:
        """Write all pending records."""


class ReadOnlyBlobCache(BlobCache):
    """Read-only view of a cache: a dry run must not record anything."""

    def __init__(self, cache: BlobCache) -> None:
        self._cache = cache

    def holders(self, host: str, digest: Digest) -> Sequence[Repository]:
        return self._cache.holders(host, digest)

    def filtered(self, digest: Digest, platforms: str) -> Digest | None:
        return self._cache.filtered(digest, platforms)


class BlobLedger:
    """Records the repositories that hold each blob, and the uploads under way.

    `cache` has facts from earlier runs. They are only used to find repositories to mount from. Whether the repository
    that needs a blob has it is always checked again, since a cached fact may be outdated.
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
        self._tags: dict[Repository, frozenset[str]] = {}
        self._refused: dict[tuple[Repository, bytes], RegistryError] = {}

    # --- blobs ----------------------------------------------------------------------------------------------------

    def has(self, repository: Repository, digest: Digest) -> bool:
        held = self._holders.get(_key(repository, digest))
        return held == repository or (isinstance(held, set) and repository in held)

    def record(self, repository: Repository, digest: Digest) -> None:
        """Record that `repository` holds `digest`."""
        key = _key(repository, digest)
        held = self._holders.get(key)
        self._doubted.discard((repository, key[1]))
        self.cache.record(repository, digest)
        if held is None or held == repository:
            # Most blobs are in a single repository: store it without a set.
            self._holders[key] = repository
        elif isinstance(held, set):
            held.add(repository)
        else:
            self._holders[key] = {held, repository}

    def forget(self, repository: Repository, digest: Digest) -> None:
        """Record that `repository` does not hold `digest`."""
        key = _key(repository, digest)
        held = self._holders.get(key)
        if isinstance(held, set):
            held.discard(repository)
        elif held == repository:
            del self._holders[key]
        self.cache.forget(repository, digest)

    def holders(self, repository: Repository, digest: Digest) -> Iterable[Repository]:
        """Return other repositories at the same registry that hold `digest`."""
        held = self._holders.get(_key(repository, digest))
        if held is None:
            remembered = self.cache.holders(repository.host, digest)
            return [each for each in remembered if each != repository]
        return [each for each in (held if isinstance(held, set) else (held,)) if each != repository]

    def doubt(self, repository: Repository, digest: Digest) -> None:
        """Record that the registry reported content in `repository` and then did not know it.

        Later reports about this content are not trusted: it is uploaded.
        """
        self._doubted.add((repository, _short(digest)))

    def is_doubted(self, repository: Repository, digest: Digest) -> bool:
        return (repository, _short(digest)) in self._doubted

    def is_remembered(self, repository: Repository, digest: Digest) -> bool:
        """Return whether an earlier run recorded the blob in `repository`, so that a check is worth a request."""
        return repository in self.cache.holders(repository.host, digest)

    # --- sources ----------------------------------------------------------------------------------------------------

    def serves(self, source: Repository, digest: Digest) -> bool | None:
        """Return whether a source has a blob with this digest, or None if that is not known."""
        short = _short(digest)
        if short in self._served.get(source, ()):
            return True
        return False if short in self._not_served.get(source, ()) else None

    def record_served(self, source: Repository, digest: Digest, *, served: bool = True) -> None:
        """Record that a source sent a blob, or answered whether it has it."""
        (self._served if served else self._not_served).setdefault(source, set()).add(_short(digest))

    # --- uploads under way ------------------------------------------------------------------------------------------

    def uploader(self, repository: Repository, digest: Digest) -> Repository | None:
        """Return the repository at the same registry to which `digest` is being uploaded."""
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
        """Return True for the first caller, who must then check whether the repository is new."""
        first = repository not in self._looked_at
        self._looked_at.add(repository)
        return first

    def is_new(self, repository: Repository) -> bool:
        """Return whether the repository was empty when the run first checked it."""
        return repository in self._new

    def tags(self, repository: Repository) -> frozenset[str] | None:
        """Return all tags that a repository had when the run listed it, or None if it has not."""
        return self._tags.get(repository)

    def record_tags(self, repository: Repository, tags: Iterable[str]) -> None:
        self._tags[repository] = frozenset(tags)

    def record_new(self, repository: Repository) -> None:
        self._new.add(repository)


@lru_cache(1024)
def _short(digest: Digest) -> bytes:
    # Bytes take half the memory of text, and there may be millions of digests.
    return bytes.fromhex(digest.hex)


def _key(repository: Repository, digest: Digest) -> tuple[str, bytes]:
    return repository.host, _short(digest)
