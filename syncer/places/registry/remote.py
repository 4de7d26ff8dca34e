"""A repository behind the distribution API (distribution-spec 1.1). Reads like the specification; retries are below."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import msgspec

from syncer.errors import Attempt, DigestMismatch, Kind, RegistryError
from syncer.http import failures
from syncer.http.client import RegistryClient
from syncer.http.failures import is_html, page_title
from syncer.http.request import Answer
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
from syncer.oci.reference import Repository, is_tag
from syncer.places.content import BlobBody, Destination, Upload
from syncer.places.registry.advice import advise
from syncer.places.registry.harbor import Projects, says_new
from syncer.places.registry.headers import (
    content_range,
    content_range_size,
    min_chunk_size,
    next_link,
    number,
)
from syncer.places.registry.upload import RemoteUpload, Session, UploadMethods

PAGE = 1000
"""Tags asked for at once: ECR refuses more."""
ROUND = 100
"""Some registries cut lists at a multiple of this, without a link."""
MAX_TAGS = 5_000_000
PREWARM = 4
"""Requests that are likely to follow at once when it is known which tags there are, or whether there are any."""
_MISSING = frozenset({401, 403, 404})
"""How registries answer for a project that is not there."""
_UNANSWERED = frozenset({Kind.TIMEOUT, Kind.CONNECTION})
_FOUND_OR_NOT = frozenset({200, 404})
_ACCEPT = {"Accept": media_types.ACCEPT}


class _Tags(msgspec.Struct):
    tags: list[object] | None = None


class RemoteRepository(Destination):
    """One repository at one registry.

    `writable` repositories ask for push rights from the start: one token serves all of their requests. Reads of one
    that is not `retry` are tried once. `methods` is what is known of uploads to this registry, `projects` makes
    missing ones.
    """

    def __init__(
        self,
        client: RegistryClient,
        name: Repository,
        *,
        writable: bool,
        retry: bool = True,
        methods: UploadMethods | None = None,
        projects: Projects | None = None,
    ) -> None:
        self.name = name
        # One client is one account at one registry: mounting needs pull there and push here in one token.
        self.mount_group = client
        self._client = client
        self._retry = retry
        self._methods = methods or UploadMethods()
        self._projects = projects
        self._probing = anyio.Lock()
        self._probed = self._found_new = False
        self._base = f"/v2/{name.path}"
        self._unsure: set[tuple[str, Digest]] = set()
        self._scopes = (f"repository:{name.path}:{'pull,push' if writable else 'pull'}",)

    # --- reading: distribution-spec, "Pull" and "Content Discovery" ---------------------------------------------

    async def tags(self) -> AsyncIterator[list[str]]:
        target: str | None = f"{self._base}/tags/list?n={PAGE}"
        seen = 0
        guessed = False
        visited: set[str] = set()
        first_tags: set[str] = set()
        while target:
            visited.add(target)
            try:
                answer = await self._client.send(
                    "GET",
                    target,
                    endpoint="tags",
                    scopes=self._scopes,
                    what=f"tags of {self.name}",
                    retry=self._retry,
                    prewarm=PREWARM,
                )
            except RegistryError as error:
                if guessed and error.permanent:
                    return
                raise
            listed = self._listed(answer)
            # Nexus lists nulls, JFrog digests.
            page = [tag for tag in listed if isinstance(tag, str) and is_tag(tag)]
            seen += len(page)
            if seen > MAX_TAGS:
                raise _invalid(
                    f"more than {MAX_TAGS} tags", self._attempt("GET", "tags", f"tags of {self.name}")
                )
            if guessed and first_tags.intersection(page[:1]):
                # It knows no `last` and begins anew: that was all.
                return
            first_tags.update(page[:1])
            yield page
            target, guessed = self._next_page(answer, listed, page)
            if target in visited:
                raise _invalid(
                    "the pages of the list of tags go in a circle",
                    self._attempt("GET", "tags", f"tags of {self.name}"),
                )

    def _listed(self, answer: Answer) -> list[object]:
        attempt = self._attempt("GET", "tags", f"tags of {self.name}")
        self._refuse_page(answer, attempt)
        try:
            return msgspec.json.decode(answer.body, type=_Tags).tags or []
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise _invalid(f"the list of tags cannot be read: {error}", attempt) from error

    def _next_page(self, answer: Answer, listed: list[object], page: list[str]) -> tuple[str | None, bool]:
        """Where the list goes on, and whether that is only a guess."""
        for link in answer.headers.get_list("link"):
            if next_ := next_link(link):
                return self._client.address.resolve(answer.url, next_), False
        if page and len(listed) % ROUND == 0:
            # A round number may be where a registry cuts that sends no links.
            return f"{self._base}/tags/list?n={PAGE}&last={page[-1]}", True
        return None, False

    def _refuse_page(self, answer: Answer, attempt: Attempt) -> None:
        """Raises where a portal, a proxy or a mirror out of order answered in the registry's place."""
        if is_html(answer.headers, answer.body):
            raise _invalid(
                f"a web page came back ({page_title(answer.body) or 'without a title'}): that is no registry",
                attempt,
                advice=f"check the name {self.name.host}, and what is between here and there",
            )
        coding = answer.headers.get("content-encoding", "").lower()
        if coding not in {"", "identity"}:
            raise _invalid(f"the answer came compressed ({coding[:40]}), though not asked to be", attempt)

    async def is_new(self) -> bool:
        answer = await self._client.send(
            "GET",
            f"{self._base}/tags/list?n=1",
            endpoint="tags",
            scopes=self._scopes,
            what=f"tags of {self.name}",
            ok=frozenset({200, 401, 403, 404, 405}),
            prewarm=PREWARM,
        )
        self._probed = True
        if answer.status not in _MISSING:
            return False
        said = failures.from_answer(
            answer.status,
            answer.headers,
            answer.body,
            attempt=self._attempt("GET", "tags", f"tags of {self.name}"),
            account=self._client.account,
        )
        if self._projects is not None and await self._projects.provide(self.name, said):
            self._found_new = True
            return True
        return answer.status == 404 and says_new(said.message, said.codes)

    async def resolve(self, target: str) -> Descriptor | None:
        if self._projects is not None:
            self._projects.check(self.name)
        try:
            answer = await self._client.send(
                "HEAD",
                f"{self._base}/manifests/{target}",
                endpoint="manifest",
                scopes=self._scopes,
                what=self._manifest(target),
                headers=_ACCEPT,
                ok=frozenset({200, 404, 405, 501}),
                retry=self._retry,
                read_seconds=self._client.answer_seconds,
            )
        except RegistryError as error:
            # A HEAD has no words: a list of tags tells whether it is the project that is missing.
            if self._projects is None or error.status not in {401, 403}:
                raise
            async with self._probing:
                if not self._probed:
                    self._found_new = await self.is_new()
            self._projects.check(self.name)
            if not self._found_new:
                raise
            return None
        if answer.status == 404:
            return None
        try:
            digest = Digest.parse(answer.headers.get("docker-content-digest"))
        except InvalidDigest:
            # HEAD is refused, or says too little: the content tells.
            manifest = await self._fetch(target, missing_ok=True)
            return Descriptor(manifest.media_type, manifest.digest, len(manifest.raw)) if manifest else None
        return Descriptor(
            media_type=answer.headers.get("content-type", "").partition(";")[0].strip(),
            digest=digest,
            size=number(answer.headers.get("content-length")),
        )

    async def fetch_manifest(self, target: str) -> Manifest:
        manifest = await self._fetch(target, missing_ok=False)
        assert manifest is not None
        return manifest

    async def _fetch(self, target: str, *, missing_ok: bool) -> Manifest | None:
        what = self._manifest(target)
        attempt = self._attempt("GET", "manifest", what)
        answer = await self._client.send(
            "GET",
            f"{self._base}/manifests/{target}",
            endpoint="manifest",
            scopes=self._scopes,
            what=what,
            headers=_ACCEPT,
            ok=_FOUND_OR_NOT if missing_ok else frozenset({200}),
            counts_as_pull=True,
            retry=self._retry,
            read_seconds=self._client.answer_seconds,
            limit=MAX_MANIFEST_SIZE,
        )
        if answer.status == 404:
            return None
        self._refuse_page(answer, attempt)
        content_type = answer.headers.get("content-type", "")
        stated = target if ":" in target else answer.headers.get("docker-content-digest")
        try:
            expected = Digest.parse(stated) if stated else None
        except InvalidDigest:
            expected = None
        try:
            manifest = parse_manifest(answer.body, content_type, stated=expected)
        except UnsupportedManifest as error:
            raise RegistryError(Kind.UNSUPPORTED, str(error), attempt=attempt) from error
        except InvalidManifest as error:
            raise _invalid(str(error), attempt) from error
        if expected is not None and manifest.digest != expected:
            raise DigestMismatch(
                f"the registry sent a manifest of digest {manifest.digest} for {expected}",
                attempt=attempt,
            )
        return manifest

    @asynccontextmanager
    async def fetch_blob(
        self, blob: Descriptor, *, offset: int = 0, length: int | None = None
    ) -> AsyncIterator[BlobBody]:
        what = f"blob {blob.digest} of {self.name}"
        attempt = self._attempt("GET", "blob", what)
        part = bool(offset) or length is not None
        last = "" if length is None else str(offset + length - 1)
        async with self._client.open(
            f"{self._base}/blobs/{blob.digest}",
            endpoint="blob",
            scopes=self._scopes,
            what=what,
            headers={"Range": f"bytes={offset}-{last}"} if part else None,
            ok=frozenset({200, 206, 416}) if part else frozenset({200}),
            retry=self._retry,
        ) as response:
            start, size = 0, -1
            if response.status_code == 416:
                size = content_range_size(response.headers.get("content-range"))
                raise DigestMismatch(
                    f"the blob ends before byte {offset}" + (f": it has {size}" if size >= 0 else ""),
                    attempt=attempt,
                )
            if response.status_code == 206:
                start, size = content_range(response.headers.get("content-range"))
                if not 0 <= start <= offset:
                    raise _invalid(f"asked for the bytes from {offset} on, and got others", attempt)
            else:
                size = number(response.headers.get("content-length"))
            if response.headers.get("content-encoding", "identity").lower() not in {"", "identity"}:
                raise _invalid("the blob came compressed, though not asked to be", attempt)
            yield BlobBody(start, size, self._client.chunks(response, attempt))

    # --- writing: distribution-spec, "Push" ---------------------------------------------------------------------

    async def has_blob(self, digest: Digest) -> bool:
        answer = await self._client.send(
            "HEAD",
            f"{self._base}/blobs/{digest}",
            endpoint="blob",
            scopes=self._scopes,
            what=f"blob {digest} of {self.name}",
            # Who cannot say whether it is there gets it.
            ok=frozenset({200, 404, 405, 501, *({401, 403} if self._found_new else ())}),
        )
        return answer.status == 200

    async def mount(self, digest: Digest, *, from_: Repository) -> Upload | None:
        answer = await self._client.send(
            "POST",
            f"{self._base}/blobs/uploads/?mount={digest}&from={from_.path}",
            endpoint="upload",
            scopes=(*self._scopes, f"repository:{from_.path}:pull"),
            what=f"mount of {digest} from {from_.path} into {self.name}",
            ok=frozenset({201, 202, 400, 401, 403, 404, 405}),
        )
        if answer.status == 201:
            return None
        if answer.status == 202:
            return self._upload(self._session(answer))
        return await self.start_upload()

    async def start_upload(self) -> Upload:
        return self._upload(await self._begin())

    def _upload(self, session: Session) -> RemoteUpload:
        return RemoteUpload(
            self._client, self.name, self._scopes, session, methods=self._methods, start=self._begin
        )

    async def _begin(self) -> Session:
        """Open an upload session, in a project made for it if need be."""
        what = f"upload to {self.name}"

        async def post() -> Answer:
            return await self._client.send(
                "POST",
                f"{self._base}/blobs/uploads/",
                endpoint="upload",
                scopes=self._scopes,
                what=what,
                ok=frozenset({202}),
            )

        try:
            return self._session(await post())
        except RegistryError as error:
            if error.status not in _MISSING or self._projects is None:
                raise self._advised(error) from error.__cause__
            if not await self._projects.provide(self.name, error):
                raise self._advised(error) from error.__cause__
        try:
            return self._session(await post())
        except RegistryError as error:
            raise self._advised(error) from error.__cause__

    def _session(self, answer: Answer) -> Session:
        location = answer.headers.get("location", "")
        if not location:
            raise _invalid(
                "an upload without a Location", self._attempt("POST", "upload", f"upload to {self.name}")
            )
        return Session(
            self._client.address.resolve(answer.url, location),
            min_chunk_size(answer.headers.get("oci-chunk-min-length")),
        )

    async def push_manifest(self, manifest: Manifest, *, tag: str | None = None) -> Digest:
        target = tag or manifest.digest
        what = self._manifest(target)

        async def put() -> Answer | None:
            if (target, manifest.digest) in self._unsure and await self._was_stored(manifest, tag):
                return None
            try:
                return await self._client.send(
                    "PUT",
                    f"{self._base}/manifests/{target}",
                    endpoint="manifest",
                    scopes=self._scopes,
                    what=what,
                    headers={"Content-Type": manifest.media_type},
                    content=manifest.raw,
                    ok=frozenset({200, 201, 202}),
                    read_seconds=self._client.answer_seconds,
                    retry=False,
                )
            except RegistryError as error:
                if error.kind in _UNANSWERED:
                    # It may have been stored all the same, now or in a while: see before it is sent again.
                    self._unsure.add((target, manifest.digest))
                raise

        try:
            answer = await self._client.with_retries(put)
        except RegistryError as error:
            if error.kind is Kind.IMMUTABLE and await self._is_stored(manifest, tag):
                return manifest.digest
            if error.kind is Kind.TIMEOUT and await self._was_stored(manifest, tag):
                return manifest.digest
            raise self._advised(error, manifest) from error.__cause__
        if answer is None:
            return manifest.digest
        try:
            stored = Digest.parse(answer.headers.get("docker-content-digest"))
        except InvalidDigest:
            return manifest.digest
        if not manifest.is_named_by(stored):
            raise DigestMismatch(
                f"the registry stored it as {stored} instead of {manifest.digest}",
                attempt=self._attempt("PUT", "manifest", what),
                permanent=True,
            )
        return stored

    async def _is_stored(self, manifest: Manifest, tag: str | None) -> bool:
        """Whether a tag that cannot be written has this manifest already."""
        found = await self.resolve(tag or manifest.digest)
        return found is not None and manifest.is_named_by(found.digest)

    def _advised(self, error: RegistryError, manifest: Manifest | None = None) -> RegistryError:
        scheme = "https" if self._client.address.secure else "http"
        error = advise(error, self.name, manifest, scheme=scheme)
        return self._projects.advise(error, self.name) if self._projects is not None else error

    async def _was_stored(self, manifest: Manifest, tag: str | None) -> bool:
        """Whether a manifest arrived whose PUT was not answered. Where that cannot be told it is sent again."""
        try:
            return await self._is_stored(manifest, tag)
        except RegistryError:
            return False

    def _manifest(self, target: str) -> str:
        return f"manifest {self.name}{'@' if ':' in target else ':'}{target}"

    def _attempt(self, method: str, endpoint: str, subject: str) -> Attempt:
        return Attempt(self.name.host, method, endpoint, subject)


def _invalid(message: str, attempt: Attempt, *, advice: str = "") -> RegistryError:
    return RegistryError(Kind.INVALID, message, attempt=attempt, advice=advice)
