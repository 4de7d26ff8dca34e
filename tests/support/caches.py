"""What earlier runs learnt, in memory."""

from syncer.engine.ledger import BlobCache
from syncer.oci.digest import Digest


class Remembered(BlobCache):
    """What indexes became, in memory."""

    def __init__(self) -> None:
        self.known: dict[tuple[Digest, str], Digest] = {}

    def filtered(self, digest: Digest, platforms: str) -> Digest | None:
        return self.known.get((digest, platforms))

    def record_filtered(self, digest: Digest, platforms: str, filtered: Digest) -> None:
        self.known[digest, platforms] = filtered
