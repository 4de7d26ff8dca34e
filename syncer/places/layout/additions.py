"""What is added to the index of a layout: references, and lists of referrers.

As at a registry without the referrers API, the fallback tag of a manifest names the list of what refers to it.
"""

from collections.abc import Callable, Mapping, Sequence

from syncer.oci import media_types
from syncer.oci.descriptor import Descriptor
from syncer.oci.digest import Digest
from syncer.oci.manifest import MAX_MANIFEST_SIZE, InvalidManifest, Manifest, parse_manifest
from syncer.oci.reference import Reference, Repository
from syncer.oci.referrers import TooManyReferrers, fallback_tag, lacks, merge_referrers
from syncer.places.layout.contents import Earlier
from syncer.places.layout.index import Index, index_entry
from syncer.places.layout.stored import WritableStore


class AddedReferrers:
    """Referrers to list for one manifest. `refusal` says why they cannot be listed, once that is known."""

    def __init__(self, repository: Repository, subject: Digest, referrers: Sequence[Descriptor]) -> None:
        self.repository = repository
        self.tag = fallback_tag(subject)
        self.referrers = referrers
        self.refusal = ""

    @property
    def name(self) -> str:
        """The reference name of the list."""
        return str(Reference(self.repository, self.tag))


class IndexAdditions:
    """References and lists of referrers that are added to an index at once.

    `parse` reads an index. `earlier` is what earlier archives hold: the same list is not written again.
    """

    def __init__(self, store: WritableStore, earlier: Earlier, parse: Callable[[bytes], Index]) -> None:
        self._store = store
        self._earlier = earlier
        self._parse = parse
        self.references: dict[str, bytes | None] = {}
        self.lists: list[AddedReferrers] = []

    def __bool__(self) -> bool:
        return bool(self.references or self.lists)

    def prepend(self, failed: "IndexAdditions") -> None:
        """Add what could not be written."""
        self.references = failed.references | self.references
        self.lists = failed.lists + self.lists

    def entries(self, raw: bytes | None) -> Mapping[str, bytes | None]:
        """Write the lists of referrers, and return all entries for the index `raw`. Blocks.

        Raises `OSError` and `InvalidIndex`.
        """
        added = dict(self.references)
        if not self.lists:
            return added
        index = self._parse(raw) if raw is not None else Index()
        written: dict[str, Manifest] = {}
        for each in self.lists:
            try:
                listed = written.get(each.name) or self._listed(index, each)
                if listed is not None and not lacks(listed.children, each.referrers):
                    continue
                merged = merge_referrers(listed, each.referrers)
            except (TooManyReferrers, InvalidManifest) as error:
                each.refusal = str(error)
                continue
            held = self._earlier.references.get(each.name)
            if listed is None and held is not None and held.digest == merged.digest:
                continue
            written[each.name] = merged
        for added_list in self.lists:
            if (merged_list := written.get(added_list.name)) is not None:
                self._write(merged_list, added_list.repository)
                added[added_list.name] = index_entry(merged_list, added_list.name)
        return added

    def _listed(self, index: Index, added: AddedReferrers) -> Manifest | None:
        """Return the list in the layout; None if there is none, or if it is damaged. Raises `InvalidManifest`."""
        entry = index.entries.get(added.repository, {}).get(added.tag)
        if not isinstance(entry, Descriptor):
            return None
        try:
            with self._store.open(entry.digest) as blob:
                if blob.size > MAX_MANIFEST_SIZE:
                    raise InvalidManifest(f"the tag {added.tag} names a manifest of {blob.size} bytes")
                raw = blob.read(0, blob.size)
        except FileNotFoundError:
            return None
        if Digest.of(raw, entry.digest.algorithm) != entry.digest:
            return None
        listed = parse_manifest(raw, entry.media_type)
        if listed.media_type != media_types.OCI_INDEX:
            raise InvalidManifest(f"the tag {added.tag} is not a list of referrers")
        return listed

    def _write(self, manifest: Manifest, repository: Repository) -> None:
        try:
            with self._store.open(manifest.digest) as blob:
                if blob.size == len(manifest.raw) and blob.matches(manifest.digest):
                    return
        except FileNotFoundError:
            pass
        writer = self._store.begin(manifest.digest, len(manifest.raw), str(repository))
        try:
            writer.restart()
            writer.write([manifest.raw])
            writer.commit()
        finally:
            writer.close()
