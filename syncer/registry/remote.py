"""A repository behind the distribution API (distribution-spec 1.1). Reads like the specification; retries are below."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import msgspec

from syncer.http import failures
from syncer.http.client import Answer, RegistryClient
from syncer.http.errors import DigestMismatch, Kind, RegistryError
from syncer.oci import media_types
from syncer.oci.descriptor import Descriptor
from syncer.oci.digest import Digest, InvalidDigest
from syncer.oci.manifest import InvalidManifest, Manifest, UnsupportedManifest, parse_manifest
from syncer.oci.reference import Repository
from syncer.registry.repository import BlobBody, Destination, Upload
from syncer.registry.upload import RemoteUpload

PAGE = 1000
"""Tags asked for at once: ECR refuses more."""
MAX_TAGS = 5_000_000
_NEXT = re.compile(r'<([^<>]*)>\s*;[^,]*\brel\s*=\s*"?next"?', re.IGNORECASE)
_CONTENT_RANGE = re.compile(r"bytes\s+(\d{1,18})-(\d{1,18})/(\d{1,18}|\*)", re.IGNORECASE)
_FOUND_OR_NOT = frozenset({200, 404})
_ACCEPT = {"Accept": media_types.ACCEPT}


class _Tags(msgspec.Struct):
    tags: list[object] | None = None


class RemoteRepository(Destination):
    """One repository at one registry.

    `writable` repositories ask for push rights from the start: one token serves all of their requests.
    """

    def __init__(self, client: RegistryClient, name: Repository, *, writable: bool) -> None:
        self.name = name
        self._client = client
        self._base = f"/v2/{name.path}"
        self._scopes = (f"repository:{name.path}:{'pull,push' if writable else 'pull'}",)

    # --- reading: distribution-spec, "Pull" and "Content Discovery" ---------------------------------------------

    async def tags(self) -> AsyncIterator[list[str]]:
        target: str | None = f"{self._base}/tags/list?n={PAGE}"
        seen = 0
        visited: set[str] = set()
        while target:
            visited.add(target)
            answer = await self._client.send(
                "GET", target, endpoint="tags", scopes=self._scopes, what=f"tags of {self.name}"
            )
            try:
                listed = msgspec.json.decode(answer.body, type=_Tags).tags or []
            except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
                raise self._invalid(f"the list of tags cannot be read: {error}", "GET tags") from error
            # Nexus lists nulls.
            page = [tag for tag in listed if isinstance(tag, str)]
            seen += len(page)
            if seen > MAX_TAGS:
                raise self._invalid(f"more than {MAX_TAGS} tags", "GET tags")
            yield page
            target = self._next_page(answer)
            if target in visited:
                raise self._invalid("the pages of the list of tags go in a circle", "GET tags")

    def _next_page(self, answer: Answer) -> str | None:
        for link in answer.headers.get_list("link"):
            if match := _NEXT.search(link[:8192]):
                return self._client.address.resolve(answer.url, match[1])
        return None

    async def is_new(self) -> bool:
        answer = await self._client.send(
            "GET",
            f"{self._base}/tags/list?n=1",
            endpoint="tags",
            scopes=self._scopes,
            what=f"tags of {self.name}",
            ok=frozenset({200, 401, 403, 404, 405}),
        )
        return answer.status == 404 and b"NAME_UNKNOWN" in answer.body

    async def find(self, target: str) -> Descriptor | None:
        answer = await self._client.send(
            "HEAD",
            f"{self._base}/manifests/{target}",
            endpoint="manifest",
            scopes=self._scopes,
            what=self._manifest(target),
            headers=_ACCEPT,
            ok=frozenset({200, 404, 405}),
        )
        if answer.status == 404:
            return None
        try:
            digest = Digest.parse(answer.headers.get("docker-content-digest"))
        except InvalidDigest:
            # HEAD is refused, or says too little: the content tells.
            manifest = await self._fetch(target, missing_ok=True)
            return Descriptor(manifest.media_type, manifest.digest, len(manifest.raw)) if manifest else None
        length = answer.headers.get("content-length", "")
        return Descriptor(
            media_type=answer.headers.get("content-type", "").partition(";")[0].strip(),
            digest=digest,
            size=int(length) if length.isdecimal() and len(length) < 16 else -1,
        )

    async def fetch_manifest(self, target: str) -> Manifest:
        manifest = await self._fetch(target, missing_ok=False)
        assert manifest is not None
        return manifest

    async def _fetch(self, target: str, *, missing_ok: bool) -> Manifest | None:
        what = self._manifest(target)
        answer = await self._client.send(
            "GET",
            f"{self._base}/manifests/{target}",
            endpoint="manifest",
            scopes=self._scopes,
            what=what,
            headers=_ACCEPT,
            ok=_FOUND_OR_NOT if missing_ok else frozenset({200}),
        )
        if answer.status == 404:
            return None
        content_type = answer.headers.get("content-type", "")
        stated = target if ":" in target else answer.headers.get("docker-content-digest")
        try:
            expected = Digest.parse(stated) if stated else None
        except InvalidDigest:
            expected = None
        try:
            manifest = parse_manifest(answer.body, content_type, stated=expected)
        except UnsupportedManifest as error:
            raise RegistryError(
                Kind.UNSUPPORTED, str(error), registry=self.name.host, attempt=f"GET {what}"
            ) from error
        except InvalidManifest as error:
            raise self._invalid(str(error), f"GET {what}") from error
        if expected is not None and manifest.digest != expected:
            raise DigestMismatch(
                f"the registry sent a manifest of digest {manifest.digest} for {expected}",
                registry=self.name.host,
                attempt=f"GET {what}",
            )
        return manifest

    @asynccontextmanager
    async def fetch_blob(self, blob: Descriptor, *, offset: int = 0) -> AsyncIterator[BlobBody]:
        what = f"blob {blob.digest} of {self.name}"
        async with self._client.open(
            f"{self._base}/blobs/{blob.digest}",
            endpoint="blob",
            scopes=self._scopes,
            what=what,
            headers={"Range": f"bytes={offset}-"} if offset else None,
            ok=frozenset({200, 206}) if offset else frozenset({200}),
        ) as response:
            start, size = 0, -1
            if response.status_code == 206:
                if not (match := _CONTENT_RANGE.fullmatch(response.headers.get("content-range", "").strip())):
                    raise self._invalid("a part of a blob without a readable Content-Range", f"GET {what}")
                start = int(match[1])
                size = -1 if match[3] == "*" else int(match[3])
                if start > offset:
                    raise self._invalid(f"asked for bytes from {offset} on, got {start} on", f"GET {what}")
            else:
                length = response.headers.get("content-length", "")
                size = int(length) if length.isdecimal() and len(length) < 19 else -1
            if response.headers.get("content-encoding", "identity").lower() not in {"", "identity"}:
                raise self._invalid("the blob came compressed, though not asked to be", f"GET {what}")
            yield BlobBody(start, size, self._chunks(response, what))

    async def _chunks(self, response: httpx.Response, what: str) -> AsyncIterator[bytes]:
        assert isinstance(response.stream, httpx.AsyncByteStream)
        try:
            async for chunk in response.stream:
                yield chunk
        except httpx.HTTPError as error:
            raise failures.from_transport(error, registry=self.name.host, attempt=f"GET {what}") from error

    # --- writing: distribution-spec, "Push" ---------------------------------------------------------------------

    async def has_blob(self, digest: Digest) -> bool:
        answer = await self._client.send(
            "HEAD",
            f"{self._base}/blobs/{digest}",
            endpoint="blob",
            scopes=self._scopes,
            what=f"blob {digest} of {self.name}",
            ok=_FOUND_OR_NOT,
        )
        return answer.status == 200

    def can_mount_from(self, other: Destination) -> bool:
        # One client is one account at one registry: mounting needs pull there and push here in one token.
        return isinstance(other, RemoteRepository) and other._client is self._client  # noqa: SLF001

    async def mount(self, digest: Digest, *, from_: Repository) -> Upload | None:
        answer = await self._client.send(
            "POST",
            f"{self._base}/blobs/uploads/?mount={digest}&from={from_.path}",
            endpoint="upload",
            scopes=(*self._scopes, f"repository:{from_.path}:pull"),
            what=f"mount of {digest} from {from_.path} into {self.name}",
            ok=frozenset({201, 202, 401, 403, 404, 405}),
        )
        if answer.status == 201:
            return None
        if answer.status == 202:
            return self._upload(answer)
        return await self.start_upload()

    async def start_upload(self) -> Upload:
        answer = await self._client.send(
            "POST",
            f"{self._base}/blobs/uploads/",
            endpoint="upload",
            scopes=self._scopes,
            what=f"upload to {self.name}",
            ok=frozenset({202}),
        )
        return self._upload(answer)

    def _upload(self, answer: Answer) -> RemoteUpload:
        location = answer.headers.get("location", "")
        if not location:
            raise self._invalid("an upload without a Location", f"POST upload to {self.name}")
        return RemoteUpload(
            self._client, self.name, self._scopes, self._client.address.resolve(answer.url, location)
        )

    async def push_manifest(self, manifest: Manifest, *, tag: str | None = None) -> None:
        what = self._manifest(tag or manifest.digest)
        answer = await self._client.send(
            "PUT",
            f"{self._base}/manifests/{tag or manifest.digest}",
            endpoint="manifest",
            scopes=self._scopes,
            what=what,
            headers={"Content-Type": manifest.media_type},
            content=manifest.raw,
            ok=frozenset({200, 201, 202}),
        )
        stored = answer.headers.get("docker-content-digest")
        if (
            stored
            and stored != manifest.digest
            and ":" in stored
            and stored.startswith(manifest.digest.algorithm)
        ):
            raise DigestMismatch(
                f"the registry stored it as {stored} instead of {manifest.digest}",
                registry=self.name.host,
                attempt=f"PUT {what}",
                permanent=True,
            )

    def _manifest(self, target: str) -> str:
        return f"manifest {self.name}{'@' if ':' in target else ':'}{target}"

    def _invalid(self, message: str, attempt: str) -> RegistryError:
        return RegistryError(Kind.INVALID, message, registry=self.name.host, attempt=attempt)
