"""HTTP messages for tests of the transport and of its users."""

from collections.abc import Callable, Mapping
from typing import Any

import httpx

from syncer.http.transport import Headers, HttpRequest, HttpResponse, Transport, origin_of


def request_to(
    url: str,
    method: str = "GET",
    *,
    headers: Mapping[str, str] | None = None,
    body: Any = b"",
    **options: Any,
) -> HttpRequest:
    """Return a request for a URL. Bytes as its body get their `Content-Length`."""
    split = url.find("/", 8)
    path = url[split:] if split >= 0 else "/"
    fields = dict(headers or {})
    if isinstance(body, bytes) and (body or method in {"POST", "PUT", "PATCH"}):
        fields["Content-Length"] = str(len(body))
    return HttpRequest(
        method,
        *origin_of(url[:split] if split >= 0 else url),
        options.pop("target", path.encode()),
        fields,
        body,
        **options,
    )


def headers_of(fields: Mapping[str, str]) -> Headers:
    return Headers([(name.lower().encode(), value.encode()) for name, value in fields.items()])


class FakeTransport(Transport):
    """Returns what `handler` answers, as httpx's `MockTransport` does."""

    def __init__(self, handler: Callable[[httpx.Request], httpx.Response]) -> None:
        self._handler = handler

    async def send(self, request: HttpRequest) -> HttpResponse:
        url = f"{request.scheme}://{request.netloc}{request.target.decode()}"
        body = request.body if isinstance(request.body, bytes) else b""
        answer = self._handler(httpx.Request(request.method, url, headers=request.headers, content=body))
        assert isinstance(answer.stream, httpx.AsyncByteStream)
        return HttpResponse(answer.status_code, headers_of(answer.headers), answer.stream)

    async def aclose(self) -> None:
        """There is nothing to close."""
