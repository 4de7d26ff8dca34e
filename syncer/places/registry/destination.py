"""A remote repository as a destination (distribution-spec 1.1, "Push").

This module implements the protocol only; `syncer.http` sends requests and retries them.
"""

import asyncio
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING

from syncer.errors import DigestMismatch, Kind, RegistryError
from syncer.http import failures
from syncer.http.client import RegistryClient
from syncer.http.request import Answer, Scopes
from syncer.oci.descriptor import Descriptor
from syncer.oci.digest import Digest, InvalidDigest
from syncer.oci.manifest import Manifest
from syncer.oci.reference import Repository
from syncer.oci.referrers import lacks
from syncer.places.content import Destination, RecordsReferrers, Upload
from syncer.places.registry.answers import SUCCESS, invalid, is_head_refusal, is_refusal, is_unusable
from syncer.places.registry.capabilities import Capabilities
from syncer.places.registry.harbor import Projects, says_new
from syncer.places.registry.headers import min_chunk_size
from syncer.places.registry.remote import PREWARM, RemoteRepository

if TYPE_CHECKING:
    from syncer.places.registry.removal import TagRemoval
    from syncer.places.registry.upload import RemoteUpload, Session

_MISSING = frozenset({401, 403, 404})
"""Statuses that registries return for a missing project."""
_UNANSWERED = frozenset({Kind.TIMEOUT, Kind.CONNECTION})
_UNCLEAR = _UNANSWERED | {Kind.SERVER_ERROR, Kind.CONFLICT}
"""Kinds of failures after which a manifest may be stored: by the request itself, or by another one at the same time."""


class RemoteDestination(RemoteRepository, Destination, RecordsReferrers):
    """One repository at one registry, as a destination. `projects` creates missing projects."""

    def __init__(
        self,
        client: RegistryClient,
        name: Repository,
        *,
        writable: bool,
        capabilities: Capabilities | None = None,
        projects: Projects | None = None,
    ) -> None:
        super().__init__(client, name, writable=writable, capabilities=capabilities)
        self._projects = projects
        self._probing = asyncio.Lock()
        self._probed = self._found_new = False
        self._unsure: set[tuple[str, Digest]] = set()

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
        """Return the descriptor of a tag or digest. Return None, so that it is pushed, if it is missing or cannot be read."""
        try:
            return await self.resolve_certainly(target)
        except RegistryError as error:
            # What cannot be read there is replaced.
            if is_refusal(error, "manifest") or is_unusable(error, "manifest"):
                return None
            raise

    async def resolve_certainly(self, target: str) -> Descriptor | None:
        if self._projects is not None:
            self._projects.check(self.name)
        try:
            if found := await self._head(target):
                return found
        except RegistryError as error:
            if not is_head_refusal(error):
                raise
            if error.status == 404 or (error.status in {401, 403} and await self._finds_it_new()):
                return None
        try:
            return await self._resolve_by_get(target)
        except RegistryError as error:
            if error.status == 404:
                return None
            raise

    async def _finds_it_new(self) -> bool:
        """Return whether the repository is new. A HEAD response has no body, so the tag list shows if the project is missing."""
        if self._projects is None:
            return False
        async with self._probing:
            if not self._probed:
                self._found_new = await self.is_new()
        self._projects.check(self.name)
        return self._found_new

    async def mount(self, digest: Digest, *, from_: Repository) -> Upload | None:
        answer = await self._mount(digest, from_, (*self._scopes, f"repository:{from_.path}:pull"))
        if session := self._mount_session(answer):
            return self._upload(session)
        return None if answer.status == 201 else await self.start_upload()

    async def upload_if_missing(self, digest: Digest) -> Upload | None:
        """Mount the blob from this repository: 201 means that it is there, 202 opens an upload.

        A registry that refuses, or hangs up each time, is not asked again. distribution-spec 1.1, "Mounting a blob from
        another repository".
        """
        if not self._capabilities.mounts_from_itself:
            return await self.start_upload()

        async def ask() -> Answer | None:
            try:
                return await self._mount(digest, self.name, self._scopes, retry=False)
            except RegistryError as error:
                if is_refusal(error, "upload"):
                    return None
                raise

        try:
            answer = await self._client.with_retries(ask)
        except RegistryError as error:
            if error.kind not in _UNANSWERED:
                raise
            answer = None
        if answer is not None:
            if session := self._mount_session(answer):
                return self._upload(session)
            if answer.status == 201:
                return None
        # If the refusal has another cause, such as a missing project, this is refused too.
        self._capabilities.mounts_from_itself = False
        return await self.start_upload()

    async def _mount(
        self, digest: Digest, from_: Repository, scopes: Scopes, *, retry: bool = True
    ) -> Answer:
        return await self._client.send(
            "POST",
            f"{self._base}/blobs/uploads/?mount={digest}&from={from_.path}",
            endpoint="upload",
            scopes=scopes,
            what=f"mount of {digest} from {from_.path} into {self._shown}",
            ok=SUCCESS | {400, 401, 403, 404, 405},
            retry=retry,
        )

    def _mount_session(self, answer: Answer) -> "Session | None":
        """Return the upload session that a registry opened in place of a mount."""
        opened = answer.status in SUCCESS and "/blobs/uploads/" in answer.headers.get("location", "")
        return self._session(answer) if opened else None

    async def start_upload(self) -> Upload:
        return self._upload(await self._begin())

    def _upload(self, session: "Session") -> "RemoteUpload":
        from syncer.places.registry.upload import RemoteUpload

        return RemoteUpload(
            self._client,
            self.name,
            self._scopes,
            session,
            methods=self._capabilities.uploads,
            start=self._begin,
            has_blob=self.has_blob,
        )

    async def _begin(self) -> "Session":
        """Open an upload session. Create the project first if it is missing."""
        what = f"upload to {self._shown}"

        async def post() -> Answer:
            return await self._client.send(
                "POST",
                f"{self._base}/blobs/uploads/",
                endpoint="upload",
                scopes=self._scopes,
                what=what,
                ok=SUCCESS,
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

    def _session(self, answer: Answer) -> "Session":
        from syncer.places.registry.upload import Session

        attempt = self._attempt("POST", "upload", f"upload to {self._shown}")
        location = answer.headers.get("location", "")
        if not location:
            raise invalid("the upload session has no Location", attempt)
        return Session(
            self._client.address.resolve(answer.url, location, attempt=attempt),
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
                    ok=SUCCESS,
                    read_seconds=self._client.answer_seconds,
                    retry=False,
                )
            except RegistryError as error:
                if error.kind in _UNCLEAR:
                    # The registry may still store the manifest: check before it is sent again.
                    self._unsure.add((target, manifest.digest))
                raise

        try:
            answer = await self._client.with_retries(put)
        except RegistryError as error:
            if error.kind is Kind.IMMUTABLE and await self._is_stored(manifest, tag):
                return manifest.digest
            if error.kind in _UNCLEAR and await self._was_stored(manifest, tag):
                return manifest.digest
            raise self._advised(error, manifest) from error.__cause__
        if answer is None:
            return manifest.digest
        if manifest.subject and answer.headers.get("oci-subject") == manifest.subject:
            self._capabilities.referrers.records_subjects = True
        try:
            stored = Digest.parse(answer.headers.get("docker-content-digest"))
        except InvalidDigest:
            return manifest.digest
        if not manifest.is_named_by(stored):
            raise DigestMismatch(
                f"the registry stored the manifest as {stored} instead of {manifest.digest}",
                attempt=self._attempt("PUT", "manifest", what),
                permanent=True,
            )
        return stored

    async def record_referrers(self, subject: Digest, referrers: Sequence[Descriptor]) -> None:
        """Add the referrers to the fallback tag, unless the registry lists them itself."""
        if self._capabilities.referrers.records_subjects:
            return
        listing = self._referrers_of(subject)
        listed = await listing.from_api(subject)
        if listed is not None and not lacks(listed, referrers):
            return

        async def push(manifest: Manifest, tag: str) -> None:
            await self.push_manifest(manifest, tag=tag)

        attempt = self._attempt("PUT", "manifest", f"referrers of {self.name}@{subject}")
        from syncer.places.registry.referrers import FallbackTag

        await FallbackTag(subject, listing, attempt=attempt, push=push).add(referrers)

    @cached_property
    def _removal(self) -> "TagRemoval":
        from syncer.places.registry.removal import TagRemoval

        return TagRemoval(self._client, self.name, self._capabilities)

    async def untags(self) -> bool:
        return await self._removal.untags()

    async def remove_tag(self, tag: str, digest: Digest) -> None:
        await self._removal.remove(tag, digest)

    async def _is_stored(self, manifest: Manifest, tag: str | None) -> bool:
        """Return whether the tag or digest already names this manifest."""
        found = await self.resolve(tag or manifest.digest)
        return found is not None and manifest.is_named_by(found.digest)

    def _advised(self, error: RegistryError, manifest: Manifest | None = None) -> RegistryError:
        from syncer.places.registry.advice import advise

        scheme = "https" if self._client.address.secure else "http"
        error = advise(error, self.name, manifest, scheme=scheme)
        return self._projects.advise(error, self.name) if self._projects is not None else error

    async def _was_stored(self, manifest: Manifest, tag: str | None) -> bool:
        """Return whether a manifest was stored although its PUT had no response. Return False if this is unknown."""
        try:
            return await self._is_stored(manifest, tag)
        except RegistryError:
            return False
