"""Sends one request to a host, and records what the response says about the host.

It adds headers, the guard and the bandwidth limit. Retries, authentication and redirects are the client's task.
"""

import time
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable

from syncer import __version__
from syncer.accounts.settings import Account
from syncer.errors import Attempt, Kind, RegistryError
from syncer.events import QuotaLow, RateLimitSeen, RequestSent
from syncer.http import failures
from syncer.http.address import Address
from syncer.http.dialling import TooManyOpenFiles
from syncer.http.internal import Guard, InternalAddress
from syncer.http.limits import HostLimits
from syncer.http.quota import read_quota
from syncer.http.request import Request
from syncer.http.splice import BodySplice
from syncer.http.transport import Headers, HttpRequest, HttpResponse, ResponseStream, Transport, origin_of
from syncer.http.transport_errors import ConnectError, ConnectTimeout, TransportError
from syncer.observers import Observer
from syncer.untrusted import clean

MAX_ERROR = 64 * 1024
"""Maximum bytes of an error's body that are read."""
BODY_SECONDS = 60.0
"""Seconds to read a whole body, plus one second per `BODY_RATE` bytes."""
BODY_RATE = 64 * 1024
USER_AGENT = f"image-syncer/{__version__}"
_WITH_BODY = frozenset({"POST", "PUT", "PATCH"})
_GZIP = b"\x1f\x8b"


class _Metered:
    """A response body with a bandwidth limit."""

    def __init__(
        self,
        stream: ResponseStream,
        metered: Callable[[AsyncIterable[bytes]], AsyncGenerator[bytes]],
    ) -> None:
        self._stream = stream
        self._metered = metered

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._metered(self._stream)

    async def aclose(self) -> None:
        await self._stream.aclose()


class Exchange:
    """Sends requests of one account to one registry and to its redirect targets, over `transport`."""

    def __init__(
        self,
        address: Address,
        account: Account | None,
        *,
        transport: Transport,
        limits: HostLimits,
        observer: Observer,
    ) -> None:
        self._address = address
        self._account = account
        self._transport = transport
        self._limits = limits
        self._observer = observer

    async def send(
        self,
        request: Request,
        url: str,
        authorization: str | None = None,
        *,
        own: bool,
        guard: Guard | None = None,
    ) -> HttpResponse:
        """Send a request to `url` and return the response before its body is read.

        `own`: the URL belongs to the registry. `guard` blocks internal addresses in place of the registry's own guard.
        Raises `RegistryError` if there is no response.
        """
        slash = url.find("/", 8)
        if slash < 0:
            url, slash = f"{url}/", len(url)
        target = url[slash:]
        # Without this header, registries and CDNs may compress blobs, and digests would not match.
        headers = {"User-Agent": USER_AGENT, "Accept-Encoding": "identity", **request.headers}
        if authorization:
            headers.setdefault("Authorization", authorization)
        content = request.content or b""
        if isinstance(content, bytes):
            if content or request.method in _WITH_BODY:
                headers["Content-Length"] = str(len(content))
                await self._limits.spend(len(content))
        elif self._limits.metered:
            content = self._metered(content)
        tls = self._address.tls(own=own) if url.startswith("https:") else None
        start = time.perf_counter()
        status = 0
        try:
            scheme, netloc = origin_of(url[:slash])
            message = HttpRequest(
                request.method,
                scheme,
                netloc,
                target.encode("ascii"),
                headers,
                content,
                tls=tls,
                read_seconds=request.read_seconds,
                proxy=self._address.settings.proxy,
                guard=guard or self._address.guard(),
                prewarm=(request.prewarm, self._limits.window) if request.prewarm and own else None,
            )
            response = await self._transport.send(message)
            status = response.status
        except TransportError as error:
            failure = failures.from_transport(
                error,
                attempt=request.attempt,
                insecure=self._address.settings.insecure,
                elsewhere=self._address.elsewhere(url),
            )
            if own and _is_unreachable(error):
                self._limits.unreachable(failure)
            raise failure from error
        finally:
            self._observer.notify(
                RequestSent(
                    self._address.host,
                    request.method,
                    request.attempt.endpoint,
                    _path(target, request.target),
                    status,
                    time.perf_counter() - start,
                )
            )
        response.url = url
        self._learn(response, request, own=own)
        return response

    async def _metered(self, chunks: AsyncIterable[bytes | BodySplice]) -> AsyncGenerator[bytes]:
        """Yield the chunks at the registry's `bandwidth`. Uploads with a bandwidth have no splices."""
        async for chunk in chunks:
            assert isinstance(chunk, bytes)
            await self._limits.spend(len(chunk))
            yield chunk

    def _learn(self, response: HttpResponse, request: Request, *, own: bool) -> None:
        """Record what a response says about its host: reachability, kind of address and quota."""
        if own:
            self._limits.connected()
            self._address.answered(internal=response.internal)
        if self._limits.metered:
            response.body = _Metered(response.body, self._metered)
        if "ratelimit-remaining" in response.headers:
            self._note_quota(response.headers, counted=request.counts_as_pull)

    def _note_quota(self, headers: Headers, *, counted: bool) -> None:
        """Record the remaining pulls that Docker Hub reports. A pull is a GET of a manifest."""
        quota = read_quota(headers)
        if quota is None:
            return
        account = self._account.name if self._account else "anonymous"
        self._observer.notify(RateLimitSeen(self._address.host, account, quota.remaining))
        if counted and quota.period:
            wait = self._limits.quota(quota.remaining, quota.limit, quota.period)
            if wait:
                self._observer.notify(QuotaLow(self._address.host, account, quota.remaining, wait))


async def read_body(response: HttpResponse, attempt: Attempt, limit: int, address: Address) -> bytes:
    """Read the whole body, and unpack it if the server compressed it unasked.

    Raises `RegistryError` if it is larger than `limit` bytes or arrives too slowly. `address` is that of the registry.
    """
    if response.empty:
        return b""
    parts: list[bytes] = []
    size, until = 0, time.monotonic() + BODY_SECONDS
    try:
        async for chunk in response.body:
            size += len(chunk)
            if size > limit:
                raise RegistryError(
                    Kind.TOO_LARGE, f"the response is larger than {limit} bytes", attempt=attempt
                )
            parts.append(chunk)
            _check_pace(size, until, attempt)
    except TransportError as error:
        raise failures.from_transport(
            error, attempt=attempt, elsewhere=address.elsewhere(response.url)
        ) from error
    return _unpacked(b"".join(parts), response.headers, limit)


async def read_error(response: HttpResponse, attempt: Attempt) -> bytes:
    """Read at most `MAX_ERROR` bytes of an error's body. If it breaks off, return what arrived."""
    body, until = b"", time.monotonic() + BODY_SECONDS
    try:
        async for chunk in response.body:
            body += chunk
            if len(body) >= MAX_ERROR:
                break
            _check_pace(len(body), until, attempt)
    except (TransportError, RegistryError):
        pass  # the status is enough
    return _unpacked(body[:MAX_ERROR], response.headers, MAX_ERROR)


def _unpacked(body: bytes, headers: Headers, limit: int) -> bytes:
    """Return a body without gzip (RFC 9110, section 8.4.1.3). Return it unchanged if it is not gzip, or too large unpacked.

    No document of a registry begins as gzip does. The header alone proves nothing: some servers send it in error.
    """
    if body[:2] != _GZIP or "content-encoding" not in headers:
        return body
    import zlib

    unpacker = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
    try:
        unpacked = unpacker.decompress(body, limit)
    except zlib.error:
        return body
    return unpacked if unpacker.eof else body


def _check_pace(size: int, until: float, attempt: Attempt) -> None:
    if time.monotonic() > until + size / BODY_RATE:
        raise RegistryError(Kind.TIMEOUT, "timed out: the response arrived too slowly", attempt=attempt)


def _is_unreachable(error: TransportError) -> bool:
    """Whether a host is unreachable. Blocked addresses and local limits do not count."""
    return isinstance(error, ConnectError | ConnectTimeout) and not isinstance(
        error, InternalAddress | TooManyOpenFiles
    )


def _path(target: str, asked: str) -> str:
    """Return the path of a request without its query. If it comes from a redirect, make it safe to show."""
    path = target.partition("?")[0]
    return path if target == asked else clean(path)
