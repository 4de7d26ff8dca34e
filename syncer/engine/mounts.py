"""Decides from which repositories a blob may be mounted (distribution-spec 1.1, "Mounting a blob from another repository").

A registry mounts every blob that the account may read. An image that only names the digest of a blob must not obtain
the blob that way, so a mount requires proof that the image's source has the blob.
"""

from syncer.engine.task import Job
from syncer.errors import RegistryError
from syncer.events import Decision
from syncer.oci.digest import Digest
from syncer.oci.reference import Repository
from syncer.places.content import Source
from syncer.rules.rule import Rule


def same_group(one: Source, other: Source) -> bool:
    """Return whether both repositories are at one registry and use one account."""
    return one.mount_group == other.mount_group


async def find_holder(
    job: Job, digest: Digest, source: Repository, target: Repository, rule: Rule
) -> Repository | None:
    """Return the first repository from which an image of `source` may mount a blob into `target`, or None.

    The image's own `source` comes first, if it is at the same registry, then the repositories known to hold the blob. A
    layout tells whether its other repositories hold it.
    """
    for holder in _known_holders(job, digest, source, target):
        if await _may_mount(job, digest, source, holder, rule):
            return holder
    shared = await job.repositories.destination(target).shared_by(digest)
    if shared is not None and await _may_mount(job, digest, source, shared, rule):
        return shared
    return None


def _known_holders(job: Job, digest: Digest, source: Repository, target: Repository) -> list[Repository]:
    destination = job.repositories.destination(target)
    found = [
        holder
        for holder in job.ledger.holders(target, digest)
        if holder != source and same_group(job.repositories.destination(holder), destination)
    ]
    is_near = source != target and same_group(job.repositories.source(source), destination)
    return [source, *found] if is_near else found


async def _may_mount(job: Job, digest: Digest, source: Repository, holder: Repository, rule: Rule) -> bool:
    """Return whether an image of `source` may mount a blob from `holder`.

    It may if `holder` is the source, if the source has the blob too, or if the rule writes to `holder`. The source is
    checked once for each blob. If the check fails, the blob is not mounted.
    """
    if job.trust_sources or holder == source or rule.writes_to(holder):
        return True
    served = job.ledger.serves(source, digest)
    if served is None:
        try:
            served = await job.repositories.source(source).has_blob(digest)
        except RegistryError as error:
            job.observer.notify(Decision(str(digest), f"not mounted: cannot check {source}: {error}"))
            return False
        job.ledger.record_served(source, digest, served=served)
    if not served:
        job.observer.notify(Decision(str(digest), f"not mounted from {holder}: {source} does not have it"))
    return served
