"""Pushes a blob and resumes an interrupted upload session (distribution-spec 1.1, "Pushing blobs").

The methods are tried in this order: one PUT with the whole body; one PATCH without `Content-Range` and an empty PUT;
PATCH requests with chunks and an empty PUT. If a registry refuses a method, all of its repositories skip the method.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import aclosing, suppress
from functools import partial

import msgspec

from syncer.errors import MAX_RETRY_AFTER, Attempt, DigestMismatch, Kind, RegistryError
from syncer.http.client import RegistryClient
from syncer.http.request import Answer, Scopes
from syncer.oci.descriptor import Descriptor
from syncer.oci.digest import Digest
from syncer.oci.reference import Repository
from syncer.places.content import Content, Upload
from syncer.places.registry.answers import SUCCESS, is_hang_up, is_refusal
from syncer.places.registry.capabilities import UploadMethod, UploadMethods
from syncer.places.registry.headers import session_offset
from syncer.places.registry.pieces import STALL_SECONDS, Piece, Pieces

SMALLEST_CHUNK = 1024 * 1024
"""Bytes. Chunks get smaller down to this size if CHUNK is refused: nginx accepts 1 MiB by default."""
RESUMES = 5
"""Consecutive retries of an upload without progress."""
CANCEL_SECONDS = 2.0
"""Timeout for canceling an upload session before the next one is opened."""
FINISH_BYTES_PER_SECOND = 20e6
"""A registry copies or hashes a blob before it responds to the last PUT. This rate extends the timeout by its size."""

_REFUSED = frozenset({404, 405, 411, 413, 415, 501})
_UNKNOWN = frozenset({"NOT_FOUND", "NAME_UNKNOWN"})
"""Codes of a 404 for missing content, which says nothing about the upload method."""
_LOST = frozenset({"BLOB_UPLOAD_UNKNOWN", "BLOB_UPLOAD_INVALID", "BLOB_UNKNOWN"})
"""Codes of a session that is over. The blob may be stored: by the session, or by another upload at the same time."""
_NOT_RESUMED = frozenset({400, 416, 422})
"""Statuses of registries that open sessions, and refuse to continue them. A new session may be accepted."""


class Session(msgspec.Struct):
    """An open upload session: the location of the next request, and the minimum chunk size in bytes."""

    location: str
    least: int = 0


class RemoteUpload(Upload):
    """The upload of one blob. `methods` are the upload methods that the registry accepts.

    `start` opens a new session. `has_blob` returns whether the repository has a blob.
    """

    def __init__(
        self,
        client: RegistryClient,
        repository: Repository,
        scopes: Scopes,
        session: Session,
        *,
        methods: UploadMethods,
        start: Callable[[], Awaitable[Session]],
        has_blob: Callable[[Digest], Awaitable[bool]],
    ) -> None:
        self._client = client
        self._repository = repository
        self._scopes = scopes
        self._session: Session | None = session
        self._methods = methods
        self._start = start
        self._has_blob = has_blob
        self._offset = 0  # bytes in the session
        self._given = 0  # bytes sent to the session, whether they arrived or not
        self._broken = False
        self._unsure = False  # the last request failed, but the registry may have processed it
        self._breaks: dict[UploadMethod, int] = {}

    async def put(self, blob: Descriptor, content: bytes | Content) -> None:
        no_progress = farthest = mismatches = logins = 0
        while True:
            pieces = Pieces()
            try:
                if self._broken and await self._go_on(blob):
                    return
                async with aclosing(pieces):
                    await self._send(blob, content, pieces)
                return
            except RegistryError as raised:
                error = raised
                self._broken = True
                self._given = max(self._given, pieces.position)
                if pieces.failure is not None:
                    # The download failed, not the upload: the session is of no use.
                    await self._abandon()
                    raise pieces.failure from None
                # A proxy may have answered for the registry. A conflict may be another upload of the same blob.
                unclear = error.status is None or error.status >= 500 or error.status == 409
                self._unsure = unclear or not error.permanent
                mismatches += error.kind is Kind.DIGEST_MISMATCH
                logins += error.kind is Kind.UNAUTHORIZED
                if mismatches > 1 or logins > 1:
                    error = error.with_changes(permanent=True)
                no_progress = no_progress + 1 if self._offset <= farthest else 0
                farthest = max(farthest, self._offset)
                if no_progress > 1 and self._offset:
                    # The session tells how far it got, and takes no more.
                    await self._abandon()
                if error.permanent or no_progress > RESUMES or (error.retry_after or 0.0) > MAX_RETRY_AFTER:
                    raise error from raised.__cause__
                wait = error.retry_after or pause(no_progress)
                if error.retryable:
                    self._client.tell_retry(error.retry_reason, wait)
                await asyncio.sleep(wait)

    async def cancel(self) -> None:
        if self._session is None:
            return
        location, self._session = self._session.location, None
        try:
            await self._request("DELETE", location, ok=SUCCESS | {404, 405})
        except RegistryError:
            # Registries expire abandoned sessions themselves; the DELETE only frees them sooner.
            return

    # --- resuming ---------------------------------------------------------------------------------------------------

    async def _go_on(self, blob: Descriptor) -> bool:
        """Query the state of the upload after a failure. Return True if the registry has stored the blob."""
        self._offset = 0
        sent = self._unsure and self._given >= blob.size
        if sent and await self._has_blob(blob.digest):
            # The response to the last PUT was late or lost.
            return True
        if self._session is not None:
            self._offset = await self._asked_offset()
            if self._offset:
                return False
            await self._abandon()
        if self._unsure and not sent and await self._has_blob(blob.digest):
            return True
        self._session, self._given = await self._start(), 0
        return False

    async def _asked_offset(self) -> int:
        assert self._session is not None
        try:
            answer = await self._request("GET", self._session.location, retry=True)
        except RegistryError as error:
            if not (is_refusal(error, "upload") or is_hang_up(error)):
                raise
            self._session = None
            return 0
        self._note(answer)
        offset = session_offset(answer.headers.get("range"))
        # An offset beyond the bytes sent is not from this upload.
        return offset if offset <= self._given else 0

    async def _abandon(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(CANCEL_SECONDS):
                await self.cancel()
        self._offset = 0

    # --- sending ----------------------------------------------------------------------------------------------------

    async def _send(self, blob: Descriptor, content: bytes | Content, pieces: Pieces) -> None:
        method, resumed = self._way(blob.size), self._offset > 0
        if isinstance(content, bytes):
            pieces.hold(content, self._offset)
        elif self._client.limits.metered:
            pieces.read(content.chunks(self._offset), self._offset)
        else:
            pieces.read(content.chunks_and_splices(self._offset), self._offset)
        try:
            if method is UploadMethod.MONOLITHIC and not self._offset:
                await self._finish(blob, pieces, blob.size)
            else:
                await self._patch(blob, pieces, method)
                await self._finish(blob, pieces, 0)
        except RegistryError as error:
            if pieces.failure is not None:
                raise
            raise await self._learn(error, method, blob.size, resumed=resumed) from error.__cause__
        for shorter in self._given_up():
            # The registry closed the connection each time with the first method and accepted the second.
            self._methods.refuse(shorter, blob.size)

    def _way(self, size: int) -> UploadMethod:
        return max([self._methods.choose(size), *(UploadMethod(each + 1) for each in self._given_up())])

    def _given_up(self) -> list[UploadMethod]:
        return [
            method for method, breaks in self._breaks.items() if breaks > 1 and method < UploadMethod.CHUNKED
        ]

    async def _patch(self, blob: Descriptor, pieces: Pieces, method: UploadMethod) -> None:
        assert self._session is not None
        most = max(self._methods.chunk, self._session.least) if method is UploadMethod.CHUNKED else blob.size
        while self._offset < blob.size:
            end = min(self._offset + most, blob.size)
            # A single PATCH has no Content-Range: some registries take it for a chunk and refuse it.
            ranged = method is UploadMethod.CHUNKED or self._offset
            answer = await self._request(
                "PATCH",
                self._session.location,
                blob=blob,
                body=pieces.next(end - self._offset),
                headers={"Content-Range": f"{self._offset}-{end - 1}"} if ranged else {},
            )
            self._note(answer)
            stored = session_offset(answer.headers.get("range"))
            if 0 < stored < end:
                raise RegistryError(
                    Kind.CONNECTION,
                    f"the registry accepted {stored} of {end} bytes",
                    attempt=Attempt(
                        self._repository.host,
                        "PATCH",
                        "upload",
                        f"blob {blob.digest} into {self._repository}",
                    ),
                )
            self._offset = end

    async def _finish(self, blob: Descriptor, pieces: Pieces, length: int) -> None:
        assert self._session is not None
        location = self._session.location
        await self._request(
            "PUT",
            f"{location}{'&' if '?' in location else '?'}digest={blob.digest}",
            blob=blob,
            body=pieces.next(length),
        )

    async def _request(
        self,
        method: str,
        location: str,
        *,
        blob: Descriptor | None = None,
        body: Piece | None = None,
        headers: dict[str, str] | None = None,
        ok: frozenset[int] = SUCCESS,
        retry: bool = False,
    ) -> Answer:
        what = f"blob {blob.digest} into {self._repository}" if blob else f"upload to {self._repository}"
        sent = dict(headers or {})
        if body is not None:
            sent |= {"Content-Type": "application/octet-stream", "Content-Length": str(body.length)}
        send = partial(
            self._client.send,
            method,
            location,
            endpoint="upload",
            scopes=self._scopes,
            what=what,
            headers=sent,
            ok=ok,
            retry=retry,
            read_seconds=self._client.answer_seconds + blob.size / FINISH_BYTES_PER_SECOND if blob else None,
        )
        if body is None or body.content is not None:
            return await send(content=body.content if body else None)
        stall = asyncio.timeout(None)
        try:
            async with stall:
                return await send(content=body.stream(stall))
        except TimeoutError as error:
            if not stall.expired():
                raise
            raise RegistryError(
                Kind.TIMEOUT,
                f"the registry accepted no data for {STALL_SECONDS:.0f} s",
                attempt=Attempt(self._repository.host, method, "upload", what),
            ) from error

    def _note(self, answer: Answer) -> None:
        """Store the new location: it can change with every response."""
        assert self._session is not None
        if location := answer.headers.get("location"):
            attempt = Attempt(self._repository.host, "", "upload", f"upload to {self._repository}")
            self._session.location = self._client.address.resolve(answer.url, location, attempt=attempt)

    # --- learning from refusals -------------------------------------------------------------------------------------

    async def _learn(
        self, error: RegistryError, method: UploadMethod, size: int, *, resumed: bool
    ) -> RegistryError:
        """Classify a failure: a lost session, a refused method, wrong content, or just a failure."""
        if error.status is None:
            if error.kind is Kind.CONNECTION and not resumed:
                self._breaks[method] = self._breaks.get(method, 0) + 1
            return error
        codes = set(error.codes)
        if _LOST & codes or error.status == 410 or error.kind is Kind.CONFLICT:
            return error.with_changes(permanent=False)
        if "DIGEST_INVALID" in codes or "SIZE_INVALID" in codes:
            await self._abandon()
            return DigestMismatch(
                f"the registry received different content: {error.message}", attempt=error.attempt
            )
        if resumed and error.status in _NOT_RESUMED:
            await self._abandon()
            return error.with_changes(permanent=False)
        if error.status == 416 and method is not UploadMethod.STREAMED:
            return error.with_changes(permanent=False)
        if not _is_of_method(error, method):
            return error
        if not error.permanent or error.kind is Kind.FORBIDDEN:
            # The registry refuses this blob or all pushes, not the method.
            return error
        if resumed and method < UploadMethod.CHUNKED:
            # The registry does not resume sessions. It may still accept the method for a new session.
            pass
        elif method < UploadMethod.CHUNKED:
            self._methods.refuse(method, size if error.status == 413 else 0)
        elif error.status == 413 and self._methods.chunk > SMALLEST_CHUNK:
            self._methods.chunk //= 4
        else:
            return error
        await self._abandon()
        return error.with_changes(permanent=False)


def _is_of_method(error: RegistryError, method: UploadMethod) -> bool:
    """Return whether a registry refused an upload because of its method, as far as the response tells."""
    if error.status in _REFUSED:
        return not _UNKNOWN & set(error.codes)
    if error.status == 400 and "UNSUPPORTED" in error.codes:
        return True
    # Some registries require a Content-Range.
    return method is UploadMethod.STREAMED and error.attempt.method == "PATCH" and error.status in {400, 416}


def pause(no_progress: int) -> float:
    """Return the seconds to wait before the next try: exponential backoff with jitter, without a wait at first."""
    if no_progress <= 1:
        return 0.0
    import random

    return random.uniform(0.5, 1.0) * min(20.0, 0.25 * 2.0**no_progress)  # noqa: S311
