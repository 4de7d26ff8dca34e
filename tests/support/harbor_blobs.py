"""The blobs of the Harbor for tests: downloads, uploads, mounts, garbage collection, and quotas."""

import hashlib
import uuid
from collections import Counter
from collections.abc import Callable

from syncer.demo import Answer, Request, Store
from syncer.demo.errors import Refusal
from syncer.demo.uploads import Upload, Uploads
from syncer.oci.digest import Digest
from tests.support import harbor_answers as rows
from tests.support.harbor_access import Access, NotRecorded, Project
from tests.support.harbor_answers import Row

_GZIP = b"\x1f\x8b"


class Blobs:
    """Answers what is under `/v2/<repository>/blobs/`. `url` says where the Harbor is.

    `collecting` are blobs that garbage collection is removing, `stuck` those it has been removing for hours.
    """

    def __init__(self, access: Access, store: Store, url: Callable[[], str]) -> None:
        self.collecting: set[Digest] = set()
        self.stuck: set[Digest] = set()
        self._known: set[Digest] = set()  # by Harbor's database, though the storage has lost them
        self._access = access
        self._store = store
        self._url = url
        self._uploads = Uploads(store)
        self._arrived: Counter[str] = Counter()  # bytes by upload

    @property
    def open_uploads(self) -> int:
        return len(self._uploads)

    def lose(self, repository: str, digest: Digest) -> None:
        """Remove a blob from the storage; Harbor's database goes on to know it."""
        self._store.delete_blob(repository, digest)
        self._known.add(digest)

    def collect_garbage(self) -> None:
        """Remove the blobs that no manifest of their repository refers to."""
        for repository in self._store.repositories():
            manifests = self._store.manifests(repository)
            used = {blob.digest for stored in manifests for blob in stored.manifest.blobs}
            for digest in self._store.blobs(repository).keys() - used:
                self._store.delete_blob(repository, digest)
                self._known.discard(digest)

    # Downloads

    async def head(self, request: Request, repository: str, digest: str) -> Answer:
        if digest in self.collecting | self.stuck:
            return rows.BLOB_IN_COLLECTION.answer(request=uuid.uuid4())
        known = digest in self._known or any(
            self._store.blob(name, digest) is not None for name in self._store.repositories()
        )
        # Proxy projects do not ask Harbor's database.
        if not known and not self._project(repository).proxy_cache:
            return rows.NO_BLOB_ANYWHERE.answer(digest=digest)
        return await self.get(request, repository, digest)

    async def get(self, request: Request, repository: str, digest: str) -> Answer:
        content = self._store.blob(repository, digest)
        if content is None:
            return rows.NO_BLOB.answer(digest=digest)
        if "Range" in request.headers:
            raise NotRecorded("a part of a blob")
        if not self._project(repository).proxy_cache:
            return rows.BLOB.answer(content, digest=digest)
        media_type = "application/x-gzip" if content.startswith(_GZIP) else "text/plain; charset=utf-8"
        return rows.UPSTREAM_BLOB.answer(content, media_type=media_type)

    # Uploads

    async def start(self, request: Request, repository: str, _id: str) -> Answer:
        if digest := request.query.get("mount"):
            return self._mount(request, repository, digest)
        if "digest" in request.query:
            raise NotRecorded("an upload in one request")
        return self._session(rows.UPLOAD_STARTED, self._uploads.start(repository))

    def _mount(self, request: Request, repository: str, digest: str) -> Answer:
        source = request.query.get("from", "")
        if not source or self._access.refusal(request, source, "pull", self._url()):
            raise NotRecorded("a mount from a repository that the token does not cover")
        if digest in self.collecting | self.stuck or not self._store.mount(repository, digest, source):
            if source == repository:
                # distribution-spec 1.1, end-11: "unable to mount the requested blob, it SHOULD return a 202".
                return self._session(rows.UPLOAD_STARTED, self._uploads.start(repository))
            raise NotRecorded("a mount of a blob that is not there")
        return rows.MOUNTED.answer(url=self._url(), repository=repository, digest=digest)

    async def continue_(self, request: Request, repository: str, id_: str) -> Answer:
        upload = self._upload(repository, id_)
        if content_range := request.headers.get("Content-Range"):
            try:
                upload.expect(content_range)
            except Refusal as refusal:
                raise NotRecorded(str(refusal)) from refusal
        await self._take(upload, request)
        return self._session(rows.UPLOAD_CONTINUED, upload)

    async def finish(self, request: Request, repository: str, id_: str) -> Answer:
        upload = self._upload(repository, id_)
        await self._take(upload, request)
        digest = Digest(request.query.get("digest", ""))
        if digest in self.collecting:
            return rows.BLOB_IN_COLLECTION.answer(request=uuid.uuid4())
        if self._store.blob(repository, digest) is None:
            size = self._arrived[id_]
            if refused := self.over_quota(self._project(repository), size):
                return refused
        try:
            self._uploads.finish(upload, digest)
        except Refusal as refusal:
            raise NotRecorded(str(refusal)) from refusal
        self.stuck.discard(digest)
        return rows.UPLOADED.answer(url=self._url(), repository=repository, digest=digest)

    async def cancel(self, _request: Request, repository: str, id_: str) -> Answer:
        upload = self._upload(repository, id_)
        self._uploads.cancel(upload)
        return rows.UPLOAD_CANCELLED.answer(upload=upload.id)

    def _upload(self, repository: str, id_: str) -> Upload:
        try:
            return self._uploads.get(repository, id_)
        except Refusal as refusal:
            raise NotRecorded(str(refusal)) from refusal

    async def _take(self, upload: Upload, request: Request) -> None:
        await upload.take(request.chunks())
        self._arrived[upload.id] += request.received

    def _session(self, row: Row, upload: Upload) -> Answer:
        state = hashlib.sha256(upload.headers["Range"].encode() + upload.id.encode()).hexdigest()
        return row.answer(
            url=self._url(),
            repository=upload.repository,
            upload=upload.id,
            state=state,
            end=max(self._arrived[upload.id] - 1, 0),
        )

    # Quota

    def used(self, project: str) -> int:
        """Bytes that count towards the quota: each blob and manifest once."""
        sizes: dict[Digest, int] = {}
        for repository in self._store.repositories():
            if repository.startswith(f"{project}/"):
                sizes |= {digest: len(blob) for digest, blob in self._store.blobs(repository).items()}
                sizes |= {stored.digest: len(stored.raw) for stored in self._store.manifests(repository)}
        return sum(sizes.values())

    def over_quota(self, project: Project, size: int) -> Answer | None:
        """The refusal of `size` bytes more; None where they fit."""
        used = self.used(project.name)
        if project.quota is None or used + size <= project.quota:
            return None
        return rows.QUOTA.answer(size=_bytes(size), used=_bytes(used), quota=_bytes(project.quota))

    def _project(self, repository: str) -> Project:
        return self._access.projects[repository.partition("/")[0]]


def _bytes(size: int) -> str:
    """As Harbor writes a size."""
    value, unit = float(size), "B"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if value < 1024:
            break
        value, unit = value / 1024, larger
    return f"{value:.1f} {unit}"
