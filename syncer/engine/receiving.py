"""`ReceiveBlobs`: copy the blobs of a stream in the order in which they come, before it is known which images need them."""

from syncer.engine.blobs import CopyBlob, blob_key
from syncer.engine.image_copy import ImageCopy
from syncer.engine.task import Job, Lane, Reschedule, Task
from syncer.oci.reference import Reference
from syncer.places.content import StreamedBlob, StreamsBlobs
from syncer.rules.rule import Rule


class ReceiveBlobs(Task):
    """Copies each blob of `place` to the destinations that `rule` has for its repository.

    A blob that cannot be copied fails the images that need it.
    """

    kind = "blob"
    __slots__ = ("place", "rule")

    def __init__(self, place: StreamsBlobs, rule: Rule) -> None:
        super().__init__([("stream", rule.source)])
        self.place = place
        self.rule = rule

    def __str__(self) -> str:
        return f"receive {self.rule.source}"

    async def run(self, job: Job) -> Reschedule | None:
        streamed = await self.place.next_blob()
        if streamed is None:
            return None
        copy = self._copy(job, streamed)
        if copy is None:
            return Reschedule(Lane.METADATA)
        job.graph.add(copy)
        return Reschedule(Lane.METADATA, after=copy.keys)

    def _copy(self, job: Job, streamed: StreamedBlob) -> CopyBlob | None:
        rule = self.rule.for_repository(streamed.repository)
        targets = {}
        for destination in rule.destinations if rule else ():
            repository, digest = destination.repository, streamed.blob.digest
            if job.ledger.has(repository, digest) or job.graph.producer(blob_key(repository, digest)):
                continue
            source, target = Reference(streamed.repository), Reference(repository)
            targets[repository] = ImageCopy(rule or self.rule, source, target)
        return CopyBlob(streamed.blob, streamed.repository, targets) if targets else None
