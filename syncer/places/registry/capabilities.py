"""What a registry is found to refuse in the course of a run, so that it is not asked for it again and again."""

from syncer.places.registry.upload import UploadMethods

PAGE_SIZES = (1000, 100, None)
"""Tags to ask for at once, in the order to try them: ECR refuses more than the first, some more than the second."""
MAX_REFUSED_HEADS = 3
"""After so many refusals in a row HEAD is not sent any more."""


class HeadRequests:
    """Whether HEAD requests are of use: not where they were refused `MAX_REFUSED_HEADS` times in a row."""

    def __init__(self) -> None:
        self._refused = 0

    @property
    def useful(self) -> bool:
        return self._refused < MAX_REFUSED_HEADS

    def answered(self) -> None:
        self._refused = 0

    def refused(self) -> None:
        self._refused += 1


class Capabilities:
    """Of one registry, shared by all its repositories, for one run.

    `manifest_heads` are HEAD requests for manifests, refused where a GET then worked. `ranges` tells whether parts of
    blobs may be asked for, `page_size` how many tags at once (None: the registry's own number), `uploads` how blobs
    are sent.
    """

    def __init__(self) -> None:
        self.manifest_heads = HeadRequests()
        self.ranges = True
        self.page_size: int | None = PAGE_SIZES[0]
        self.uploads = UploadMethods()
