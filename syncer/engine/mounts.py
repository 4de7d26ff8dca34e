"""Where a blob may be mounted from: repositories of one registry and account, and only with proof.

A registry mounts whatever the account may read. An image that only names the digest of a blob must not get it that way.
"""

from collections.abc import Iterator

from syncer.engine.task import Job
from syncer.errors import RegistryError
from syncer.events import Decision
from syncer.oci.digest import Digest
from syncer.oci.reference import Repository
from syncer.places.content import Source
from syncer.rules.rule import Rule


def same_group(one: Source, other: Source) -> bool:
    """Whether the registry could mount blobs of the one into the other."""
    return one.mount_group == other.mount_group


def holders(job: Job, digest: Digest, source: Repository, target: Repository) -> Iterator[Repository]:
    """Repositories from which a blob could be mounted into `target`.

    The image's own `source` comes first, if it is at the same registry, then those that are known to hold the blob.
    """
    destination = job.repositories.destination(target)
    if source != target and same_group(job.repositories.source(source), destination):
        yield source
    for holder in job.ledger.holders(target, digest):
        if holder != source and same_group(job.repositories.destination(holder), destination):
            yield holder


async def may_mount(job: Job, digest: Digest, source: Repository, holder: Repository, rule: Rule) -> bool:
    """Whether an image of `source` may take a blob from `holder`.

    It may if the source is that repository or has the blob, too, or if the rule copies to that repository anyway. The
    source is asked once for each blob. Where it does not answer, the blob is not mounted.
    """
    if job.trust_sources or holder == source or rule.writes_to(holder):
        return True
    served = job.ledger.serves(source, digest)
    if served is None:
        try:
            served = await job.repositories.source(source).has_blob(digest)
        except RegistryError as error:
            job.observer.notify(Decision(str(digest), f"not mounted, {source} does not answer: {error}"))
            return False
        job.ledger.record_served(source, digest, served=served)
    if not served:
        job.observer.notify(Decision(str(digest), f"not mounted from {holder}: {source} does not have it"))
    return served
