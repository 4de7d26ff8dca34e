"""The content of a registry in memory: repositories with their blobs, manifests, tags and referrers. No HTTP.

Content belongs to repositories, as in real registries: a blob of one repository is unknown in another one until it is
mounted there.
"""

from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from syncer.demo.errors import Refusal
from syncer.demo.manifests import Manifest, read_manifest
from syncer.lazy_pattern import lazy_pattern
from syncer.oci.digest import Digest, InvalidDigest
from syncer.oci.reference import is_tag

_NAME = lazy_pattern(r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*")
_MAX_NAME = 255


@dataclass(frozen=True, slots=True)
class StoredManifest:
    """A pushed manifest. `raw` and `media_type` are returned unchanged."""

    raw: bytes
    media_type: str
    digest: Digest
    manifest: Manifest


@dataclass(slots=True)
class _Content:
    """One repository. `order` caches the sorted tags; None after a tag was added."""

    blobs: dict[Digest, bytes] = field(default_factory=dict)
    manifests: dict[Digest, StoredManifest] = field(default_factory=dict)
    tags: dict[str, Digest] = field(default_factory=dict)
    referrers: dict[Digest, dict[Digest, dict[str, Any]]] = field(default_factory=dict)
    order: list[tuple[str, str]] | None = None


class Store:
    """All repositories of one registry. A repository is created with its first content.

    Methods that read or change a repository raise `Refusal` with a code of the specification.
    """

    def __init__(self) -> None:
        self._repositories: dict[str, _Content] = {}

    # Reading

    def repositories(self) -> list[str]:
        return sorted(self._repositories)

    def repositories_page(self, limit: int, last: str) -> tuple[list[str], bool]:
        """Return at most `limit` repositories after `last`, and whether more follow."""
        names = self.repositories()
        start = bisect_right(names, last)
        return names[start : start + limit], start + limit < len(names)

    def tags(self, repository: str) -> list[str]:
        """Return all tags in the order of the specification, or none for an unknown repository."""
        if repository not in self._repositories:
            return []
        return [tag for _, tag in self._sorted_tags(repository)]

    def tags_page(self, repository: str, limit: int | None, last: str) -> tuple[list[str], bool]:
        """Return at most `limit` tags after `last`, and whether more follow. Raises `Refusal`."""
        self._content(repository)
        order = self._sorted_tags(repository)
        start = bisect_right(order, _tag_key(last)) if last else 0
        end = len(order) if limit is None else start + limit
        return [tag for _, tag in order[start:end]], end < len(order)

    def digest(self, repository: str, reference: str) -> Digest | None:
        """Return the digest of a tag, or the digest itself, if the manifest exists."""
        content = self._repositories.get(repository)
        if content is None:
            return None
        if tagged := content.tags.get(reference):
            return tagged
        stored = content.manifests.get(Digest(reference))
        return stored.digest if stored else None

    def manifest(self, repository: str, reference: str) -> StoredManifest | None:
        digest = self.digest(repository, reference)
        return None if digest is None else self._repositories[repository].manifests[digest]

    def manifests(self, repository: str) -> list[StoredManifest]:
        content = self._repositories.get(repository)
        return list(content.manifests.values()) if content else []

    def blob(self, repository: str, digest: str) -> bytes | None:
        content = self._repositories.get(repository)
        return content.blobs.get(Digest(digest)) if content else None

    def blobs(self, repository: str) -> dict[Digest, bytes]:
        content = self._repositories.get(repository)
        return dict(content.blobs) if content else {}

    def referrers(self, repository: str, subject: str) -> list[dict[str, Any]]:
        """Return the descriptors of the manifests with this `subject`."""
        content = self._repositories.get(repository)
        return list(content.referrers.get(Digest(subject), {}).values()) if content else []

    def get_manifest(self, repository: str, reference: str) -> StoredManifest:
        """As `manifest`, but raises `Refusal` if there is none."""
        self._content(repository)
        if stored := self.manifest(repository, reference):
            return stored
        raise Refusal("MANIFEST_UNKNOWN", f"manifest unknown: {reference[:200]}")

    def get_blob(self, repository: str, digest: str) -> bytes:
        """As `blob`, but raises `Refusal` if there is none."""
        content = self._content(repository).blobs.get(parse_digest(digest))
        if content is None:
            raise Refusal("BLOB_UNKNOWN", f"blob unknown to the repository: {digest}")
        return content

    # Changing

    def put_blob(self, repository: str, content: bytes, digest: Digest | None = None) -> Digest:
        """Store a blob. `digest` is given if it was verified before."""
        check_name(repository)
        digest = digest or Digest.of(content)
        self._repositories.setdefault(repository, _Content()).blobs[digest] = content
        return digest

    def mount(self, repository: str, digest: str, source: str) -> bool:
        """Mount a blob of `source` in `repository`. Return False if `source` does not have it."""
        content = self.blob(source, digest)
        if content is None:
            return False
        self.put_blob(repository, content, Digest(digest))
        return True

    def put_manifest(
        self, repository: str, raw: bytes, media_type: str = "", *, reference: str = ""
    ) -> StoredManifest:
        """Store a manifest by its digest, and by `reference` if that is a tag.

        If `reference` is a digest, it must match the bytes. All references of the manifest must exist, except its
        subject and foreign layers.
        """
        check_name(repository)
        digest = _manifest_digest(raw, reference)
        manifest = read_manifest(raw, media_type)
        content = self._repositories.setdefault(repository, _Content())
        missing = [blob.digest for blob in manifest.blobs if blob.digest not in content.blobs]
        # As docker-registry does: an index may list blobs, too, as BuildKit's cache does.
        known = content.manifests.keys() | content.blobs.keys()
        missing += [child.digest for child in manifest.children if child.digest not in known]
        if missing:
            raise Refusal(
                "MANIFEST_BLOB_UNKNOWN",
                "the manifest refers to a blob or manifest unknown to the repository",
                details=[{"digest": str(digest)} for digest in missing],
            )
        stored = StoredManifest(raw, media_type or manifest.media_type, digest, manifest)
        content.manifests[digest] = stored
        if manifest.subject is not None:
            content.referrers.setdefault(manifest.subject, {})[digest] = _referrer(stored)
        if is_tag(reference):
            self.tag(repository, reference, digest)
        return stored

    def tag(self, repository: str, tag: str, digest: Digest) -> None:
        """Point a tag to an existing manifest."""
        content = self._content(repository)
        if digest not in content.manifests:
            raise Refusal("MANIFEST_UNKNOWN", f"manifest unknown: {digest}")
        if tag not in content.tags:
            content.order = None
        content.tags[tag] = digest

    def delete_tag(self, repository: str, tag: str) -> None:
        content = self._content(repository)
        if content.tags.pop(tag, None) is None:
            raise Refusal("MANIFEST_UNKNOWN", f"tag unknown: {tag[:200]}")
        content.order = None

    def delete_manifest(self, repository: str, digest: Digest) -> None:
        """Delete a manifest, its tags, and its entry in the referrers of its subject."""
        content = self._content(repository)
        stored = content.manifests.pop(digest, None)
        if stored is None:
            raise Refusal("MANIFEST_UNKNOWN", f"manifest unknown: {digest}")
        if stored.manifest.subject is not None:
            content.referrers[stored.manifest.subject].pop(digest, None)
        content.tags = {tag: target for tag, target in content.tags.items() if target != digest}
        content.order = None

    def delete_blob(self, repository: str, digest: Digest) -> None:
        if self._content(repository).blobs.pop(digest, None) is None:
            raise Refusal("BLOB_UNKNOWN", f"blob unknown to the repository: {digest}")

    def _content(self, repository: str) -> _Content:
        content = self._repositories.get(repository)
        if content is None:
            check_name(repository)
            raise Refusal("NAME_UNKNOWN", f"repository unknown: {repository}")
        return content

    def _sorted_tags(self, repository: str) -> list[tuple[str, str]]:
        content = self._repositories[repository]
        # Cached between pages: sorting 100,000 tags for each page of 1,000 would dominate the cost.
        if content.order is None:
            content.order = sorted(map(_tag_key, content.tags))
        return content.order


def check_name(repository: str) -> None:
    """Raise `Refusal` if this is not a valid repository name."""
    if len(repository) > _MAX_NAME or not _NAME.fullmatch(repository):
        raise Refusal("NAME_INVALID", f"not a repository name: {repository[:_MAX_NAME]}")


def parse_digest(text: str) -> Digest:
    try:
        return Digest.parse(text)
    except InvalidDigest as error:
        raise Refusal("DIGEST_INVALID", str(error)) from error


def _tag_key(tag: str) -> tuple[str, str]:
    # The specification requires "lexical order (i.e. case-insensitive alphanumeric order)".
    return tag.lower(), tag


def _manifest_digest(raw: bytes, reference: str) -> Digest:
    if ":" not in reference:
        if reference and not is_tag(reference):
            raise Refusal("MANIFEST_INVALID", f"not a tag: {reference[:200]}")
        return Digest.of(raw)
    stated = parse_digest(reference)
    if Digest.of(raw, stated.algorithm) != stated:
        raise Refusal("DIGEST_INVALID", f"the manifest does not have the digest {stated}")
    return stated


def _referrer(stored: StoredManifest) -> dict[str, Any]:
    """Return the descriptor for the referrers API (distribution-spec 1.1, "Listing Referrers")."""
    manifest = stored.manifest
    artifact_type = manifest.artifact_type or (manifest.config.media_type if manifest.config else "")
    descriptor: dict[str, Any] = {
        "mediaType": manifest.media_type,
        "digest": str(stored.digest),
        "size": len(stored.raw),
    }
    if artifact_type:
        descriptor["artifactType"] = artifact_type
    if manifest.annotations:
        descriptor["annotations"] = manifest.annotations
    return descriptor


def unique_blobs(store: Store, repositories: Iterable[str]) -> dict[Digest, bytes]:
    """Return the blobs of several repositories, each once."""
    return {digest: content for name in repositories for digest, content in store.blobs(name).items()}
