"""Upload sessions (distribution-spec 1.1, "Pushing blobs")."""

import hashlib
import uuid
from collections.abc import AsyncIterator

from syncer.demo.errors import Refusal
from syncer.demo.store import Store
from syncer.lazy_pattern import lazy_pattern
from syncer.oci.digest import Digest

_CONTENT_RANGE = lazy_pattern(r"(?:bytes[ =])?([0-9]{1,18})-([0-9]{1,18})(?:/(?:[0-9]+|\*))?")


class Upload:
    """One upload session. Received bytes are kept if a connection breaks, so that a client can resume."""

    def __init__(self, repository: str) -> None:
        self.repository = repository
        self.id = str(uuid.uuid4())
        self._content = bytearray()
        self._sha256 = hashlib.sha256()

    @property
    def location(self) -> str:
        return f"/v2/{self.repository}/blobs/uploads/{self.id}"

    @property
    def headers(self) -> dict[str, str]:
        """Return the location and range of the session. An empty session has the range `0-0`, as in docker-registry."""
        end = max(len(self._content) - 1, 0)
        return {"Location": self.location, "Range": f"0-{end}", "Docker-Upload-UUID": self.id}

    def expect(self, content_range: str) -> None:
        """Check that a chunk starts at the end of the previous one. Raises `Refusal` with status 416."""
        match = _CONTENT_RANGE.fullmatch(content_range.strip())
        start, end = map(int, match.groups()) if match else (-1, -1)
        if start != len(self._content) or end < start:
            message = f"expected a chunk from {len(self._content)}, not {content_range[:100]}"
            raise Refusal("BLOB_UPLOAD_INVALID", message, status=416, headers=self.headers)

    async def take(self, chunks: AsyncIterator[bytes]) -> None:
        async for chunk in chunks:
            self._content += chunk
            self._sha256.update(chunk)

    def finish(self, store: Store, digest: Digest) -> None:
        """Store the blob. Raises `Refusal` if it does not have this digest."""
        content = bytes(self._content)
        if digest.algorithm == "sha256":
            matches = digest.matches(self._sha256)
        else:
            matches = Digest.of(content, digest.algorithm) == digest
        if not matches:
            raise Refusal(
                "DIGEST_INVALID", f"the {len(content)} bytes received do not have the digest {digest}"
            )
        store.put_blob(self.repository, content, digest)


class Uploads:
    """The open upload sessions."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._open: dict[str, Upload] = {}

    def __len__(self) -> int:
        return len(self._open)

    def start(self, repository: str) -> Upload:
        upload = Upload(repository)
        self._open[upload.id] = upload
        return upload

    def get(self, repository: str, id_: str) -> Upload:
        """Return a session. Raises `Refusal` if the repository does not have it."""
        upload = self._open.get(id_)
        if upload is None or upload.repository != repository:
            raise Refusal("BLOB_UPLOAD_UNKNOWN", f"upload unknown: {id_[:100]}")
        return upload

    def cancel(self, upload: Upload) -> None:
        self._open.pop(upload.id, None)

    def finish(self, upload: Upload, digest: Digest) -> None:
        """Close the session and store its blob. If this raises `Refusal`, the session is closed too."""
        self.cancel(upload)
        upload.finish(self._store, digest)
