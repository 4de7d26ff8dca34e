"""A remote repository as a source (distribution-spec 1.1, "Pull" and "Content Discovery").

This module implements the protocol only; `syncer.http` sends requests and retries them.
"""

from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import cache, partial
from typing import TYPE_CHECKING

from msgspec.structs import replace

from syncer.errors import MAX_RETRY_AFTER, Attempt, DigestMismatch, Kind, RegistryError
from syncer.http.client import RegistryClient
from syncer.http.request import Answer
from syncer.http.transport import HttpResponse
from syncer.oci import media_types
from syncer.oci.descriptor import Descriptor
from syncer.oci.digest import Digest, InvalidDigest
from syncer.oci.manifest import (
    MAX_MANIFEST_SIZE,
    InvalidManifest,
    Manifest,
    UnsupportedManifest,
    parse_manifest,
)
from syncer.oci.reference import Repository
from syncer.places.content import BlobBody, ListsReferrers, Source
from syncer.places.registry.answers import (
    SUCCESS,
    is_hang_up,
    is_head_refusal,
    is_refusal,
    refuse_web_page,
    unreadable,
)
from syncer.places.registry.capabilities import Capabilities, HeadRequests
from syncer.places.registry.headers import content_range, number
from syncer.places.registry.tag_list import MAX_PAGE_BYTES, TagList

if TYPE_CHECKING:
    from syncer.places.registry.push_times import PushTimes
    from syncer.places.registry.referrers import ReferrersList

PREWARM = 4
"""Connections to open in advance, for the requests that follow a tag list."""
_ACCEPT = {"Accept": media_types.ACCEPT}


def _may_be_of_range(error: RegistryError) -> bool:
    """Return whether a registry may have refused a blob because of the requested range. Any status is used for that."""
    refused = error.status is not None and error.attempt.endpoint == "blob"
    return (refused or is_hang_up(error)) and (error.retry_after or 0.0) <= MAX_RETRY_AFTER


class RemoteRepository(Source, ListsReferrers):
    """One repository at one registry, as a source.

    - `writable`: request the push scope from the start, so that one token serves all requests.
    - `retry`: retry failed reads.
    - `capabilities`: the features that this registry is known to support.
    - `push_times`: returns the API that tells when tags were pushed. It is called when it is first needed.
    """

    def __init__(
        self,
        client: RegistryClient,
        name: Repository,
        *,
        writable: bool = False,
        retry: bool = True,
        capabilities: Capabilities | None = None,
        push_times: "Callable[[], PushTimes] | None" = None,
    ) -> None:
        self.name = name
        self._push_times = push_times and cache(push_times)
        # A client is one account at one registry. A mount needs one token with both pull and push scopes.
        self.mount_group = client
        self._client = client
        self._retry = retry
        self._capabilities = capabilities or Capabilities()
        self._blob_heads = HeadRequests()
        self._listing_doubts: list[str] = []
        self._base = f"/v2/{name.path}"
        self._shown = str(name)
        self._scopes = (f"repository:{name.path}:{'pull,push' if writable else 'pull'}",)

    def tags(self) -> AsyncIterator[list[str]]:
        what = f"tags of {self._shown}"

        async def get(target: str) -> Answer:
            return await self._client.send(
                "GET",
                target,
                endpoint="tags",
                scopes=self._scopes,
                what=what,
                ok=SUCCESS,
                retry=self._retry,
                prewarm=PREWARM,
                limit=MAX_PAGE_BYTES,
            )

        attempt = self._attempt("GET", "tags", what)
        listing = TagList(
            get,
            f"{self._base}/tags/list",
            attempt=attempt,
            capabilities=self._capabilities,
            doubt=self._listing_doubts.append,
        )
        return listing.pages()

    def listing_doubt(self) -> str:
        return next(iter(self._listing_doubts), "")

    async def push_times(self, tags: Collection[str]) -> Mapping[str, float]:
        return await self._push_times().of(tags) if self._push_times else {}

    @property
    def lists_by_tag_only(self) -> bool:
        return self._capabilities.referrers.supported is False

    async def referrers(self, subject: Digest, *, tagged: bool | None = None) -> Sequence[Descriptor]:
        return await self._referrers_of(subject).referrers(subject, tagged=tagged)

    def _referrers_of(self, subject: Digest) -> "ReferrersList":
        from syncer.places.registry.referrers import ReferrersList

        what = f"referrers of {self.name}@{subject}"

        async def get(target: str) -> Answer:
            return await self._client.send(
                "GET",
                target,
                endpoint="referrers",
                scopes=self._scopes,
                what=what,
                headers={"Accept": media_types.OCI_INDEX},
                ok=SUCCESS,
                retry=self._retry,
                limit=MAX_MANIFEST_SIZE,
            )

        return ReferrersList(
            self._base,
            self._capabilities.referrers,
            attempt=self._attempt("GET", "referrers", what),
            get=get,
            fetch_tag=self._get_manifest,
        )

    async def resolve(self, target: str) -> Descriptor | None:
        """Return the descriptor of a tag or digest; None if it is missing. Fall back to GET if HEAD does not tell."""
        try:
            if found := await self._head(target):
                return found
        except RegistryError as error:
            if not is_head_refusal(error):
                raise
        try:
            return await self._resolve_by_get(target)
        except RegistryError as error:
            if error.status == 404:
                return None
            raise

    async def _head(self, target: str) -> Descriptor | None:
        """Return the descriptor from a HEAD response; None if it has no digest, or if the registry refuses HEAD requests."""
        heads = self._capabilities.manifest_heads
        if not heads.useful:
            return None
        try:
            answer = await self._client.send(
                "HEAD",
                f"{self._base}/manifests/{target}",
                endpoint="manifest",
                scopes=self._scopes,
                what=self._manifest(target),
                headers=_ACCEPT,
                ok=SUCCESS,
                retry=self._retry,
                read_seconds=self._client.answer_seconds,
            )
        except RegistryError as error:
            if error.kind is Kind.THROTTLED:
                # Do not count it: a rate limit passes, and at some registries only GET counts as a pull.
                heads.answered()
            raise
        try:
            digest = Digest.parse(answer.headers.get("docker-content-digest"))
        except InvalidDigest:
            return None
        heads.answered()
        return Descriptor(
            media_type=answer.headers.get("content-type", "").partition(";")[0].strip(),
            digest=digest,
            size=number(answer.headers.get("content-length")),
        )

    async def _resolve_by_get(self, target: str) -> Descriptor:
        manifest = await self._get_manifest(target)
        self._capabilities.manifest_heads.refused()
        return Descriptor(manifest.media_type, manifest.digest, len(manifest.raw))

    async def fetch_manifest(self, target: str, *, tag: str | None = None) -> Manifest:
        try:
            return await self._get_manifest(target)
        except RegistryError as error:
            if tag is None or tag == target or not is_refusal(error, "manifest"):
                raise
        # The registry serves manifests by tag only, or the tag has moved: fetch what the tag names now.
        return await self._get_manifest(tag)

    async def _get_manifest(self, target: str) -> Manifest:
        """Fetch a manifest and compute its digest from its bytes. Raise `DigestMismatch` if another digest was expected."""
        what = self._manifest(target)
        attempt = self._attempt("GET", "manifest", what)
        answer = await self._client.send(
            "GET",
            f"{self._base}/manifests/{target}",
            endpoint="manifest",
            scopes=self._scopes,
            what=what,
            headers=_ACCEPT,
            ok=SUCCESS,
            counts_as_pull=True,
            retry=self._retry,
            read_seconds=self._client.answer_seconds,
            limit=MAX_MANIFEST_SIZE,
        )
        refuse_web_page(answer, attempt)
        stated = target if ":" in target else answer.headers.get("docker-content-digest")
        try:
            expected = Digest.parse(stated) if stated else None
        except InvalidDigest:
            expected = None
        try:
            manifest = parse_manifest(answer.body, answer.headers.get("content-type", ""), expected=expected)
        except UnsupportedManifest as error:
            raise RegistryError(Kind.UNSUPPORTED, str(error), attempt=attempt) from error
        except InvalidManifest as error:
            raise unreadable(str(error), answer, attempt) from error
        if expected is not None and manifest.digest != expected:
            raise DigestMismatch(
                f"the registry returned a manifest with digest {manifest.digest} for {expected}",
                attempt=attempt,
            )
        return manifest

    @asynccontextmanager
    async def fetch_blob(
        self, blob: Descriptor, *, offset: int = 0, length: int | None = None
    ) -> AsyncIterator[BlobBody]:
        part = bool(offset) or length is not None
        opened, remember = None, part
        if part and self._capabilities.ranges:
            try:
                opened = await self._open_part(blob, offset, length)
            except RegistryError as error:
                if not _may_be_of_range(error):
                    raise
                # A rate limit passes.
                remember = error.kind is not Kind.THROTTLED
        if opened is None:
            response = await self._open(blob)
            if remember:
                # Only the request for a range was refused.
                self._capabilities.ranges = False
            opened = response, self._body(response, blob, ranged=not part)
        response, body = opened
        try:
            yield body
        finally:
            await self._client.close(response)

    async def _open_part(
        self, blob: Descriptor, offset: int, length: int | None
    ) -> tuple[HttpResponse, BlobBody] | None:
        """Request a range of a blob (RFC 9110, section 14). Return None if the response is not this range.

        Raises `RegistryError` if the registry refuses the request.
        """
        # Some registries refuse ranges without an end.
        size = blob.size if length is None else offset + length
        asked = f"bytes={offset}-{size - 1 if size > 0 else ''}"
        response = await self._open(blob, asked)
        stated = number(response.headers.get("content-length"))
        start, end, size, ranged = 0, stated - 1, stated, response.status == 206
        if ranged:
            start, end, size = content_range(response.headers.get("content-range"))
        # Some call the part the whole. Whether it has another size the whole itself tells.
        wrong = (ranged and end < offset) or (stated >= 0 and stated != end - start + 1)
        if wrong or not 0 <= start <= offset or 0 <= size != blob.size >= 0:
            await self._client.close(response)
            return None
        body = self._body(response, blob, start=start, size=size, ranged=ranged)
        if ranged:
            body = replace(body, reject=self._reject_ranges)
            last = end if length is None else min(end, offset + length - 1)
            if stated < 0 or last < end:
                # The length is unknown, or the registry ignores the end of the range.
                chunks = self._exactly(body.chunks, last - start + 1)
                body = BlobBody(start, size, chunks, self._reject_ranges, last == end)
        return response, body

    async def _exactly(self, chunks: AsyncIterator[bytes], length: int) -> AsyncIterator[bytes]:
        """Yield the first `length` bytes. If there are fewer, request no more ranges."""
        async for chunk in chunks:
            yield chunk[:length]
            length -= len(chunk)
            if length <= 0:
                return
        self._capabilities.ranges = False

    def _reject_ranges(self) -> bool:
        """Request no more ranges, because they had the wrong content. Return whether the whole blob may be right."""
        useful, self._capabilities.ranges = self._capabilities.ranges, False
        return useful

    async def _open(self, blob: Descriptor, part: str = "") -> HttpResponse:
        return await self._client.open(
            f"{self._base}/blobs/{blob.digest}",
            endpoint="blob",
            scopes=self._scopes,
            what=self._blob(blob.digest),
            headers={"Range": part} if part else None,
            ok=SUCCESS | {206} if part else SUCCESS,
            retry=self._retry,
        )

    def _body(
        self,
        response: HttpResponse,
        blob: Descriptor,
        *,
        start: int = 0,
        size: int | None = None,
        ranged: bool = True,
    ) -> BlobBody:
        if size is None:
            size = number(response.headers.get("content-length"))
        attempt = self._attempt("GET", "blob", self._blob(blob.digest))
        return BlobBody(
            start,
            size,
            self._client.chunks(response, attempt),
            ranged=ranged,
            splice=partial(self._client.splice, response),
        )

    async def has_blob(self, digest: Digest, *, size: int = -1) -> bool:
        """Return whether the repository has a blob. Return False if the registry does not tell; the blob is then uploaded."""
        if not self._blob_heads.useful:
            return False
        try:
            answer = await self._client.send(
                "HEAD",
                f"{self._base}/blobs/{digest}",
                endpoint="blob",
                scopes=self._scopes,
                what=self._blob(digest),
                ok=SUCCESS,
            )
        except RegistryError as error:
            if not is_refusal(error, "blob"):
                raise
            if error.status == 404:
                self._blob_heads.answered()
            else:
                self._blob_heads.refused()
            return False
        self._blob_heads.answered()
        stated = number(answer.headers.get("content-length"))
        return size < 0 or stated in (size, -1)

    def _manifest(self, target: str) -> str:
        return f"manifest {self._shown}{'@' if ':' in target else ':'}{target}"

    def _blob(self, digest: Digest) -> str:
        return f"blob {digest} of {self._shown}"

    def _attempt(self, method: str, endpoint: str, subject: str) -> Attempt:
        return Attempt(self.name.host, method, endpoint, subject)
