"""`RegistryClient`: sends a request to one registry, with its token, within its limits, and tries again.

Everything that speaks the protocol goes through `send` (a whole answer) or `open` (a body that is streamed).
"""

import re
import time
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from functools import cache
from typing import Any
from urllib.parse import urlsplit

import httpx

from syncer import __version__
from syncer.accounts.settings import Account
from syncer.errors import Attempt, Kind, RegistryError, RetryReason
from syncer.events import Observer, QuotaLow, RateLimitSeen, RequestRetried, RequestSent
from syncer.http import failures
from syncer.http.address import Address
from syncer.http.auth import Authenticator
from syncer.http.limits import HostLimits
from syncer.http.request import Answer, Request, Scopes
from syncer.http.retry import with_retries
from syncer.http.standing import Standing
from syncer.http.wire import RequestBody
from syncer.untrusted import clean

MAX_BODY = 16 * 1024 * 1024
"""Bytes of an answer that is read whole: more than any manifest or page of tags."""
MAX_REDIRECTS = 5
USER_AGENT = f"image-syncer/{__version__}"
_QUOTA = re.compile(r"\s{0,8}(\d{1,9})\s{0,8}(?:;\s{0,8}w=(\d{1,8}))?", re.ASCII)
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_WITH_BODY = frozenset({"POST", "PUT", "PATCH"})


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


def _path(target: str, asked: str) -> str:
    """The path of a request, without its query. Where a stranger has named it, made safe to show."""
    path = target.partition("?")[0]
    return path if target == asked else clean(path)


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
        standing: Standing | None = None,
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
            ping=self._ping,
            secure=lambda: address.secure,
            standing=standing,
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
        counts_as_pull: bool = False,
        read_seconds: float | None = None,
        prewarm: int = 0,
    ) -> Answer:
        """Send a request and read the answer whole.

        `endpoint` is the contract's word for metrics, `what` names the thing for error texts ("manifest 1.27 of …").
        The other arguments are those of `Request`. A status that is not in `ok` raises `RegistryError`, after further
        tries where they may help and `retry` allows it (a streamed `content` can be sent only once).
        """
        request = Request(
            method,
            target,
            Attempt(self.host, method, endpoint, what),
            scopes,
            headers or {},
            content,
            ok,
            counts_as_pull=counts_as_pull,
            read_seconds=read_seconds,
            prewarm=prewarm,
        )

        async def attempt() -> Answer:
            response = await self._request(request)
            try:
                body = await self._read(response, request.attempt)
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
        """GET content that the caller checks by its digest, and stream its body.

        Opening is tried again; a body that breaks off is for the caller to resume.
        """
        request = Request(
            "GET",
            target,
            Attempt(self.host, "GET", endpoint, what),
            scopes,
            headers or {},
            ok=ok,
            stream=True,
            insecure_redirect=True,
        )

        async def attempt() -> httpx.Response:
            return await self._request(request)

        response = await (with_retries(attempt, on_retry=self.tell_retry) if retry else attempt())
        try:
            yield response
        finally:
            await self._close(response)

    async def _request(self, request: Request) -> httpx.Response:
        """One try: token, limit, redirects. An answer whose status is in `ok`, to be given to `_close` in the end.

        Raises `RegistryError` for any other.
        """
        url = request.target
        if "://" not in url:
            url = await self.address.base(self._ask_v2) + url
        redirects = 0
        refreshed = outdated = False
        while True:
            own = self.address.is_own(url)
            # Credentials go to the registry that they are for, and never along to another host.
            asks_as_account = own and "Authorization" not in request.headers
            authorization = await self._auth.authorization(request.scopes) if asks_as_account else None
            self._refuse_while_down(request.attempt)
            sent_at = await self.limits.acquire(stream=request.stream)
            try:
                response = await self._exchange(request, url, authorization, own=own)
            except BaseException:
                self.limits.release(stream=request.stream)
                raise
            response.extensions["stream"] = request.stream
            status = response.status_code
            # A 401 that counts as an answer does so only when our token is not the reason.
            unproven = status == 401 and asks_as_account and not refreshed
            if authorization is not None and status != 401:
                self._auth.accepted(authorization)
            if status in request.ok and not unproven:
                return response
            try:
                body = await self._read(response, request.attempt)
            finally:
                await self._close(response)
            if unproven:
                refreshed = True
                outdated = await self._auth.challenged(response.headers, request.scopes, authorization)
                if outdated and authorization is not None:
                    self.tell_retry("token", 0.0)
                # A body that was streamed is gone: whoever sent it begins anew, with a fresh token.
                if (outdated or status in request.ok) and request.repeatable:
                    outdated = False
                    continue
            location = response.headers.get("location")
            if (
                status in _REDIRECTS
                and location
                and request.method in {"GET", "HEAD"}
                and redirects < MAX_REDIRECTS
            ):
                redirects += 1
                url = self._redirected(request, url, location)
                continue
            error = self._failure(
                response, body, request.attempt, elsewhere="" if own else urlsplit(url).netloc
            )
            if outdated:
                error = error.with_changes(permanent=False)
            if asks_as_account and authorization is None and self.account is not None:
                error = error.with_changes(message=f"{error.message}, asked without an account")
            self._slow_down(error, sent_at)
            raise error

    def _slow_down(self, error: RegistryError, sent_at: float) -> None:
        if error.kind is Kind.THROTTLED:
            self.limits.congested(sent_at)
            if error.retry_after:
                self.limits.hold(error.retry_after)

    def _failure(
        self, response: httpx.Response, body: bytes, attempt: Attempt, *, elsewhere: str = ""
    ) -> RegistryError:
        return failures.from_answer(
            response.status_code,
            response.headers,
            body,
            attempt=attempt,
            account=self._auth.current,
            elsewhere=elsewhere,
        )

    async def _close(self, response: httpx.Response) -> None:
        try:
            await response.aclose()
        finally:
            self.limits.release(answered=response.status_code < 400, stream=response.extensions["stream"])

    def _refuse_while_down(self, attempt: Attempt) -> None:
        """Fail at once where connection after connection fails: others need not wait for a registry that is down."""
        if down := self.limits.down:
            last = self.limits.last_failure or RegistryError(Kind.CONNECTION, "cannot connect")
            raise last.with_changes(
                message=f"{last.message} (several tries in a row have failed)",
                attempt=attempt,
                retry_after=down,
            )

    async def _exchange(
        self, request: Request, url: str, authorization: str | None, *, own: bool
    ) -> httpx.Response:
        # Registries and their CDNs compress blobs when they are let: then digests would not match.
        sent = {"User-Agent": USER_AGENT, "Accept-Encoding": "identity", **request.headers}
        if authorization:
            sent.setdefault("Authorization", authorization)
        extensions: dict[str, Any] = {"ssl": self.address.tls(own=own)} if url.startswith("https:") else {}
        if request.read_seconds is not None:
            extensions["read_seconds"] = request.read_seconds
        if request.prewarm and own:
            extensions["prewarm"] = request.prewarm, self.limits.window
        content = request.content or b""
        if isinstance(content, bytes):
            if content or request.method in _WITH_BODY:
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
            message = httpx.Request(
                request.method,
                _origin(url[:path]),
                headers=sent,
                stream=RequestBody(content),
                extensions=extensions,
            )
            response = await self._transport.handle_async_request(message)
            self.limits.connected(ok=True)
            status = response.status_code
        except httpx.InvalidURL as error:
            raise RegistryError(
                Kind.INVALID, f"impossible address: {error}", attempt=request.attempt
            ) from error
        except httpx.HTTPError as error:
            failure = failures.from_transport(
                error, attempt=request.attempt, insecure=self.address.settings.insecure
            )
            if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout) and own:
                self.limits.connected(ok=False, failure=failure)
            raise failure from error
        finally:
            self._observer.notify(
                RequestSent(
                    self.host,
                    request.method,
                    request.attempt.endpoint,
                    _path(url[path:], request.target),
                    status,
                    time.perf_counter() - start,
                )
            )
        response.request = message
        response.extensions["url"] = url
        if self.limits.metered:
            assert isinstance(response.stream, httpx.AsyncByteStream)
            response.stream = _Metered(response.stream, self._metered)
        if "ratelimit-remaining" in response.headers:
            self._handle_quota(response.headers, counted=request.counts_as_pull)
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

    async def _read(self, response: httpx.Response, attempt: Attempt) -> bytes:
        parts: list[bytes] = []
        size = 0
        try:
            assert isinstance(response.stream, httpx.AsyncByteStream)
            async for chunk in response.stream:
                size += len(chunk)
                if size > MAX_BODY:
                    raise RegistryError(
                        Kind.TOO_LARGE,
                        f"the answer is larger than {MAX_BODY} bytes",
                        attempt=attempt,
                    )
                parts.append(chunk)
        except httpx.HTTPError as error:
            raise failures.from_transport(error, attempt=attempt) from error
        return b"".join(parts)

    def _redirected(self, request: Request, url: str, location: str) -> str:
        target = self.address.resolve(url, location)
        if url.startswith("https:") and target.startswith("http:") and not request.insecure_redirect:
            raise RegistryError(
                Kind.TLS, "the registry redirects from https to http: not followed", attempt=request.attempt
            )
        return target

    async def _ping(self, authorization: str | None) -> Answer:
        return await self._ask_v2(await self.address.base(self._ask_v2), authorization)

    async def _ask_v2(self, base: str, authorization: str | None = None) -> Answer:
        """What `/v2/` answers, whatever that is. Raises `RegistryError` where nothing answers."""
        url = f"{base}/v2/"
        attempt = Attempt(self.host, "GET", "ping", url)
        self._refuse_while_down(attempt)
        response = await self._exchange(Request("GET", url, attempt), url, authorization, own=True)
        try:
            body = await self._read(response, attempt)
        finally:
            await response.aclose()
        return Answer(response.status_code, response.headers, body, url)

    async def rights(self, scopes: Scopes) -> Mapping[str, frozenset[str]] | None:
        """The actions by repository that a token for `scopes` says it grants; None where nothing says so."""
        return await self._auth.rights(scopes)

    def forget_rights(self, repository: str) -> None:
        """What the account may do in a repository, or all below it, has changed: have new tokens."""
        self._auth.forget(repository)

    async def basic(self) -> dict[str, str]:
        """The account's user name and password as a header for `send`: what a registry's own API wants."""
        header = await self._auth.basic()
        return {"Authorization": header} if header else {}

    async def ping(self) -> None:
        """Ask `/v2/` with what credentials there are (distribution-spec, "Determining support"). Raises `RegistryError`."""
        await self.send("GET", "/v2/", endpoint="ping", scopes=(), what=f"/v2/ of {self.host}")

    async def _fetch_token(
        self, method: str, url: str, headers: dict[str, str], body: bytes | None
    ) -> Answer:
        subject = f"token for {self.host} at {clean(urlsplit(url).netloc)}"
        request = Request(
            method, url, Attempt(self.host, method, "token", subject), headers=headers, content=body
        )

        async def attempt() -> Answer:
            response = await self._exchange(request, url, None, own=self.address.is_own(url))
            try:
                raw = await self._read(response, request.attempt)
            finally:
                await response.aclose()
            if not 200 <= response.status_code < 400:
                raise self._failure(response, raw, request.attempt)
            return Answer(response.status_code, response.headers, raw, url)

        return await with_retries(attempt, on_retry=self.tell_retry)

    def tell_retry(self, reason: RetryReason, wait: float) -> None:
        """Something is asked for again, after `wait` seconds."""
        self._observer.notify(RequestRetried(self.host, reason, wait))
