"""Pushing a blob: the ways to do it in the order to try them, and going on after a break (distribution-spec, "Pushing blobs").

One PUT with the whole body is the shortest. Where that is refused, one PATCH without `Content-Range` and an empty
PUT; then chunks. What a registry refuses is remembered for all its repositories.
"""

import enum
import random
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable

import anyio
import msgspec

from syncer.errors import MAX_RETRY_AFTER, Attempt, DigestMismatch, Kind, RegistryError
from syncer.http.client import RegistryClient
from syncer.http.request import Answer, Scopes
from syncer.oci.descriptor import Descriptor
from syncer.oci.digest import Digest
from syncer.oci.reference import Repository
from syncer.places.content import Content, Upload
from syncer.places.registry.answers import SUCCESS
from syncer.places.registry.headers import session_offset

CHUNK = 16 * 1024 * 1024
"""Bytes of a chunk: Azure takes less than 20 MB in one request."""
SMALLEST_CHUNK = 1024 * 1024
"""Where even CHUNK is too large: nginx lets this much through when nobody tells it otherwise."""
RESUMES = 5
"""How often in a row an upload is tried again without having got any further."""
CANCEL_SECONDS = 2.0
"""How long it may take to give up a session before another is begun."""
STALL_SECONDS = 60.0
"""How long a registry may take nothing of a body."""
FINISH_BYTES_PER_SECOND = 20e6
"""A registry copies or hashes a large blob before it answers the last PUT: it has that much longer for it."""

_REFUSED = frozenset({404, 405, 411, 413, 415, 501})
_UNKNOWN = frozenset({"NOT_FOUND", "NAME_UNKNOWN", "BLOB_UNKNOWN"})
"""Codes of a 404 that is about what is there, and not about the way that the bytes go."""
_LOST = frozenset({"BLOB_UPLOAD_UNKNOWN", "BLOB_UPLOAD_INVALID"})


class UploadMethod(enum.IntEnum):
    """How the bytes go, the shortest first."""

    MONOLITHIC = 0
    STREAMED = 1
    CHUNKED = 2


class UploadMethods:
    """What a registry is known to refuse, shared by all its repositories; and how large its chunks may be."""

    def __init__(self) -> None:
        self._refused: dict[UploadMethod, int] = {}
        self.chunk = CHUNK

    def choose(self, size: int) -> UploadMethod:
        """The shortest way that is not known to be refused for a blob of so many bytes."""
        return next(
            (method for method in UploadMethod if size < self._refused.get(method, size + 1)),
            UploadMethod.CHUNKED,
        )

    def refuse(self, method: UploadMethod, size: int) -> None:
        """A body of so many bytes, and any larger one, cannot go this way."""
        self._refused[method] = min(size, self._refused.get(method, size))


class Session(msgspec.Struct):
    """An upload that a registry has opened: where the next request goes, and the least bytes of a chunk."""

    location: str
    least: int = 0


class RemoteUpload(Upload):
    """A blob on its way into a repository. `methods` is what is known of the registry.

    `start` opens a session, `has_blob` tells whether the repository has a blob.
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
        self._offset = 0  # what the session has
        self._given = 0  # how much of the blob was sent to it, arrived or not
        self._broken = False
        self._unsure = False  # whether the last request may have been obeyed all the same
        self._breaks: dict[UploadMethod, int] = {}

    async def put(self, blob: Descriptor, content: bytes | Content) -> None:
        fruitless = farthest = mismatches = logins = 0
        while True:
            pieces = _Pieces()
            try:
                if self._broken and await self._go_on(blob):
                    return
                await self._send(blob, content, pieces)
                return
            except RegistryError as raised:
                error = raised
                self._broken = True
                self._given = max(self._given, pieces.position)
                if pieces.failure is not None:
                    # The content's own failure: what the session has of it is worth nothing.
                    await self._abandon()
                    raise pieces.failure from None
                self._unsure = error.status is None or error.status >= 500
                mismatches += error.kind is Kind.DIGEST_MISMATCH
                logins += error.kind is Kind.UNAUTHORIZED
                if mismatches > 1 or logins > 1:
                    error = error.with_changes(permanent=True)
                fruitless = fruitless + 1 if self._offset <= farthest else 0
                farthest = max(farthest, self._offset)
                if error.permanent or fruitless > RESUMES or (error.retry_after or 0.0) > MAX_RETRY_AFTER:
                    raise error from raised.__cause__
                wait = error.retry_after or pause(fruitless)
                if error.retryable:
                    self._client.tell_retry(error.retry_reason, wait)
                await anyio.sleep(wait)

    async def cancel(self) -> None:
        if self._session is None:
            return
        location, self._session = self._session.location, None
        try:
            await self._request("DELETE", location, ok=SUCCESS | {404, 405})
        except RegistryError:
            # Registries drop abandoned uploads by themselves; this only spares them the wait.
            return

    # --- going on ---------------------------------------------------------------------------------------------------

    async def _go_on(self, blob: Descriptor) -> bool:
        """Find out what the registry has after a failure. True if it has all of the blob, stored."""
        self._offset = 0
        sent = self._unsure and self._given >= blob.size
        if sent and await self._has_blob(blob.digest):
            # The answer to the last PUT was late, or was lost on its way.
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
            if error.status is None or not error.permanent:
                raise
            self._session = None
            return 0
        self._note(answer)
        offset = session_offset(answer.headers.get("range"))
        # More than it was given is not ours.
        return offset if offset <= self._given else 0

    async def _abandon(self) -> None:
        with anyio.move_on_after(CANCEL_SECONDS):
            await self.cancel()
        self._offset = 0

    # --- sending ----------------------------------------------------------------------------------------------------

    async def _send(self, blob: Descriptor, content: bytes | Content, pieces: "_Pieces") -> None:
        method, resumed = self._way(blob.size), self._offset > 0
        pieces.read(content, self._offset)
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
            # The connection was closed each time on that way: a refusal, since this one worked.
            self._methods.refuse(shorter, blob.size)

    def _way(self, size: int) -> UploadMethod:
        method = self._methods.choose(size)
        return max(method, *(UploadMethod(each + 1) for each in self._given_up()), UploadMethod.MONOLITHIC)

    def _given_up(self) -> list[UploadMethod]:
        return [
            method for method, breaks in self._breaks.items() if breaks > 1 and method < UploadMethod.CHUNKED
        ]

    async def _patch(self, blob: Descriptor, pieces: "_Pieces", method: UploadMethod) -> None:
        assert self._session is not None
        most = max(self._methods.chunk, self._session.least) if method is UploadMethod.CHUNKED else blob.size
        while self._offset < blob.size:
            end = min(self._offset + most, blob.size)
            # A single PATCH goes without: some registries refuse chunks, and take it for one.
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
                    f"the registry took {stored} of {end} bytes",
                    attempt=Attempt(
                        self._repository.host,
                        "PATCH",
                        "upload",
                        f"blob {blob.digest} into {self._repository}",
                    ),
                )
            self._offset = end

    async def _finish(self, blob: Descriptor, pieces: "_Pieces", length: int) -> None:
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
        body: "_Piece | None" = None,
        headers: dict[str, str] | None = None,
        ok: frozenset[int] = SUCCESS,
        retry: bool = False,
    ) -> Answer:
        what = f"blob {blob.digest} into {self._repository}" if blob else f"upload to {self._repository}"
        sent = dict(headers or {})
        if body is not None:
            sent |= {"Content-Type": "application/octet-stream", "Content-Length": str(body.length)}
        with anyio.CancelScope() as scope:
            return await self._client.send(
                method,
                location,
                endpoint="upload",
                scopes=self._scopes,
                what=what,
                headers=sent,
                content=body.content(scope) if body else None,
                ok=ok,
                retry=retry,
                read_seconds=self._client.answer_seconds + blob.size / FINISH_BYTES_PER_SECOND
                if blob
                else None,
            )
        raise RegistryError(
            Kind.TIMEOUT,
            f"the registry took nothing for {STALL_SECONDS:.0f} s",
            attempt=Attempt(self._repository.host, method, "upload", what),
        )

    def _note(self, answer: Answer) -> None:
        """The location changes after every request: the newest holds."""
        assert self._session is not None
        if location := answer.headers.get("location"):
            self._session.location = self._client.address.resolve(answer.url, location)

    # --- learning from refusals -------------------------------------------------------------------------------------

    async def _learn(
        self, error: RegistryError, method: UploadMethod, size: int, *, resumed: bool
    ) -> RegistryError:
        """Classify a failure: a lost session, a refused method, wrong content, or just a failure."""
        if error.status is None:
            if error.kind is Kind.CONNECTION and not resumed:
                self._breaks[method] = self._breaks.get(method, 0) + 1
            return error
        if _LOST & set(error.codes) or error.status == 416:
            return error.with_changes(permanent=False)
        if "DIGEST_INVALID" in error.codes or "SIZE_INVALID" in error.codes:
            await self._abandon()
            return DigestMismatch(
                f"the registry received other content: {error.message}", attempt=error.attempt
            )
        if error.status not in _REFUSED or _UNKNOWN & set(error.codes):
            return error
        if not error.permanent or error.kind is Kind.FORBIDDEN:
            # It is against this blob, or against all pushes: that says nothing of the method.
            return error
        if resumed and method < UploadMethod.CHUNKED:
            # It takes no second part of a session: nothing is learned about how to begin one.
            pass
        elif method < UploadMethod.CHUNKED:
            self._methods.refuse(method, size if error.status == 413 else 0)
        elif error.status == 413 and self._methods.chunk > SMALLEST_CHUNK:
            self._methods.chunk //= 4
        else:
            return error
        await self._abandon()
        return error.with_changes(permanent=False)


class _Pieces:
    """What is left of a blob's content, in pieces of a given length. `failure` is the content's own.

    `position` is how far into the blob they went.
    """

    def __init__(self) -> None:
        self._chunks: AsyncIterator[bytes] | None = None
        self._whole = memoryview(b"")
        self._left = b""
        self.position = 0
        self.failure: RegistryError | None = None

    def read(self, content: bytes | Content, offset: int) -> None:
        self.position = offset
        if isinstance(content, bytes):
            self._whole = memoryview(content)[offset:]
        else:
            self._chunks = content.chunks(offset)

    def next(self, length: int) -> "_Piece":
        if self._chunks is None:
            piece, self._whole = self._whole[:length], self._whole[length:]
            self.position += length
            return _Piece(length, bytes(piece))
        return _Piece(length, self)

    async def stream(self, length: int, scope: anyio.CancelScope) -> AsyncGenerator[bytes]:
        """The next `length` bytes. `scope` is cancelled when they are not taken for too long."""
        assert self._chunks is not None
        while length:
            scope.deadline = float("inf")
            if not self._left:
                try:
                    self._left = await anext(self._chunks)
                except RegistryError as error:
                    self.failure = error
                    raise
                except StopAsyncIteration:
                    return
            chunk, self._left = self._left[:length], self._left[length:]
            length -= len(chunk)
            self.position += len(chunk)
            scope.deadline = anyio.current_time() + STALL_SECONDS
            yield chunk
        scope.deadline = float("inf")


class _Piece(msgspec.Struct, frozen=True):
    length: int
    _source: bytes | _Pieces

    def content(self, scope: anyio.CancelScope) -> bytes | AsyncGenerator[bytes]:
        if isinstance(self._source, bytes):
            return self._source
        return self._source.stream(self.length, scope) if self.length else b""


def pause(fruitless: int) -> float:
    """Seconds before another try: none at first, then more and more, not for all at once."""
    return random.uniform(0.5, 1.0) * min(20.0, 0.25 * 2.0**fruitless) if fruitless > 1 else 0.0  # noqa: S311
