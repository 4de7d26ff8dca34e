"""The endpoints of the distribution specification 1.1 over a `Store`. No sockets here.

Each method answers one endpoint of the specification's table ("Endpoints") or raises `Refusal`.
"""

from collections.abc import Awaitable, Callable
from urllib.parse import urlencode

from syncer.demo.errors import Refusal
from syncer.demo.manifests import MAX_SIZE
from syncer.demo.messages import Answer, Request
from syncer.demo.store import Store, StoredManifest, check_name, parse_digest
from syncer.demo.uploads import Upload, Uploads
from syncer.lazy_pattern import lazy_pattern
from syncer.oci import media_types
from syncer.oci.reference import is_tag

MAX_CATALOG_PAGE = 1000
_PATH = lazy_pattern(
    r"/v2/(?P<name>.+)/(?:"
    r"manifests/(?P<reference>[^/]+)"
    r"|blobs/uploads(?:/(?P<upload>[^/]*))?"
    r"|blobs/(?P<digest>[^/]+)"
    r"|(?P<tags>tags)/list"
    r"|referrers/(?P<subject>[^/]+))"
)
_RANGE = lazy_pattern(r"bytes=([0-9]{0,18})-([0-9]{0,18})")
_NUMBER = lazy_pattern(r"[0-9]{1,9}")

_Endpoint = Callable[[Request, str, str], Awaitable[Answer]]


class Endpoints:
    """Handles the requests to a registry.

    `chunk_min_length` is the announced minimum length of upload chunks in bytes. `max_page` limits the pages of tag
    lists, as some registries do. `blob_location` returns the URL to which blob downloads are redirected.
    """

    def __init__(
        self,
        store: Store,
        *,
        chunk_min_length: int | None = None,
        max_page: int | None = None,
        blob_location: Callable[[str, str], str] | None = None,
    ) -> None:
        self.uploads = Uploads(store)
        self._store = store
        self._chunk_min_length = chunk_min_length
        self._max_page = max_page
        self._blob_location = blob_location
        self._endpoints: dict[tuple[str, str], _Endpoint] = {
            ("GET", "reference"): self._get_manifest,
            ("HEAD", "reference"): self._get_manifest,
            ("PUT", "reference"): self._put_manifest,
            ("DELETE", "reference"): self._delete_manifest,
            ("GET", "digest"): self._get_blob,
            ("HEAD", "digest"): self._get_blob,
            ("DELETE", "digest"): self._delete_blob,
            ("POST", "upload"): self._start_upload,
            ("GET", "upload"): self._upload_status,
            ("PATCH", "upload"): self._continue_upload,
            ("PUT", "upload"): self._finish_upload,
            ("DELETE", "upload"): self._cancel_upload,
            ("GET", "tags"): self._list_tags,
            ("GET", "subject"): self._list_referrers,
        }

    async def answer(self, request: Request) -> Answer:
        if request.path in {"/v2/", "/v2"}:
            return Answer.json({}, {"Docker-Distribution-API-Version": "registry/2.0"})
        if request.path == "/v2/_catalog" and request.method == "GET":
            return self._list_repositories(request)
        match = _PATH.fullmatch(request.path)
        if match is None:
            raise Refusal("UNSUPPORTED", f"no such endpoint: {request.path[:300]}", status=404)
        kind = match.lastgroup if match.lastgroup != "name" else "upload"
        endpoint = self._endpoints.get((request.method, kind or ""))
        if endpoint is None:
            raise Refusal("UNSUPPORTED", f"{request.method} is not for {request.path[:300]}")
        return await endpoint(request, match["name"], match[kind or ""] or "")

    # Manifests

    async def _get_manifest(self, _request: Request, name: str, reference: str) -> Answer:
        if ":" in reference:
            parse_digest(reference)
        stored = self._store.get_manifest(name, reference)
        headers = {"Content-Type": stored.media_type, "Docker-Content-Digest": stored.digest}
        return Answer(200, headers, stored.raw)

    async def _put_manifest(self, request: Request, name: str, reference: str) -> Answer:
        check_name(name)
        raw = await request.read(MAX_SIZE)
        media_type = request.headers.get("Content-Type", "")
        stored = self._store.put_manifest(name, raw, media_type, reference=reference)
        return Answer(201, _manifest_headers(name, stored))

    async def _delete_manifest(self, _request: Request, name: str, reference: str) -> Answer:
        if is_tag(reference):
            self._store.delete_tag(name, reference)
        else:
            self._store.delete_manifest(name, parse_digest(reference))
        return Answer(202)

    # Blobs

    async def _get_blob(self, request: Request, name: str, digest: str) -> Answer:
        content = self._store.get_blob(name, digest)
        if self._blob_location is not None and request.method == "GET":
            return Answer(307, {"Location": self._blob_location(name, digest)})
        return blob_answer(content, digest, request.headers.get("Range", ""))

    async def _delete_blob(self, _request: Request, name: str, digest: str) -> Answer:
        self._store.delete_blob(name, parse_digest(digest))
        return Answer(202)

    # Uploads

    async def _start_upload(self, request: Request, name: str, _id: str) -> Answer:
        check_name(name)
        query = request.query
        if "mount" in query:
            digest = parse_digest(query["mount"])
            if self._store.mount(name, digest, query.get("from", "")):
                return _created(name, digest)
        elif "digest" in query:
            digest = parse_digest(query["digest"])
            upload = self.uploads.start(name)
            await upload.take(request.chunks())
            self.uploads.finish(upload, digest)
            return _created(name, digest)
        upload = self.uploads.start(name)
        minimum = self._chunk_min_length
        announced = {"OCI-Chunk-Min-Length": str(minimum)} if minimum else {}
        return Answer(202, {**upload.headers, **announced})

    async def _upload_status(self, _request: Request, name: str, id_: str) -> Answer:
        return Answer(204, self.uploads.get(name, id_).headers)

    async def _continue_upload(self, request: Request, name: str, id_: str) -> Answer:
        upload = self.uploads.get(name, id_)
        await _take_chunk(upload, request)
        return Answer(202, upload.headers)

    async def _finish_upload(self, request: Request, name: str, id_: str) -> Answer:
        upload = self.uploads.get(name, id_)
        digest = parse_digest(request.query.get("digest", ""))
        await _take_chunk(upload, request)
        self.uploads.finish(upload, digest)
        return _created(name, digest)

    async def _cancel_upload(self, _request: Request, name: str, id_: str) -> Answer:
        self.uploads.cancel(self.uploads.get(name, id_))
        return Answer(204)

    # Lists

    def _list_repositories(self, request: Request) -> Answer:
        """Answer `_catalog`, which the specification lacks and the distribution registry has."""
        limit = min(
            _page_size(request.query.get("n")) or MAX_CATALOG_PAGE, self._max_page or MAX_CATALOG_PAGE
        )
        names, more = self._store.repositories_page(limit, request.query.get("last", ""))
        headers = {}
        if more and names:
            query = urlencode({"n": limit, "last": names[-1]})
            headers["Link"] = f'</v2/_catalog?{query}>; rel="next"'
        return Answer.json({"repositories": names}, headers)

    async def _list_tags(self, request: Request, name: str, _rest: str) -> Answer:
        asked = _page_size(request.query.get("n"))
        limit = self._max_page if asked is None else min(asked, self._max_page or asked)
        tags, more = self._store.tags_page(name, limit, request.query.get("last", ""))
        headers = {}
        if more and tags:
            query = urlencode({"n": limit, "last": tags[-1]})
            headers["Link"] = f'</v2/{name}/tags/list?{query}>; rel="next"'
        return Answer.json({"name": name, "tags": tags}, headers)

    async def _list_referrers(self, request: Request, name: str, subject: str) -> Answer:
        check_name(name)
        found = self._store.referrers(name, parse_digest(subject))
        headers = {"Content-Type": media_types.OCI_INDEX}
        if wanted := request.query.get("artifactType"):
            found = [entry for entry in found if entry.get("artifactType") == wanted]
            headers["OCI-Filters-Applied"] = "artifactType"
        index = {"schemaVersion": 2, "mediaType": media_types.OCI_INDEX, "manifests": found}
        return Answer.json(index, headers)


def blob_answer(content: bytes, digest: str, asked: str) -> Answer:
    """Return a blob, or the part that the `Range` header selects (RFC 9110, section 14)."""
    headers = {
        "Content-Type": "application/octet-stream",
        "Docker-Content-Digest": digest,
        "Accept-Ranges": "bytes",
    }
    match = _RANGE.fullmatch(asked)
    # Several ranges, or an invalid range, may be ignored: return the whole blob.
    if match is None or match.groups() == ("", ""):
        return Answer(200, headers, content)
    size = len(content)
    first, last = match.groups()
    start = int(first) if first else max(size - int(last), 0)
    end = min(int(last) + 1, size) if first and last else size
    if start >= end:
        raise Refusal(
            "SIZE_INVALID",
            f"no such range: {asked}",
            status=416,
            headers={"Content-Range": f"bytes */{size}"},
        )
    headers["Content-Range"] = f"bytes {start}-{end - 1}/{size}"
    return Answer(206, headers, memoryview(content)[start:end])


async def _take_chunk(upload: Upload, request: Request) -> None:
    if content_range := request.headers.get("Content-Range"):
        upload.expect(content_range)
    await upload.take(request.chunks())


def _created(name: str, digest: str) -> Answer:
    return Answer(201, {"Location": f"/v2/{name}/blobs/{digest}", "Docker-Content-Digest": digest})


def _manifest_headers(name: str, stored: StoredManifest) -> dict[str, str]:
    headers = {"Location": f"/v2/{name}/manifests/{stored.digest}", "Docker-Content-Digest": stored.digest}
    if stored.manifest.subject is not None:
        headers["OCI-Subject"] = stored.manifest.subject
    return headers


def _page_size(asked: str | None) -> int | None:
    if asked is None:
        return None
    if not _NUMBER.fullmatch(asked):
        raise Refusal("PAGINATION_NUMBER_INVALID", f"not a number of tags: {asked[:100]!r}")
    return int(asked)
