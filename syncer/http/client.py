"""`RegistryClient` sends requests to one registry, with authentication, limits and retries.

All protocol code uses `send`, which reads the whole response, or `open`, which streams the body.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import TypeVar
from urllib.parse import urlsplit

from syncer.accounts.settings import Account
from syncer.errors import Attempt, Kind, RegistryError, RetryReason
from syncer.events import RequestRetried
from syncer.http import failures
from syncer.http.address import Address
from syncer.http.auth import Authenticator
from syncer.http.exchange import Exchange, read_body, read_error
from syncer.http.limits import HostLimits
from syncer.http.pace import TooSlow
from syncer.http.request import MAX_BODY, MAX_REDIRECTS, REDIRECTS, SAME_METHOD, Answer, Request, Scopes
from syncer.http.retry import with_retries
from syncer.http.splice import BodySplice, BodyStream, Check
from syncer.http.standing import Standing
from syncer.http.transport import HttpResponse, Transport
from syncer.http.transport_errors import TransportError
from syncer.http.wire import ResponseBody
from syncer.observers import Observer
from syncer.untrusted import clean

T = TypeVar("T")
MAX_TOKEN_ANSWER = 1024 * 1024
"""Maximum size of a token response in bytes."""
ANSWER_SECONDS = 600.0
"""Seconds until the response to a blob or manifest request: caches fetch the content first. `read_timeout` overrides it."""


class RegistryClient:
    """Sends requests to one registry with one account."""

    def __init__(
        self,
        address: Address,
        account: Account | None,
        *,
        transport: Transport,
        limits: HostLimits,
        observer: Observer,
        standing: Standing | None = None,
    ) -> None:
        self.address = address
        self.host = address.host
        self.account = account
        self.limits = limits
        self._observer = observer
        self._exchange = Exchange(address, account, transport=transport, limits=limits, observer=observer)
        self._auth = Authenticator(
            address.host,
            account,
            fetch=self._fetch_token,
            ping=self._ping,
            secure=lambda: address.secure,
            standing=standing,
        )

    @property
    def answer_seconds(self) -> float:
        """Seconds that the registry may take to respond to a blob or manifest request."""
        return self.address.settings.read_timeout or ANSWER_SECONDS

    async def send(
        self,
        method: str,
        target: str,
        *,
        endpoint: str,
        scopes: Scopes | None,
        what: str,
        headers: dict[str, str] | None = None,
        content: bytes | BodyStream | None = None,
        ok: frozenset[int] = frozenset({200}),
        retry: bool = True,
        counts_as_pull: bool = False,
        read_seconds: float | None = None,
        prewarm: int = 0,
        limit: int = MAX_BODY,
    ) -> Answer:
        """Send a request and read the whole response.

        `endpoint` is the value of the metric label. `what` is the subject in error messages ("manifest 1.27 of …").
        For the other arguments, see `Request`. Raises `RegistryError` if the status is not in `ok`. Retryable errors
        are retried if `retry` is set; set it to False for a streamed `content`, which can be sent only once.
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
            limit=limit,
        )

        async def attempt() -> Answer:
            response = await self._request(request)
            try:
                body = await read_body(response, request.attempt, request.limit, self.address)
            finally:
                await self.close(response)
            return Answer(response.status, response.headers, body, response.url)

        return await (with_retries(attempt, on_retry=self.tell_retry) if retry else attempt())

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
    ) -> HttpResponse:
        """GET content that the caller verifies by its digest, and streams. The caller passes the response to `close`.

        Only the request is retried. If the body breaks off, the caller resumes it.
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
            read_seconds=self.answer_seconds,
        )

        async def attempt() -> HttpResponse:
            return await self._request(request)

        return await (with_retries(attempt, on_retry=self.tell_retry) if retry else attempt())

    async def close(self, response: HttpResponse) -> None:
        """Close a response, and free its slot."""
        try:
            await response.body.aclose()
        finally:
            self.limits.release(answered=response.status < 400, stream=response.streamed)

    async def chunks(self, response: HttpResponse, attempt: Attempt) -> AsyncIterator[bytes]:
        """Yield the body of an opened response as it arrives. Raises `RegistryError` if it breaks off."""
        try:
            async for chunk in response.body:
                yield chunk
        except TransportError as error:
            failure = failures.from_transport(
                error, attempt=attempt, elsewhere=self.address.elsewhere(response.url)
            )
            if isinstance(error, TooSlow) and self.address.is_own(response.url):
                self.limits.too_slow(failure)
            raise failure from error
        self.limits.delivered()

    @staticmethod
    def splice(response: HttpResponse, length: int, check: Check) -> BodySplice | None:
        """Return the next bytes of an opened response for a thread to move. None if they must be read from `chunks`."""
        body = response.body
        return body.splice(length, check) if isinstance(body, ResponseBody) else None

    async def _request(self, request: Request) -> HttpResponse:
        """Send one attempt, with authorization, limits and redirects. The caller passes the response to `close`.

        Raises `RegistryError` if the status is not in `ok`.
        """
        url = request.target
        if url.startswith("/"):
            url = await self.address.base(self._ask_v2) + url
        redirects = 0
        refreshed = outdated = strict = False
        while True:
            own = self.address.is_own(url)
            # Send credentials to the registry only, never to a host that it redirects to.
            scopes = request.scopes if own and "Authorization" not in request.headers else None
            authorization = None if scopes is None else await self._auth.authorization(scopes)
            self._refuse_while_down(request.attempt)
            sent_at = await self.limits.acquire(stream=request.stream)
            try:
                guard = self.address.strict_guard() if strict else None
                response = await self._exchange.send(request, url, authorization, own=own, guard=guard)
            except BaseException:
                self.limits.release(stream=request.stream)
                raise
            response.streamed = request.stream
            status = response.status
            # Even if 401 is in `ok`, try a new token first: the 401 may mean that the token is outdated.
            unproven = status == 401 and scopes is not None and not refreshed
            if authorization is not None and status != 401:
                self._auth.accepted(authorization)
            if status in request.ok and not unproven:
                return response
            try:
                # Do not show the body of another host: it may be an internal host that the user cannot reach.
                body = await read_error(response, request.attempt) if own else b""
            finally:
                await self.close(response)
            if unproven and scopes is not None:
                refreshed = True
                outdated = await self._auth.challenged(response.headers, scopes, authorization)
                if outdated and authorization is not None:
                    self.tell_retry("token", 0.0)
                # A streamed body cannot be sent again here. The caller restarts the upload with the new token.
                if (outdated or status in request.ok) and request.repeatable:
                    outdated = False
                    continue
            location = response.headers.get("location")
            if (
                status in REDIRECTS
                and location
                and (request.method in {"GET", "HEAD"} or (status in SAME_METHOD and request.repeatable))
                and redirects < MAX_REDIRECTS
            ):
                redirects += 1
                strict = strict or not response.internal
                url = self.address.resolve(
                    url, location, downgrade=request.insecure_redirect, attempt=request.attempt
                )
                continue
            error = self._failure(response, body, request.attempt, elsewhere=self.address.elsewhere(url))
            if outdated:
                error = error.with_changes(permanent=False)
            if scopes is not None and authorization is None and self.account is not None:
                error = error.with_changes(message=f"{error.message}, requested without an account")
            self._slow_down(error, sent_at)
            raise error

    def _slow_down(self, error: RegistryError, sent_at: float) -> None:
        if error.kind is Kind.THROTTLED:
            self.limits.congested(sent_at)
            if error.retry_after is not None:
                self.limits.hold(error.retry_after)

    def _failure(
        self, response: HttpResponse, body: bytes, attempt: Attempt, *, elsewhere: str = ""
    ) -> RegistryError:
        return failures.from_answer(
            response.status,
            response.headers,
            body,
            attempt=attempt,
            account=self._auth.current,
            elsewhere=elsewhere,
        )

    def _refuse_while_down(self, attempt: Attempt) -> None:
        """Raise the last connection error without a new attempt while the registry counts as down."""
        last = self.limits.last_failure
        if last is not None and (down := self.limits.down):
            raise RegistryError(
                last.kind,
                f"{last.message} (several consecutive attempts failed)",
                attempt=attempt,
                permanent=last.permanent,
                retry_after=down,
                advice=last.advice,
            )

    async def _ping(self, authorization: str | None) -> Answer:
        return await self._ask_v2(await self.address.base(self._ask_v2), authorization)

    async def _ask_v2(self, base: str, authorization: str | None = None) -> Answer:
        """Request `/v2/` and return the response with any status. Raises `RegistryError` if there is no response."""
        url = f"{base}/v2/"
        attempt = Attempt(self.host, "GET", "ping", url)
        self._refuse_while_down(attempt)
        for redirects in range(MAX_REDIRECTS + 1):
            response = await self._exchange.send(Request("GET", url, attempt), url, authorization, own=True)
            try:
                body = await read_error(response, attempt)
            finally:
                await response.aclose()
            answer = Answer(response.status, response.headers, body, url)
            url = self._redirected(answer)
            # Elsewhere nobody is shown who we are.
            if redirects == MAX_REDIRECTS or not url.startswith(f"{base}/"):
                break
        return answer

    def _redirected(self, answer: Answer) -> str:
        """Where an answer leads to; empty if that is nowhere."""
        location = answer.headers.get("location")
        if answer.status not in REDIRECTS or not location:
            return ""
        try:
            return self.address.resolve(answer.url, location)
        except RegistryError:
            return ""

    async def rights(self, scopes: Scopes) -> Mapping[str, frozenset[str]] | None:
        """Return the actions per repository that the token for `scopes` grants. None if they are unknown."""
        return await self._auth.rights(scopes)

    def forget_rights(self, repository: str) -> None:
        """Drop the tokens for a repository and all repositories below it, because the account's permissions changed."""
        self._auth.forget(repository)

    async def basic(self) -> dict[str, str]:
        """Return the account's Basic header for `send`, as vendor APIs of registries require it."""
        header = await self._auth.basic()
        return {"Authorization": header} if header else {}

    async def ping(self) -> None:
        """Request `/v2/` with the account (distribution-spec, "Determining Support"). Raises `RegistryError`."""
        await self.send("GET", "/v2/", endpoint="ping", scopes=(), what=f"/v2/ of {self.host}")

    async def _fetch_token(
        self, method: str, url: str, headers: dict[str, str], body: bytes | None
    ) -> Answer:
        url = self.address.resolve(await self.address.base(self._ask_v2), url)
        subject = f"token for {self.host} at {clean(urlsplit(url).netloc)}"
        request = Request(
            method, url, Attempt(self.host, method, "token", subject), headers=headers, content=body
        )

        async def attempt() -> Answer:
            response = await self._exchange.send(request, url, own=self.address.is_own(url))
            granted = 200 <= response.status < 400
            try:
                if granted:
                    raw = await read_body(response, request.attempt, MAX_TOKEN_ANSWER, self.address)
                else:
                    raw = _words_of_service(await read_error(response, request.attempt))
            finally:
                await response.aclose()
            if not granted:
                raise self._failure(response, raw, request.attempt)
            return Answer(response.status, response.headers, raw, url)

        return await with_retries(attempt, on_retry=self.tell_retry)

    async def with_retries(self, attempt: Callable[[], Awaitable[T]]) -> T:
        """Call `attempt` with the retries of `send`. Use it if more than one request must be repeated."""
        return await with_retries(attempt, on_retry=self.tell_retry)

    def tell_retry(self, reason: RetryReason, wait: float) -> None:
        """Notify the observer that a request is retried after `wait` seconds."""
        self._observer.notify(RequestRetried(self.host, reason, wait))


def _words_of_service(body: bytes) -> bytes:
    """Return the body of a token service's error if it is a JSON object, else nothing: it may be any web page."""
    return body if body.lstrip()[:1] == b"{" else b""
