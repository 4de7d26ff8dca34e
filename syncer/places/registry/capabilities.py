"""Features that a registry refused during this run. Requests that use them are not repeated."""

import asyncio
import enum

PAGE_SIZES = (1000, 100, None)
"""Page sizes for tag lists, in the order to try: ECR refuses more than 1000, other registries more than 100."""
CHUNK = 16 * 1024 * 1024
"""Bytes of a chunk. Azure accepts less than 20 MB per request."""
MAX_REFUSED_HEADS = 3
"""After this many consecutive refusals, HEAD requests are no longer sent."""


class HeadRequests:
    """Counts refused HEAD requests. They are useful until `MAX_REFUSED_HEADS` of them are refused in a row."""

    def __init__(self) -> None:
        self._refused = 0

    @property
    def useful(self) -> bool:
        return self._refused < MAX_REFUSED_HEADS

    def answered(self) -> None:
        self._refused = 0

    def refused(self) -> None:
        self._refused += 1


class UploadMethod(enum.IntEnum):
    """How a blob is sent, with the fewest requests first."""

    MONOLITHIC = 0
    STREAMED = 1
    CHUNKED = 2


class UploadMethods:
    """The methods that a registry refuses, and its chunk size in bytes. Shared by all of its repositories."""

    def __init__(self) -> None:
        self._refused: dict[UploadMethod, int] = {}
        self.chunk = CHUNK

    def choose(self, size: int) -> UploadMethod:
        """Return the first method that is not known to be refused for a blob of `size` bytes."""
        method = UploadMethod.MONOLITHIC
        while method < UploadMethod.CHUNKED and self._refused.get(method, size + 1) <= size:
            method = UploadMethod(method + 1)
        return method

    def refuse(self, method: UploadMethod, size: int) -> None:
        """Record that a body of `size` bytes was refused. Larger bodies are not sent with this method either."""
        self._refused[method] = min(size, self._refused.get(method, size))


class ReferrersApi:
    """What is known about the referrers API of a registry.

    `supported` is None until the API has answered or was refused. `records_subjects` is set if the registry confirms
    the subjects of pushed manifests (`OCI-Subject`), so that no fallback tag is needed. Hold `probing` for the first
    request, so that a registry without the API is asked once.
    """

    def __init__(self) -> None:
        self.supported: bool | None = None
        self.probing = asyncio.Lock()
        self.records_subjects = False

    def answered(self) -> None:
        self.supported = True

    def refused(self) -> None:
        if self.supported is None:
            self.supported = False


class Capabilities:
    """The capabilities of one registry during one run, shared by all of its repositories.

    - `manifest_heads`: HEAD requests for manifests. A request counts as refused if the following GET succeeds.
    - `ranges`: whether the registry serves ranges of blobs.
    - `page_size`: tags per page of a tag list; None means the registry's default.
    - `uploads`: the upload methods that the registry accepts.
    - `removes_tags`: whether the registry removes tags, and not only manifests by digest.
    - `mounts_from_itself`: whether a mount from the repository itself is answered, as every other mount is.
    - `push_times`: whether the registry may have an API that tells when tags were pushed.
    - `referrers`: its referrers API.
    """

    def __init__(self) -> None:
        self.manifest_heads = HeadRequests()
        self.ranges = True
        self.page_size: int | None = PAGE_SIZES[0]
        self.uploads = UploadMethods()
        self.removes_tags = True
        self.mounts_from_itself = True
        self.push_times = True
        self.referrers = ReferrersApi()
