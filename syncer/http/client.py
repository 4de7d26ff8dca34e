"""`RegistryClient`: sends a request to one registry, with its token, within its limits, and tries again.

Everything that speaks the protocol goes through `send` (a whole answer) or `open` (a body that is streamed).
"""

import re
import time
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import cache
from typing import Any
from urllib.parse import urlsplit

import httpx
import msgspec

from syncer import __version__
from syncer.accounts.settings import Account
from syncer.errors import Kind, RegistryError
from syncer.events import Observer, QuotaLow, RateLimitSeen, RequestRetried, RequestSent
from syncer.http import failures
from syncer.http.address import Address
from syncer.http.auth import Authenticator, Scopes
from syncer.http.challenge import Challenge, parse_challenges
from syncer.http.limits import HostLimits
from syncer.http.retry import Reason, with_retries
from syncer.http.wire import RequestBody

MAX_BODY = 16 * 1024 * 1024
"""Bytes of an answer that is read whole: more than any manifest or page of tags."""
MAX_REDIRECTS = 5
USER_AGENT = f"image-syncer/{__version__}"
_QUOTA = re.compile(r"\s*(\d{1,9})\s*(?:;\s*w=(\d{1,8}))?", re.ASCII)
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_WITH_BODY = frozenset({"POST", "PUT", "PATCH"})


class Answer(msgspec.Struct, frozen=True):
    """An answer that was read whole. `url` is where it came from, redirects followed."""

    status: int
    headers: httpx.Headers
    body: bytes
    url: str


class _Metered(httpx.AsyncByteStream):
    """A response body that comes no faster than it may."""

    def __init__(
        self,
        stream: httpx.AsyncByteStream,
        metered: Callable[[AsyncIterable[bytes]], AsyncGenerator[bytes]],
    ) -> None:
        self._stream = stream
        self._metered = metered

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._metered(self._stream)

    async def aclose(self) -> None:
        await self._stream.aclose()


@cache
def _origin(url: str) -> httpx.URL:
    return httpx.URL(url)


class RegistryClient:
    """Requests to one registry in one account's name."""

    def __init__(
        self,
        address: Address,
        account: Account | None,
        *,
        transport: httpx.AsyncBaseTransport,
        limits: HostLimits,
        observer: Observer,
    ) -> None:
        self.address = address
        self.account = account
        self._transport = transport
        self.limits = limits
        self._observer = observer
        self._auth = Authenticator(
            address.host,
            account,
            fetch=self._fetch_token,
            challenge_of_ping=self._challenge_of_ping,
            secure=lambda: address.secure,
        )

    @property
    def host(self) -> str:
        return self.address.host

    async def send(
        self,
        method: str,
        target: str,
        *,
        endpoint: str,
        scopes: Scopes,
        what: str,
        headers: dict[str, str] | None = None,
        content: bytes | AsyncGenerator[bytes] | None = None,
        ok: frozenset[int] = frozenset({200}),
        retry: bool = True,
        read_seconds: float | None = None,
        prewarm: int = 0,
    ) -> Answer:
        """Send a request and read the answer whole.

        `target` is a path behind the registry's address, or an absolute URL that the registry gave. `endpoint`
        is the contract's word for metrics, `what` names the thing for error texts ("manifest 1.27 of …").
        Statuses in `ok` are answers; anything else raises `RegistryError`, after further tries where they may
        help and `retry` allows it (a streamed `content` can be sent only once). `read_seconds` is how long the
        registry may be silent, where that is longer than usual. `prewarm` is how many requests are likely to
        follow the answer at once: connections for them are opened meanwhile.
        """

        async def attempt() -> Answer:
            response = await self._request(
                method,
                target,
                endpoint=endpoint,
                scopes=scopes,
                what=what,
                headers=headers,
                content=content,
                ok=ok,
                read_seconds=read_seconds,
                prewarm=prewarm,
            )
            try:
                body = await self._read(response, what)
            finally:
                await self._close(response)
            return Answer(response.status_code, response.headers, body, response.extensions["url"])

        return await (with_retries(attempt, on_retry=self.tell_retry) if retry else attempt())

    @asynccontextmanager
    async def open(
        self,
        target: str,
        *,
        endpoint: str,
        scopes: Scopes,
        what: str,
        headers: dict[str, str] | None = None,
        ok: frozenset[int] = frozenset({200}),
        retry: bool = True,
    ) -> AsyncIterator[httpx.Response]:
        """GET something whose body is streamed; opening is tried again, a body that breaks off is the caller's."""

        async def attempt() -> httpx.Response:
            return await self._request(
                "GET",
                target,
                endpoint=endpoint,
                scopes=scopes,
                what=what,
                headers=headers,
                content=None,
                ok=ok,
            )

        response = await (with_retries(attempt, on_retry=self.tell_retry) if retry else attempt())
        try:
            yield response
        finally:
            await self._close(response)

    async def _request(
        self,
        method: str,
        target: str,
        *,
        endpoint: str,
        scopes: Scopes,
        what: str,
        headers: dict[str, str] | None,
        content: bytes | AsyncGenerator[bytes] | None,
        ok: frozenset[int],
        read_seconds: float | None = None,
        prewarm: int = 0,
    ) -> httpx.Response:
        """One try: token, limit, redirects. An answer whose status is in `ok`, to be given to `_close` in the end.

        Raises `RegistryError` for any other.
        """
        url = target if "://" in target else await self.address.base(self._probe) + target
        stream = method == "GET" and endpoint == "blob"
        redirects = 0
        refreshed = outdated = False
        while True:
            own = self.address.is_own(url)
            # Credentials go to the registry that they are for, and never along to another host.
            authorization = await self._auth.authorization(scopes) if own else None
            sent = {**headers} if headers else {}
            if authorization:
                sent.setdefault("Authorization", authorization)
            self._refuse_while_down(f"{method} {what}")
            sent_at = await self.limits.acquire(stream=stream)
            try:
                response = await self._exchange(
                    method,
                    url,
                    sent,
                    content,
                    endpoint=endpoint,
                    what=what,
                    own=own,
                    read_seconds=read_seconds,
                    prewarm=prewarm,
                )
            except BaseException:
                self.limits.release(stream=stream)
                raise
            response.extensions["stream"] = stream
            status = response.status_code
            # A 401 that counts as an answer does so only when our token is not the reason.
            unproven = status == 401 and own and not refreshed
            if status in ok and not unproven:
                return response
            try:
                body = await self._read(response, what)
            finally:
                await self._close(response)
            if unproven:
                refreshed = True
                outdated = await self._auth.challenged(response.headers, scopes, authorization)
                if outdated and authorization is not None:
                    self.tell_retry("token", 0.0)
                # A body that was streamed is gone: whoever sent it begins anew, with a fresh token.
                if (outdated or status in ok) and (content is None or isinstance(content, bytes)):
                    outdated = False
                    continue
            location = response.headers.get("location")
            if status in _REDIRECTS and location and method in {"GET", "HEAD"} and redirects < MAX_REDIRECTS:
                redirects += 1
                url = self._redirected(url, location, endpoint)
                continue
            error = failures.from_answer(
                status,
                response.headers,
                body,
                registry=self.host,
                attempt=f"{method} {what}",
                account=self._auth.current,
                elsewhere="" if own else urlsplit(url).netloc,
            )
            if outdated:
                error.permanent = False
            if error.kind is Kind.THROTTLED:
                self.limits.congested(sent_at)
                if error.retry_after:
                    self.limits.hold(error.retry_after)
            raise error

    async def _close(self, response: httpx.Response) -> None:
        try:
            await response.aclose()
        finally:
            self.limits.release(answered=response.status_code < 400, stream=response.extensions["stream"])

    def _refuse_while_down(self, attempt: str) -> None:
        """Fail at once where connection after connection fails: others need not wait for a registry that is down."""
        if down := self.limits.down:
            raise RegistryError(
                Kind.CONNECTION,
                "cannot connect: several tries in a row have failed",
                registry=self.host,
                attempt=attempt,
                retry_after=down,
            )

    async def _exchange(
        self,
        method: str,
        url: str,
        headers: dict[str, str],
        content: bytes | AsyncGenerator[bytes] | None,
        *,
        endpoint: str,
        what: str,
        own: bool,
        read_seconds: float | None = None,
        prewarm: int = 0,
    ) -> httpx.Response:
        # Registries and their CDNs compress blobs when they are let: then digests would not match.
        sent = {"User-Agent": USER_AGENT, "Accept-Encoding": "identity", **headers}
        extensions: dict[str, Any] = {"ssl": self.address.tls(own=own)} if url.startswith("https:") else {}
        if read_seconds is not None:
            extensions["read_seconds"] = read_seconds
        if prewarm and own:
            extensions["prewarm"] = prewarm, self.limits.window
        if content is None:
            content = b""
        if isinstance(content, bytes):
            if content or method in _WITH_BODY:
                sent["Content-Length"] = str(len(content))
                await self.limits.spend(len(content))
        elif self.limits.metered:
            content = self._metered(content)
        start = time.perf_counter()
        status = 0
        # The URL's origin is parsed once; its path goes by as httpx' extension for that. Parsing every URL
        # would cost as much as the rest of a request.
        path = url.find("/", 8)
        if path < 0:
            url, path = f"{url}/", len(url)
        extensions["target"] = url[path:].encode("ascii")
        try:
            request = httpx.Request(
                method,
                _origin(url[:path]),
                headers=sent,
                stream=RequestBody(content),
                extensions=extensions,
            )
            response = await self._transport.handle_async_request(request)
            self.limits.connected(ok=True)
            status = response.status_code
        except httpx.InvalidURL as error:
            raise RegistryError(Kind.INVALID, f"impossible address: {error}", registry=self.host) from error
        except httpx.HTTPError as error:
            if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout) and own:
                self.limits.connected(ok=False)
            raise failures.from_transport(
                error, registry=self.host, attempt=f"{method} {what}", insecure=self.address.settings.insecure
            ) from error
        finally:
            self._observer.notify(
                RequestSent(
                    self.host,
                    method,
                    endpoint,
                    url[path:].partition("?")[0],
                    status,
                    time.perf_counter() - start,
                )
            )
        response.request = request
        response.extensions["url"] = url
        if self.limits.metered:
            assert isinstance(response.stream, httpx.AsyncByteStream)
            response.stream = _Metered(response.stream, self._metered)
        if "ratelimit-remaining" in response.headers:
            self._handle_quota(response.headers, counted=method == "GET" and endpoint == "manifest")
        return response

    async def _metered(self, chunks: AsyncIterable[bytes]) -> AsyncGenerator[bytes]:
        """The same chunks, at the registry's `bandwidth`."""
        async for chunk in chunks:
            await self.limits.spend(len(chunk))
            yield chunk

    def _handle_quota(self, headers: httpx.Headers, *, counted: bool) -> None:
        """Docker Hub says how many pulls are left; a pull is a GET of a manifest."""
        left = _QUOTA.match(headers["ratelimit-remaining"])
        if left is None:
            return
        account = self.account.name if self.account else "anonymous"
        remaining = int(left[1])
        self._observer.notify(RateLimitSeen(self.host, account, remaining))
        limit = _QUOTA.match(headers.get("ratelimit-limit", ""))
        if counted and limit is not None and limit[2]:
            wait = self.limits.quota(remaining, int(limit[1]), float(limit[2]))
            if wait:
                self._observer.notify(QuotaLow(self.host, account, remaining, wait))

    async def _read(self, response: httpx.Response, what: str) -> bytes:
        parts: list[bytes] = []
        size = 0
        try:
            assert isinstance(response.stream, httpx.AsyncByteStream)
            async for chunk in response.stream:
                size += len(chunk)
                if size > MAX_BODY:
                    raise RegistryError(
                        Kind.TOO_LARGE,
                        f"{what}: the answer is larger than {MAX_BODY} bytes",
                        registry=self.host,
                    )
                parts.append(chunk)
        except httpx.HTTPError as error:
            raise failures.from_transport(error, registry=self.host, attempt=f"read {what}") from error
        return b"".join(parts)

    def _redirected(self, url: str, location: str, endpoint: str) -> str:
        target = self.address.resolve(url, location)
        if url.startswith("https:") and target.startswith("http:") and endpoint != "blob":
            # A blob is checked by its digest whatever way it came; a manifest named by a tag is not.
            raise RegistryError(
                Kind.TLS, "the registry redirects from https to http: not followed", registry=self.host
            )
        return target

    async def _probe(self, base: str) -> httpx.Response:
        response = await self._exchange(
            "GET", f"{base}/v2/", {}, None, endpoint="ping", what=f"{base}/v2/", own=True
        )
        await response.aclose()
        return response

    async def _challenge_of_ping(self) -> list[Challenge]:
        response = await self._probe(await self.address.base(self._probe))
        return parse_challenges(response.headers.get_list("www-authenticate"))

    async def basic(self) -> dict[str, str]:
        """The account's user name and password as a header for `send`: what a registry's own API wants."""
        header = await self._auth.basic()
        return {"Authorization": header} if header else {}

    async def ping(self) -> None:
        """Ask `/v2/` with what credentials there are (distribution-spec, "Determining support"). Raises `RegistryError`."""
        await self.send("GET", "/v2/", endpoint="ping", scopes=(), what=f"/v2/ of {self.host}")

    async def _fetch_token(self, method: str, url: str, headers: dict[str, str], body: bytes | None) -> bytes:
        what = f"token for {self.host}"

        async def attempt() -> bytes:
            response = await self._exchange(
                method, url, headers, body, endpoint="token", what=what, own=self.address.is_own(url)
            )
            try:
                raw = await self._read(response, what)
            finally:
                await response.aclose()
            if response.status_code != 200:
                raise failures.from_answer(
                    response.status_code,
                    response.headers,
                    raw,
                    registry=self.host,
                    attempt=f"{method} {what} at {urlsplit(url).netloc}",
                    account=self._auth.current,
                )
            return raw

        return await with_retries(attempt, on_retry=self.tell_retry)

    def tell_retry(self, reason: Reason, wait: float) -> None:
        """Something is asked for again, after `wait` seconds."""
        self._observer.notify(RequestRetried(self.host, reason, wait))
